"""A host as the core knows it, and the leases that it holds."""

from typing import TYPE_CHECKING

from farm.core.batch import Batch
from farm.core.meter import Meter
from farm.model import State, lendable
from farm.ranges import RangeSet

if TYPE_CHECKING:
    from farm.core.needs import Needs
    from farm.core.port import Peer

__all__ = ["TROUBLE_CHARS_MAX", "Host", "Lease"]

TROUBLE_CHARS_MAX = 500
"""Of what a host says is wrong with it."""
LeaseKey = tuple[int, int]
"""``(epoch, lease)``."""


class Lease:
    """A host's expiring claim on the tasks ``[lo, hi)`` of a batch.

    ``left`` counts those that have not ended; ``started`` has the indices known to have begun.
    Of an adopted lease only the indices in ``adopted`` are its own. ``sent``: its host was told,
    or may have been. ``lent``: so many of its tasks wait for others, as its host said last.
    """

    __slots__ = (
        "adopted", "attempt", "batch", "hi", "host", "key", "left", "lent", "lo", "sent", "since",
        "started",
    )  # fmt: skip

    def __init__(
        self, key: LeaseKey, host: "Host", batch: Batch, run: tuple[int, int], attempt: int
    ) -> None:
        self.key = key
        self.host = host
        self.batch = batch
        self.lo, self.hi = run
        self.attempt = attempt
        self.left = self.hi - self.lo
        self.started = RangeSet()
        self.adopted: RangeSet | None = None
        self.since = 0.0
        self.sent = True
        self.lent = 0

    def adopt(self, lo: int, hi: int) -> None:
        """These tasks are its own too."""
        if self.adopted is None:  # the lease is new, and this its first run
            self.adopted = RangeSet([(lo, hi)])
            return
        self.adopted.add(lo, hi)
        self.left += hi - lo
        self.lo, self.hi = min(self.lo, lo), max(self.hi, hi)

    @property
    def units(self) -> int:
        """How many tasks it counts as on its host."""
        return min(self.left, 1) if self.batch.packed else self.left

    @property
    def slots(self) -> int:
        """How many slots its tasks need."""
        needs = self.batch.needs
        return self.units if needs is None else self.units * needs.slots

    def live_runs(self) -> list[tuple[int, int]]:
        """The runs of its tasks that it still holds: leased, and by this very attempt."""
        return self.live_in(self.lo, self.hi)

    def live_in(self, lo: int, hi: int) -> list[tuple[int, int]]:
        """The parts of ``[lo, hi)`` that it still holds; of no others is it looked."""
        runs = [
            (c, d)
            for a, b in self.batch.runs(max(lo, self.lo), min(hi, self.hi), State.LEASED)
            for c, d, attempt in self.batch.attempt_runs(a, b)
            if attempt == self.attempt
        ]
        if self.adopted is None:
            return runs
        return [run for a, b in runs for run in self.adopted.overlap(a, b)]


