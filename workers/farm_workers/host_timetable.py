"""When something is next due of a host's slots.

A turn costs what it changes, and not what there is: of what has changed the time is looked at, and
of all slots only when it has come. It may have come for something that is over: that is a turn in
which nothing happens, and then it is known again.
"""

from farm_workers.host_lending import Lending
from farm_workers.host_roster import Roster
from farm_workers.host_slots import Slot

__all__ = ["Timetable"]

UNKNOWN = float("-inf")


class Timetable:
    """Times are monotonic seconds; ``patience`` is how long it may wait to be said who began."""

    def __init__(self, roster: Roster, lending: Lending) -> None:
        self._roster = roster
        self._lending = lending
        self._patience = 0.0
        self._due = UNKNOWN
        self._changed: dict[Slot, None] = {}  # since it was known

    def forget(self) -> None:
        """Anything may have changed."""
        self._due = UNKNOWN

    def changed(self, slot: Slot) -> None:
        """Something of this slot has; it is looked at when the time is asked for."""
        self._changed[slot] = None

    def due(self, patience: float) -> float:
        """Nothing is to be done before this."""
        if self._due == UNKNOWN or patience != self._patience or self._roster.lends:
            due = [slot.due(patience) for slot in self._roster.slots]
            self._patience = patience
            self._due = min(self._roster.retry_at, self._lending.next_deadline(), *due)
            self._changed.clear()
        elif self._changed:
            for slot in self._changed:
                if (at := slot.due(patience)) < self._due:
                    self._due = at
            self._changed.clear()
        return self._due
