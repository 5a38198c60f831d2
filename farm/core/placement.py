"""Choosing hosts for tasks, by credit."""

from typing import TYPE_CHECKING

from farm.core.batch import Batch
from farm.core.hosts import Host, Lease
from farm.core.ledger import Ledger
from farm.core.ready import Entry
from farm.core.reserving import Reserving
from farm.core.states import Event
from farm.model import State
from farm.protocol.messages import Assign, Function
from farm.protocol.parts import BATCH_BYTES, TASKS_PER_MESSAGE_MAX, Grant
from farm.protocol.records import Begun

if TYPE_CHECKING:
    from farm.core.queue import Queue
    from farm.core.sessions import Session

__all__ = ["Placement"]


class _Parcel:
    """What a host is given in this turn, not sent yet."""

    __slots__ = ("grants", "payloads", "size")

    def __init__(self) -> None:
        self.grants: list[Grant] = []
        self.payloads = 0
        self.size = 0


class Placement:
    """Gives queued tasks to hosts with room.

    A task known to be short may wait on a host behind others, up to the host's window; any other
    is given only to a host with a free slot, so that nothing waits behind something long. While
    the store fails, tasks whose submission is not committed are given to nobody: should that
    never be, nothing may have run. Tasks whose payloads are in the store alone step aside until
    those have been read. Tasks that need more than a slot are given to a host that has it free;
    others pass them while none has.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        seconds = ledger.settings.reserve_seconds
        self._reserving = Reserving(ledger.hosts, ledger.queues, seconds)

    @property
    def waits(self) -> bool:
        """Whether tasks wait for what no host had when they were looked at."""
        return not self._reserving.idle

    def place_at_once(self, batch: Batch, now: float) -> bool:
        """Lease a task that has just come, past the queues; whether that is done.

        It is if nothing waits that may go before it, and a slot is free: then whoever waits for it
        waits no longer than for that.
        """
        ledger, queue = self._ledger, batch.queue
        if batch.units > 1 or batch.needs is not None:
            return False
        if not (ledger.queues.idle and queue.plain and queue.ready.empty):
            return False
        host = ledger.hosts.pick(0, short=False)
        if host is None:
            return False
        expected = ledger.functions.expected(batch.function)
        lease, grant = self._grant(host, batch, (0, batch.count), 1, expected)
        if batch.runs_once:
            self._assign_once(lease, grant, now)
        else:
            self._send(host, [grant])
        self._count(lease, now)
        return True

    def on_due(self, now: float) -> None:
        """The time of delays has come, or nearly so."""
        ledger = self._ledger
        for batch, lo, hi in ledger.delays.pop_due(now):
            if batch.starts_at > now:
                ledger.residence.foresee(batch)
                ledger.delays.push(batch.starts_at, batch, lo, hi)
                continue
            for a, b in list(batch.runs(lo, hi, State.SCHEDULED)):
                batch.move(a, b, Event.DUE)
                ledger.queues.push(batch, a, b)

    def place(self, now: float) -> None:
        """Lease queued tasks, in order, until no host has room for the next.

        Slots that are lent are for tasks that others wait for, the deepest first, whoever's turn it
        is; what these leave is for anybody.
        """
        ledger, queues = self._ledger, self._ledger.queues
        parcels: dict[Host, _Parcel] = {}
        if queues.timed:
            queues.refresh(now)
        given = 0
        while True:
            if self.waits:
                self._reserving.prepare(now)
            given += self._place_heads(parcels, now)
            if not (ledger.hosts.reserved and self._reserving.is_outdated):
                break
        if ledger.hosts.lending or queues.lends:
            given += self._place_nested(parcels, now)
        if ledger.hosts.lending:
            given += self._place_heads(parcels, now, lent=True)
        residence = ledger.residence
        if residence.stored or residence.near:
            residence.look_ahead(given, queues.upcoming)
        for host, parcel in parcels.items():
            self._send(host, parcel.grants)

    def _place_heads(self, parcels: dict[Host, _Parcel], now: float, *, lent: bool = False) -> int:
        """In the order of queues, lanes and lines; ``lent``: on slots that are lent, too.

        Returns how many payload bytes hosts were given.
        """
        queues, holds_back, given = self._ledger.queues, self._ledger.holds_back, 0
        while (head := queues.head(now, holds_back=holds_back)) is not None:
            size = self._place_head(head, parcels, now, turn=True, lent=lent)
            if size is None:
                break
            given += size
        else:
            return given
        # What others need may be on hosts that are kept for them.
        while (head := queues.needy_head(now, holds_back=holds_back)) is not None:
            size = self._place_head(head, parcels, now, turn=False)
            if size is None:
                break
            given += size
        return given

    def _place_head(
        self,
        head: Entry,
        parcels: dict[Host, _Parcel],
        now: float,
        *,
        turn: bool,
        lent: bool = False,
    ) -> int | None:
        """Lease something of a run, if that may be; how many bytes, or None if nobody can go on.

        That is, if no host has room for what needs only a slot, or too many payloads are read.
        """
        ledger, queues = self._ledger, self._ledger.queues
        batch, lo, hi = head
        if batch.gone:
            queues.take(hi - lo)
            return 0
        if ledger.short and not ledger.is_committed(batch):
            queues.set_aside(hi - lo)
            return 0
        expected = ledger.functions.expected(batch.function)
        if batch.needs is not None:
            found = self._reserving.pick(batch.needs, now, turn=turn)
        else:
            found = self._find(batch, hi - lo, expected, lent=lent)
        if found is None:
            return None if batch.needs is None else 0
        if batch.stored:
            if not ledger.residence.call(batch):
                return None
            queues.park()
            return 0
        host, room = found
        attempt = 1
        if batch.diverged:
            lo, hi, attempt = next(batch.attempt_runs(lo, hi))
        hi, cost = self._cut(batch, lo, hi, room, expected, now)
        queues.take(hi - lo, cost)
        size = self._lease(host, batch, (lo, hi), attempt, expected, parcels, now)
        if batch.needs is not None:
            self._reserving.placed(batch.needs)
        return size

    def _find(
        self, batch: Batch, count: int, expected: float, *, lent: bool
    ) -> tuple[Host, int] | None:
        """A host for the first of so many tasks that need only a slot, and the room it has."""
        hosts = self._ledger.hosts
        depth = self._ledger.depth(batch) if batch.template.depth else 0
        if lent:
            host = hosts.pick_lent(batch, depth)
            return None if host is None else (host, host.room_at(depth))
        short = self.is_short(batch, count, expected)
        host = hosts.pick(depth, short=short)
        return None if host is None else (host, host.room_for(depth, short=short))

    def _place_nested(self, parcels: dict[Host, _Parcel], now: float) -> int:
        """Tasks that others may wait for, on whatever slots there are; the same.

        In a queue in which no more may run, those that wait have lent these tasks their places.
        """
        ledger, given = self._ledger, 0
        places = ledger.queues.lends
        reading: set[tuple[Session, Queue, int]] = set()  # lines whose next payloads are read
        for batch in ledger.nested.deepest():
            queue, depth = batch.queue, ledger.depth(batch)
            line = batch.session, queue, batch.template.priority
            if not depth or line in reading or (ledger.short and not ledger.is_committed(batch)):
                continue  # such as what nobody waits for any more, however deep it was
            if not (places or any(h.room_at(depth) for h in ledger.hosts.lending.values())):
                break  # nor for what is less deep
            while not queue.closed(now, holds_back=ledger.holds_back, nested=True):
                allowed = queue.allowed(batch, now, nested=True)
                host, room = self._find_nested(batch, depth, now)
                entry = queue.ready.first_of(batch) if allowed > 0 and host is not None else None
                if entry is None or host is None:
                    break
                if batch.stored:
                    ledger.residence.call(batch)
                    reading.add(line)
                    break
                lo, hi, attempt = next(batch.attempt_runs(*entry[1:]))
                if not batch.packed:
                    room = min(room, ledger.settings.grant_tasks, allowed)
                    hi = min(hi, lo + room)
                queue.ready.withdraw(batch, lo, hi)
                expected = ledger.functions.expected(batch.function)
                given += self._lease(host, batch, (lo, hi), attempt, expected, parcels, now)
        return given

    def _find_nested(self, batch: Batch, depth: int, now: float) -> tuple[Host | None, int]:
        """A host for a task that others may wait for, and the room it has.

        If only a place that is lent lets it run, then any host with room: it has no turn.
        """
        hosts = self._ledger.hosts
        host = hosts.pick_lent(batch, depth)
        if host is not None:
            return host, host.room_of(batch, depth)
        if batch.queue.lent and batch.queue.allowed(batch, now) < 1:
            if batch.needs is not None:
                return hosts.pick_for(batch.needs, now) or (None, 0)
            host = hosts.pick(depth, short=False)
        return host, 0 if host is None else host.room_for(depth, short=False)

    def _cut(
        self, batch: Batch, lo: int, hi: int, room: int, expected: float, now: float
    ) -> tuple[int, float]:
        """Where the next lease ends that begins at ``lo``, and what it counts in its turn."""
        queues = self._ledger.queues
        if batch.packed:
            return hi, queues.cost(expected * (hi - lo))
        each = queues.cost(expected)
        count = min(hi - lo, room, self._ledger.settings.grant_tasks)
        count = queues.cut(batch, count, each, now)
        return lo + count, each * count

    def is_short(self, batch: Batch, count: int, expected: float) -> bool:
        """Whether so many tasks, of which each should take so long, may wait behind others."""
        # What waits on a host counts as running: where that is limited, nothing does.
        if expected < 0 or not batch.queue.plain:
            return False
        cost = expected * count if batch.packed else expected
        return cost <= self._ledger.settings.short_seconds

    def _lease(
        self,
        host: Host,
        batch: Batch,
        run: tuple[int, int],
        attempt: int,
        expected: float,
        parcels: dict[Host, _Parcel],
        now: float,
    ) -> int:
        """Lease a run of tasks to a host; how many payload bytes that gives it."""
        lease, grant = self._grant(host, batch, run, attempt, expected)
        self._count(lease, now)
        if batch.runs_once:
            self._assign_once(lease, grant, now)
            return grant.size
        parcel = parcels.get(host)
        if parcel is None:
            parcel = parcels[host] = _Parcel()
        payloads = len(grant.payloads)
        if parcel.grants and (
            parcel.payloads + payloads > TASKS_PER_MESSAGE_MAX
            or parcel.size + grant.size > BATCH_BYTES
        ):
            self._send(host, parcel.grants)
            parcel = parcels[host] = _Parcel()
        parcel.grants.append(grant)
        parcel.payloads += payloads
        parcel.size += grant.size
        return grant.size

    def _grant(
        self, host: Host, batch: Batch, run: tuple[int, int], attempt: int, expected: float
    ) -> tuple[Lease, Grant]:
        """A lease of a run of tasks, and what its host is told of it; it has their function."""
        ledger = self._ledger
        lo, hi = run
        batch.move(lo, hi, Event.LEASE)
        ledger.leases_given += 1
        key = (ledger.epoch, ledger.leases_given)
        lease = Lease(key, host, batch, run, attempt)
        host.lease(lease)
        payloads = batch.payloads_of(lo, hi)
        template = batch.template
        if batch.function not in host.functions:
            self.on_need_function(host, batch.function)
        return lease, Grant(
            key[1],
            attempt,
            batch.session.id,
            batch.first + lo,
            hi - lo,
            batch.function,
            payloads,
            batch.size if batch.packed else sum(map(len, payloads)),
            batch.packed,
            batch.start + lo,
            batch.start + lo,
            expected,
            template.time_limit,
            batch.runs_once,
            template.soft_time_limit,
            template.memory_limit,
            template.retry_on,
            template.never_on,
            ledger.depth(batch) if template.depth else 0,
            template.resources,
        )

    def _count(self, lease: Lease, now: float) -> None:
        """A lease is given: its host holds its tasks."""
        host, batch, units = lease.host, lease.batch, lease.units
        lease.since = now
        host.hold(batch, units)
        host.meter.arrive(units, now)
        batch.queue.placed(batch, units, lease.attempt, now)
        self._ledger.hosts.update(host)

    def _assign_once(self, lease: Lease, grant: Grant, now: float) -> None:
        """Write down that the tasks may have begun, and only then let them."""
        ledger = self._ledger
        instance = lease.host.instance
        lease.sent = False
        record = Begun(grant.session, grant.first, grant.count, grant.attempt, instance)
        ref = ledger.persist(record)
        if lease.batch.row is not None:
            ledger.rows.mention_attempts(lease.batch.row, ref)
        connection = lease.host.connection
        ledger.after_commit(lambda _now: self._assign_now(lease, connection, grant), now)

    def _assign_now(self, lease: Lease, connection: int, grant: Grant) -> None:
        host = lease.host
        if host.peer is not None and host.connection == connection and lease.key in host.leases:
            lease.sent = True
            self._ledger.port.send(host.peer, Assign(self._ledger.epoch, [grant]))

    def _send(self, host: Host, grants: list[Grant]) -> None:
        if host.peer is not None:
            self._ledger.port.send(host.peer, Assign(self._ledger.epoch, grants))

    def on_need_function(self, host: Host, digest: bytes) -> None:
        """Send a host a function that it lacks."""
        data = self._ledger.functions.data(digest)
        if data is not None and host.peer is not None:
            host.functions.add(digest)
            name = self._ledger.functions.name(digest)
            self._ledger.port.send(host.peer, Function(digest, name, data))
