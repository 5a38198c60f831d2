"""Hosts and the leases that they hold."""

from collections import OrderedDict
from typing import TYPE_CHECKING

from farm.core.batch import Batch
from farm.core.meter import Meter
from farm.model import State, lendable
from farm.ranges import RangeSet

if TYPE_CHECKING:
    from farm.core.port import Peer

__all__ = ["TROUBLE_CHARS_MAX", "Host", "Hosts", "Lease"]

TROUBLE_CHARS_MAX = 500
"""Of what a host says is wrong with it."""
LeaseKey = tuple[int, int]
"""``(epoch, lease)``."""


class Lease:
    """A host's expiring claim on the tasks ``[lo, hi)`` of a batch.

    ``left`` counts those that have not ended; ``started`` has the indices known to have begun.
    Of an adopted lease only the indices in ``adopted`` are its own. ``sent``: its host was told,
    or may have been.
    """

    __slots__ = (
        "adopted", "attempt", "batch", "hi", "host", "key", "left", "lo", "sent", "since",
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
        """What it counts as in its host's window."""
        return min(self.left, 1) if self.batch.packed else self.left

    def live_runs(self) -> list[tuple[int, int]]:
        """The runs of its tasks that it still holds: leased, and by this very attempt."""
        runs = [
            (lo, hi)
            for a, b in self.batch.runs(self.lo, self.hi, State.LEASED)
            for lo, hi, attempt in self.batch.attempt_runs(a, b)
            if attempt == self.attempt
        ]
        if self.adopted is None:
            return runs
        return [run for lo, hi in runs for run in self.adopted.overlap(lo, hi)]

    def live_in(self, lo: int, hi: int) -> list[tuple[int, int]]:
        """The parts of ``[lo, hi)`` that it still holds."""
        return [(max(a, lo), min(b, hi)) for a, b in self.live_runs() if max(a, lo) < min(b, hi)]


class Host:
    """What the coordinator knows of one agent.

    ``held`` counts the tasks of its leases; never more than ``window`` are assigned. ``waiting`` of
    them wait for others, and have lent their slots, of which it lends ``max_lent`` at most.
    """

    def __init__(self, name: str, instance: bytes, now: float) -> None:
        self.name = name
        self.instance = instance
        self.peer: Peer | None = None
        self.connection = -1
        self.slots = 1
        self.window = 0
        self.held = 0
        self.meter = Meter(now)
        self.waiting = 0
        self.max_lent = 0
        self.leases: dict[LeaseKey, Lease] = {}
        self.functions: set[bytes] = set()
        self.last_seen = now
        self.since = now
        self.unusable = ""
        self.trouble = ""  # why it wants nothing now, in its own words
        self.draining = False  # it was asked to finish what it has and leave
        self.leaving = False  # it does so, whoever asked
        self.welcomed = False
        self.joined_ref = 0
        self.facts: dict[str, object] = {}
        self.load: dict[str, float] = {}

    @property
    def room(self) -> int:
        """How many more tasks it may be given."""
        return 0 if self.draining or self.leaving else self._gap

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
            return self.room if short else min(self.room, self.slots - self.held)
        nested = sum(lease.units for lease in self.leases.values() if lease.batch.template.depth)
        lent = self.waiting - min(self.waiting, nested)
        return min(max(0, self.room - lent), self.room_at(depth))

    def room_at(self, depth: int) -> int:
        """How many tasks of this depth it may be given, on slots that are lent and on others."""
        return max(0, self._gap - max(0, self.waiting - lendable(self.max_lent, depth)))

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
        return 0 if self.waiting else max(0, min(self.room, self.slots - self.held))

    @property
    def surplus(self) -> int:
        """How many of its tasks wait there: more than it has slots, or wants at all."""
        return self.held - self.waiting - min(self.slots, self.window - self.waiting)


class Hosts:
    """All hosts by name, and those with room, in turn.

    ``over`` has those that hold more than they can run at once, ``lending`` those with room that
    also lend slots.
    """

    def __init__(self) -> None:
        self.all: dict[str, Host] = {}
        self.over: dict[str, Host] = {}
        self.lending: OrderedDict[str, Host] = OrderedDict()
        self._roomy: OrderedDict[str, Host] = OrderedDict()

    def update(self, host: Host) -> None:
        """Call after anything that changes a host's room, or what it holds."""
        here = self.all.get(host.name) is host
        if here and host.room:
            self._roomy.setdefault(host.name, host)
        else:
            self._roomy.pop(host.name, None)
        if here and host.lends:
            self.lending.setdefault(host.name, host)
        elif self.lending:
            self.lending.pop(host.name, None)
        if here and host.surplus > 0 and host.welcomed and host.peer is not None:
            self.over.setdefault(host.name, host)
        else:
            self.over.pop(host.name, None)

    def idle(self) -> list[Host]:
        """Those with a free slot of their own."""
        return [host for host in self._roomy.values() if host.free]

    def pick(self, depth: int, *, short: bool) -> Host | None:
        """A host for the next task, in turn: one with a free slot, else, if short, with room."""
        for name, host in self._roomy.items():
            if host.room_for(depth, short=False) if host.waiting else host.held < host.slots:
                self._roomy.move_to_end(name)
                return host
        if short:
            for name, host in self._roomy.items():
                if not host.waiting:
                    self._roomy.move_to_end(name)
                    return host
        return None

    def pick_lent(self, batch: Batch, depth: int) -> Host | None:
        """A host, in turn, that has a slot for tasks of this depth while it lends some."""
        for name, host in self.lending.items():
            if host.room_at(depth) and host.takes(batch):
                self.lending.move_to_end(name)
                return host
        return None
