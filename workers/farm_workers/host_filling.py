"""Gives the workers of a host what waits, and takes back from one what another could begin."""

from math import ceil

from farm_workers.host_backlog import Backlog
from farm_workers.host_lease import Lease
from farm_workers.host_lending import Lending
from farm_workers.host_limits import Limits
from farm_workers.host_needs import HostNeeds
from farm_workers.host_pace import Pace, slice_tasks
from farm_workers.host_reports import Reports
from farm_workers.host_roster import Roster
from farm_workers.host_slices import HostPort
from farm_workers.host_slots import Slot, SlotState
from farm_workers.host_timetable import Timetable

__all__ = ["Filling"]

STEAL_SECONDS = 0.01
"""An idle worker takes over from a pipe with at least this much work in it."""


class Filling:
    """Cuts leases into slices, the size of which is for ``pace``, and hands them over."""

    def __init__(  # noqa: PLR0913 - the parts of a host
        self,
        port: HostPort,
        roster: Roster,
        backlog: Backlog,
        *,
        lending: Lending,
        limits: Limits,
        needs: HostNeeds,
        pace: Pace,
        reports: Reports,
        timetable: Timetable,
    ) -> None:
        self._port = port
        self._roster = roster
        self._backlog = backlog
        self._lending = lending
        self._limits = limits
        self._needs = needs
        self._pace = pace
        self._reports = reports
        self._timetable = timetable

    def fill(self, now: float, only: Slot | None = None) -> None:
        """Give every idle worker something, then short work to follow it.

        ``only``: it was done before, and nothing has changed but of this slot.
        """
        backlog, lending, needs = self._backlog, self._lending, self._needs
        if lending.is_strained:
            lending.fill(backlog, self._reports, needs, self._hand, now)
            return
        slots = self._roster.slots if only is None or not self._is_plain else [only]
        idle = needs.idle(lending.idle(slots)) if backlog.waiting else []
        while idle and (lease := backlog.head()) is not None:
            share = ceil(backlog.waiting / len(idle))
            if not lease.grant.resources:
                self._hand(idle.pop(0), lease, share, now)
                continue
            self._timetable.forget()  # workers may be replaced for it
            if (slot := needs.choose(lease.grant, idle, now)) is None:
                return  # nothing passes it: the coordinator knows that it fits
            self._hand(slot, lease, share, now)
            idle = needs.idle(lending.idle(slots))  # perhaps fewer by more than one
        if not backlog.waiting:
            self._steal()
        while backlog.waiting:
            roomy = [slot for slot in slots if slot.has_room()]
            for slot in roomy:
                found = backlog.head()
                if found is None or not self._pace.may_follow(found.grant):
                    return
                self._hand(slot, found, ceil(backlog.waiting / len(roomy)), now)
            if not roomy:
                return

    @property
    def _is_plain(self) -> bool:
        """Whether a worker that may begin something has nothing to do with any other.

        While a task waits for more than a slot, nothing passes it, and others are idle behind it.
        """
        if self._roster.lends or self._needs.given:
            return False
        return (head := self._backlog.head()) is None or not head.grant.resources

    def _hand(self, slot: Slot, lease: Lease, share: int, now: float) -> None:
        """Give a worker a slice of a lease, at most ``share`` tasks."""
        grant = lease.grant
        seconds = self._pace.expected(grant)
        alone = grant.alone or grant.limited
        count = 1 if alone else min(slice_tasks(seconds), share, self._limits.room(slot))
        if not slot.has_function(grant.function):
            name, data = self._backlog.function(grant.function)
            self._port.function(slot.number, grant.function, name, data)
        part = slot.take(lease, count, seconds, now)
        self._backlog.took(part.count)
        self._port.run(slot.number, part)
        self._limits.given(slot, now)
        self._timetable.changed(slot)

    def _steal(self) -> None:
        """If a worker is idle: take back what waits behind another, where that is worth it."""
        for slot in self._roster.slots:
            if (
                len(slot.pipe) > 1
                and slot.pipe[0].part.count == 1
                and slot.cost > STEAL_SECONDS
                and not slot.limited
            ):
                if self._needs.idle(self._lending.idle(self._roster.slots)):
                    self.take_back(slot)
                return

    def take_back(self, slot: Slot) -> None:
        """Take back what a worker has not begun; one that is being ended gives it back anyway."""
        if slot.state is SlotState.READY:
            slot.limited = True
            slot.limit = slot.next_ordinal
            self._port.limit(slot.number, slot.limit)