class Host:
    """What the coordinator knows of one agent.

    ``held`` counts the slots that the ``tasks`` of its leases need; never more than ``window`` are
    assigned. ``waiting`` of the slots are lent, by tasks that wait for others; so many more workers
    than it has slots may have a task, ``max_lent`` at most.

    ``total`` is what it has beside
    slots, in thousandths, ``used`` what its leases need of that. It is reserved for tasks with the
    needs ``kept_for``, if for any; if it is their turn it ``keeps_slots``, too, now ``kept`` of
    them. ``owner`` is the name of its key, which is ``key`` now; empty where no keys are in use.
    """

    def __init__(self, name: str, instance: bytes, now: float, owner: str = "") -> None:
        self.name = name
        self.instance = instance
        self.owner = owner
        self.key = ""
        self.peer: Peer | None = None
        self.connection = -1
        self.slots = 1
        self.window = 0
        self.held = self.tasks = 0
        self.meter = Meter(now)
        self.noted = 0  # the last of its reports that it was told is durable
        self.waiting = 0
        self.waits: list[tuple[int, int, int]] = []  # of which leases, as in its reports
        self.max_lent = 0
        self.total: dict[str, int] = {}
        self.used: dict[str, int] = {}
        self.labels: frozenset[str] = frozenset()
        self.kept_for: Needs | None = None
        self.keeps_slots = False
        self.kept = 0
        self.leases: dict[LeaseKey, Lease] = {}
        self.functions: set[bytes] = set()
        self.last_seen = now
        self.since = now
        self.asked_at: float | None = None  # for a sign of life, as another wants its name
        self.unusable = ""
        self.trouble = ""  # why it wants nothing now, in its own words
        self.draining = False  # it was asked to finish what it has and leave
        self.leaving = False  # it does so, whoever asked
        self.welcomed = False
        self.joined_ref = 0
        self.facts: dict[str, object] = {}
        self.load: dict[str, float] = {}

    @property
    def is_open(self) -> bool:
        """Whether it may be given tasks in their turn."""
        return self.welcomed and not (
            self.peer is None or self.unusable or self.draining or self.leaving
        )

    @property
    def room(self) -> int:
        """How many more tasks it may be given that need nothing but a slot."""
        if not self.is_open:
            return 0
        room = self.window - self.held
        if self.kept:  # what waits behind others would keep the slots from ever being free
            room = min(self.window, self.slots + self.waiting) - self.held - self.kept
        return max(0, room)

    @property
    def _gap(self) -> int:
        if self.peer is None or self.unusable or not self.welcomed:
            return 0
        return max(0, self.window - self.held)

    @property
    def lends(self) -> bool:
        """Whether it has slots for tasks that others wait for."""
        return bool(self.waiting and self._gap)

    def room_for(self, depth: int, *, short: bool) -> int:
        """How many tasks it may be given in their turn; only ``short`` ones may wait there.

        The slots that are lent are no part of it: these are for tasks that others wait for.
        """
        if not self.waiting:
            return self.room if short else min(self.room, self.slots - self.held - self.kept)
        return min(max(0, self.room - self.lent), self.room_at(depth))

    def has_free(self, room: int) -> bool:
        """Whether a slot is free for a task in its turn, given its room; of some depth at least."""
        if not self.waiting:
            return self.held + self.kept < self.slots
        return room > self.lent

    @property
    def lent(self) -> int:
        """How many of the slots that are lent nobody has."""
        if not self.waiting:
            return 0
        nested = sum(lease.slots for lease in self.leases.values() if lease.batch.template.depth)
        return self.waiting - min(self.waiting, nested)

    def room_at(self, depth: int) -> int:
        """How many tasks of this depth it may be given, on slots that are lent and on others."""
        return max(0, min(self._gap, self._workers_for(depth)))

    def _workers_for(self, depth: int) -> int:
        """How many more workers may have a task if it is of this depth."""
        return self.window - self.waiting + lendable(self.max_lent, depth) - self.tasks

    def takes(self, batch: Batch) -> bool:
        """Whether it would begin such tasks: one that leaves only what its own wait for."""
        if not (self.draining or self.leaving):
            return True
        session, counter = batch.template.parent or (b"", 0)
        return any(
            own.session.id == session
            and own.first <= counter < own.stop
            and lease.live_in(counter - own.first, counter - own.first + 1)
            for lease in self.leases.values()
            for own in (lease.batch,)
        )

    @property
    def free(self) -> int:
        """How many more it could begin at once."""
        return 0 if self.waiting else max(0, self.room_for(0, short=False))

    @property
    def surplus(self) -> int:
        """How many of its tasks wait there: more than it has slots, or wants at all."""
        return self.held - self.waiting - min(self.slots, self.window - self.waiting)

    # ------------------------------------------------------------ what it holds

    def lease(self, lease: Lease) -> None:
        """It holds this lease from now on."""
        self.leases[lease.key] = lease
        if lease.batch.leases is None:
            lease.batch.leases = {lease: None}
        else:
            lease.batch.leases[lease] = None

    def end_lease(self, lease: Lease) -> None:
        """It holds this lease no more."""
        del self.leases[lease.key]
        of_batch = lease.batch.leases
        if of_batch is not None:
            del of_batch[lease]
            if not of_batch:
                lease.batch.leases = None

    # ------------------------------------------------------------ what tasks need

    def hold(self, batch: Batch, units: int) -> None:
        """It holds so many more tasks of a batch, or fewer (negative)."""
        needs = batch.needs
        self.tasks += units
        if needs is None:
            self.held += units
            return
        self.held += units * needs.slots
        for name, amount in needs.amounts:
            used = self.used.get(name, 0) + units * amount
            if used:
                self.used[name] = used
            else:
                del self.used[name]

    def spare(self, name: str) -> int:
        """How much it has of a resource that no lease needs, in thousandths."""
        return max(0, self.total.get(name, 0) - self.used.get(name, 0))

    def could_run(self, needs: "Needs") -> bool:
        """Whether it has all that a task needs, if nothing else ran here."""
        return (
            needs.slots <= self.slots
            and self.labels.issuperset(needs.labels)
            and all(self.total.get(name, 0) >= amount for name, amount in needs.amounts)
        )

    def lacks(self, needs: "Needs") -> float:
        """How much of what a task needs is in use, as a sum of shares; not of the slots."""
        return sum(max(0, amount - self.spare(name)) / amount for name, amount in needs.amounts)

    def fits(self, needs: "Needs") -> int:
        """How many tasks with these needs it may be given now: they would begin at once."""
        other = self.kept_for if self.kept_for != needs else None
        slots = min(self.window, self.slots + self.waiting) - self.held - self.lent
        slots -= self.kept if other else 0
        if self.waiting:  # who is waited for has a worker though all slots are taken, others none
            slots = min(slots, max(0, self._workers_for(0)) * needs.slots)
        return self._fits(needs, slots, other) if self.is_open else 0

    def room_of(self, batch: Batch, depth: int) -> int:
        """The same of a batch of this depth, on slots that are lent; nothing is kept from it."""
        if batch.needs is None:
            return self.room_at(depth)
        return max(0, min(self._fits(batch.needs, self._gap, None), self._workers_for(depth)))

    def _fits(self, needs: "Needs", slots: int, other: "Needs | None") -> int:
        """How many have so many slots, and leave what the others need."""
        if not self.labels.issuperset(needs.labels):
            return 0
        most = slots // needs.slots
        spared = dict(other.amounts) if other else {}
        for name, amount in needs.amounts:
            most = min(most, (self.spare(name) - spared.get(name, 0)) // amount)
        return max(0, most)

    def keep(self) -> None:
        """Keep slots for those whose turn it is, as soon as slots are all that is missing."""
        needs = self.kept_for if self.keeps_slots else None
        self.kept = 0 if needs is None or self.lacks(needs) else needs.slots
