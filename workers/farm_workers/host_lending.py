"""Slots that are lent: while a task waits for others, another worker runs in its place.

A task that stops waiting goes on at once. The host may then have one more at work than it has
slots, until one of them ends: as long as that is so, nothing begins.

No more than ``max_lent`` slots are lent, so tasks that wait could come to fill all that there is,
and what they wait for would never begin. Therefore a task may begin only while fewer workers have
one than its depth allows (``lendable``): each depth has a slot that those above it cannot take. The
deepest of all that wait, wherever it is, has taken none that its children could not have.
"""

from collections import Counter
from collections.abc import Callable
from math import ceil

from farm.model import lendable
from farm_workers.host_backlog import Backlog
from farm_workers.host_lease import Lease
from farm_workers.host_needs import HostNeeds, slots_of
from farm_workers.host_reports import Reports
from farm_workers.host_roster import Roster
from farm_workers.host_slices import HostPort, HostSettings
from farm_workers.host_slots import Slot, SlotState

__all__ = ["Lending", "State"]

NEVER = float("inf")
State = tuple[int, bool, list[tuple[int, int, int]]]
"""``waiting``, ``leaving`` and ``waits`` of a report."""
Hand = Callable[[Slot, Lease, int, float], None]
"""Gives a worker a slice of a lease, of so many tasks at most."""


class Lending:
    """Which tasks of a host wait for others, and what may begin meanwhile."""

    def __init__(self, settings: HostSettings, port: HostPort, roster: Roster) -> None:
        self._settings = settings
        self._port = port
        self._roster = roster
        self._spare_at = NEVER

    @property
    def waiting(self) -> int:
        """How many tasks have lent their slots."""
        return sum(slot.waiting for slot in self._roster.slots) if self._roster.lends else 0

    @property
    def lent(self) -> int:
        """How many slots those have lent: as many as they need."""
        roster = self._roster
        waiting = [s.pipe[0].lease.grant for s in roster.slots if s.waiting] if roster.lends else []
        return sum(map(slots_of, waiting))

    @property
    def counted(self) -> tuple[int, int]:
        """How many tasks wait as the coordinator counts them, and how many slots these have there.

        A packed task is one for it, however many workers have parts of it.
        """
        if not self._roster.lends:
            return 0, 0
        workers, slots = self._apart
        return self.waiting - workers, self.lent - slots

    @property
    def slots(self) -> int:
        """How many slots there are, with those that tasks have which wait."""
        return self._settings.slots + self.counted[1]

    @property
    def state(self) -> State:
        """What a report says: the slots that are lent, if only children may have them, whose."""
        if not self._roster.lends:
            return 0, self._roster.draining, []
        workers, slots = self._apart
        return max(0, self.lent - slots + workers), self._roster.draining, self._waits()

    def _waits(self) -> list[tuple[int, int, int]]:
        """How many tasks of each lease wait; a packed one if all that is left of it does."""
        found: Counter[tuple[int, int]] = Counter()
        goes_on = set()
        for slot in self._roster.slots:
            lease = slot.pipe[0].lease if slot.pipe else None
            if lease is not None and slot.waiting:
                found[lease.key] = 1 if lease.grant.packed else found[lease.key] + 1
            if lease is not None and lease.grant.packed and (lease.waiting or not slot.waiting):
                goes_on.add(lease.key)
        return sorted((*key, count) for key, count in found.items() if key not in goes_on)

    @property
    def free(self) -> int:
        """How many more tasks may be at work; negative, while what was lent is not given back."""
        busy = [s.pipe[0].lease.grant for s in self._roster.slots if s.pipe and not s.waiting]
        return self._settings.slots - sum(map(slots_of, busy))

    def waits(self, slot: Slot, ordinal: int, *, begins: bool) -> bool:
        """The item that a worker is at begins or ends to wait; whether it is there at all."""
        found = slot.find(ordinal) if slot.state is SlotState.READY else None
        if found is None or found[0] is not slot.pipe[0]:
            return False
        slot.waiting = begins
        self._roster.lends = True
        return True

    @property
    def _apart(self) -> tuple[int, int]:
        """How many workers have a part of a packed task beside another, and their slots."""
        seen: set[tuple[int, int]] = set()
        workers = slots = 0
        for slot in self._roster.slots:
            lease = slot.pipe[0].lease if slot.pipe else None
            if lease is not None and lease.grant.packed and lease.key in seen:
                workers += 1
                slots += slots_of(lease.grant)
            elif lease is not None:
                seen.add(lease.key)
        return workers, slots

    @property
    def is_strained(self) -> bool:
        """Whether slots are lent, or more tasks at work than there are slots."""
        return self._roster.lends and (self.waiting > 0 or self.free < 0)

    def may_begin(self, depth: int) -> bool:
        """Whether the depth of a task lets it have one of the slots."""
        busy = sum(bool(slot.pipe) for slot in self._roster.slots)
        return busy < self._settings.slots + lendable(self._settings.max_lent, depth)

    def idle(self, slots: list[Slot]) -> list[Slot]:
        """Those of these that may begin something, as long as the host is not strained."""
        found = [slot for slot in slots if slot.idle]
        return found[: self.free] if self._roster.lends else found

    def fill(
        self, backlog: Backlog, reports: Reports, needs: HostNeeds, hand: Hand, now: float
    ) -> None:
        """Give each worker that may begin something one thing, the deepest first.

        What would have to wait here goes back: it would take the room of what is deeper.
        """
        idle = [slot for slot in self._roster.slots if slot.idle]
        while idle and (free := self.free) > 0 and (lease := backlog.deepest()) is not None:
            if not self.may_begin(lease.grant.depth):
                break
            share = ceil(backlog.waiting / min(len(idle), free))
            slot = needs.choose(lease.grant, idle, now) if lease.grant.resources else idle[0]
            if slot is None:
                break
            idle.remove(slot)
            hand(slot, lease, share, now)
        backlog.keep(self._start(backlog, now), reports.give_back)

    def _start(self, backlog: Backlog, now: float) -> int:
        """Start workers for what may begin and has none; how many tasks wait for one."""
        roster, lease = self._roster, backlog.deepest()
        if lease is None:
            return 0
        starting = sum(slot.state is SlotState.STARTING for slot in roster.slots)
        busy = sum(bool(slot.pipe) for slot in roster.slots)
        most = self._settings.slots + lendable(self._settings.max_lent, lease.grant.depth)
        wanted = min(self.free, backlog.units, most - busy)
        live = roster.census()[0]
        while starting < wanted and roster.may_start and live < most:
            roster.lend(now)
            starting += 1
            live += 1
        return min(wanted, starting)

    # ------------------------------------------------------------ afterwards

    def tick(self, now: float) -> None:
        """Let workers go that are not needed for a while, one at a time."""
        roster, settings = self._roster, self._settings
        if not roster.lends:
            return
        live = roster.census()[0]
        if live <= settings.slots + self.waiting:
            self._spare_at = NEVER
            roster.lends = bool(self.waiting) or len(roster.slots) > settings.slots
            return
        self._spare_at = min(self._spare_at, now + settings.spare_seconds)
        if now >= self._spare_at:
            self._spare_at = now + settings.spare_seconds
            spare = [slot for slot in roster.slots[settings.slots :] if slot.idle]
            if spare:
                roster.retire(spare[-1], now)

    def next_deadline(self) -> float:
        """When ``tick`` is next needed."""
        return self._spare_at if self._roster.lends else NEVER
