"""Nominal times of one schedule that are due, found and decided some at a time.

Mostly it is one. After an absence it may be very many; what becomes of each then depends on all of
them, so first all are found, and then all are decided: a slice of it at a time, between which other
schedules have their turn. What is decided is never looked at again, and what is not is found anew
after a restart.
"""

from array import array
from collections.abc import Iterator
from math import floor
from typing import NamedTuple

from farm_scheduler.core.deciding import Fate, Outlook, Paused, fate_of, look_ahead
from farm_scheduler.core.schedule import Schedule

__all__ = ["LOOK_MAX", "OLD_MAX", "SLICE", "Leap", "Missed"]

SLICE = 100
"""Nominal times that are found, or decided, at a time: a few milliseconds of work."""
LOOK_MAX = 100_000
"""Nominal times of one schedule that are decided together; of more, the oldest are skipped."""
OLD_MAX = 1000
"""Nominal times before the catch-up window that get a row each; the rest get one for all."""


class Leap(NamedTuple):
    """All nominal times in ``[nominal, until)``, which are too old."""

    nominal: int
    until: int


class Missed:
    """``at``: the first nominal time that is not found yet, or None if there is none.

    ``is_found``: whether all that is due was found. ``left``: how many of it are not decided.
    """

    __slots__ = ("_began", "_leap", "_outlook", "_schedule", "_taken", "_times", "at")

    def __init__(self, schedule: Schedule, at: int, now: float) -> None:
        self.at: int | None = at
        self._began = now  # how late a fire is does not hang on how long it takes to find them
        self._schedule = schedule
        self._times = array("q")
        self._taken = 0
        self._leap: Leap | None = None
        self._outlook: Outlook | None = None

    @property
    def is_found(self) -> bool:
        """Whether all that was due was found, and it can be decided."""
        return self._outlook is not None

    @property
    def left(self) -> int:
        """How many were found that are not decided."""
        return len(self._times) - self._taken

    def following(self) -> int | None:
        """The first nominal time that is not decided."""
        return self._times[self._taken] if self.left else self.at

    def find(self, now: float, paused: Paused) -> int:
        """Find some more of what is due; how many."""
        schedule, found = self._schedule, len(self._times)
        timing, latest = schedule.timing, now - schedule.offset
        most = min(found + SLICE, OLD_MAX + LOOK_MAX)
        while self.at is not None and self.at <= latest and len(self._times) < most:
            if len(self._times) == OLD_MAX and self._leaps():
                continue
            self._times.append(self.at)
            self.at = timing.next(self.at)
        if self.at is None or self.at > latest:
            self._outlook = look_ahead(schedule, self._times, self._began, paused)
        elif len(self._times) == OLD_MAX + LOOK_MAX:
            flooded = f"{LOOK_MAX} later ones were missed, too"
            self._outlook = Outlook(self._began, None, flooded)
        return len(self._times) - found

    def _leaps(self) -> bool:
        """Go past what is too old, if as much as may be of that was found."""
        until = floor(self._began - self._schedule.offset - self._schedule.window)
        if self._leap is not None or self.at is None or self.at >= until:
            return False
        self._leap = Leap(self.at, until)
        self.at = self._schedule.timing.next(until - 1)
        return True

    def decide(self, paused: Paused) -> Iterator[tuple[int | Leap, Fate]]:
        """What becomes of the next of them, ascending; each is behind when it was asked for."""
        if self._outlook is None:
            return
        schedule = self._schedule
        for _ in range(min(SLICE, self.left)):
            nominal = self._times[self._taken]
            self._taken += 1
            yield nominal, fate_of(schedule, nominal, self._outlook, paused)
            if self._taken == OLD_MAX and self._leap is not None:
                yield self._leap, Fate("too old", "one row for all until then")
