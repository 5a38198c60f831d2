"""Everything that the coordinator knows, and the few operations that all of its parts share."""

from collections import Counter, deque
from collections.abc import Callable, Iterable

from farm.core.batch import Batch, Outcome
from farm.core.charges import Charges
from farm.core.delays import Delays
from farm.core.drafts import PASSING, Draft, Drafts
from farm.core.evidence import Evidence
from farm.core.functions import Functions
from farm.core.hosts import Host
from farm.core.jobs import Jobs
from farm.core.keys import Keys
from farm.core.nested import Nested
from farm.core.port import Peer, Port
from farm.core.queues import Queues
from farm.core.residence import Residence
from farm.core.rooms import Hosts
from farm.core.rows import Rows
from farm.core.sessions import Delivery, Session
from farm.core.settings import CoreSettings
from farm.core.throughput import Throughput
from farm.model import State
from farm.protocol.parts import Failure, Group, TaskRun
from farm.protocol.records import AttemptEnd, Record, SessionMark, Submitted

__all__ = ["Ledger"]

READY_SECONDS = 2.0
"""So long before tasks start their arguments are read from the store."""
ORDERS_MAX = 1_000
"""Orders that wait for the end of recovery."""


class Ledger:
    """The state of a coordinator.

    ``committed`` and ``last_ref`` are the greatest durable and the greatest given ``ref``; what
    must wait for a commit waits in ``_after``, in order. ``open_tasks`` and ``open_bytes`` are
    what admission has reserved; they are freed when the outcome is committed.
    """

    def __init__(
        self,
        settings: CoreSettings,
        port: Port,
        *,
        epoch: int,
        store: bytes,
        durable: bool,
        chance: Callable[[], float],
    ) -> None:
        self.settings = settings
        self.port = port
        self.epoch = epoch
        self.store = store
        self.durable = durable
        self.chance = chance
        self.wall_offset = 0.0
        self.started_at = 0.0
        self.counters: Counter[str] = Counter()
        self.sessions: dict[bytes, Session] = {}
        self.hosts = Hosts()
        self.resources = set(settings.resources)  # known by name, whoever is here
        self.peers: dict[Peer, Session | Host] = {}
        self.functions = Functions(port)
        self.evidence = Evidence(settings.evidence_bytes)
        self.jobs = Jobs()
        self.keys = Keys(settings)
        self.queues = Queues(settings.queues, settings.turn_seconds)
        self.nested = Nested()
        self.delays = Delays(State.SCHEDULED)
        self.expiries = Delays(State.QUEUED, State.SCHEDULED, State.LEASED)
        self.rows = Rows()
        self.drafts = Drafts(settings.draft_seconds)
        self.residence = Residence(settings, port, durable=durable)
        self.charges = Charges(settings.host_ttl)
        self.paged: dict[Session, None] = {}  # those that are to be told more, as they take it
        self.over: list[Batch] = []  # batches without a record of which all is taken
        self.open_tasks = 0
        self.open_bytes = 0
        self.throughput = Throughput()
        self.result_bytes = 0  # of all outcomes that are kept
        self.unread_bytes = 0  # of those that their owners have not taken
        self.held_bytes = 0  # of outcomes that are kept in memory for their readers
        self.inflight_bytes = 0  # of what is on the way to them
        self.kept: deque[Batch] = deque()  # taken, and kept for other readers, oldest first
        self.last_ref = 0
        self.committed = 0
        self.loaded = 0  # the last commit before this epoch
        self.leases_given = 0
        self.shared: Counter[str] = Counter()  # blobs that more than one need: how many more
        self.recovering = False
        self.holds_back = False  # the backlog, until the end of recovery is committed
        self.short = ""  # why the store should get no new work
        self._after: deque[tuple[int, Callable[[float], None]]] = deque()  # one per record
        self._when_known: list[Callable[[float], None]] = []  # a bounded few

    def wall(self, now: float) -> float:
        """Seconds since 1970 at a monotonic time; jumps of the wall clock do not show in it."""
        return now + self.wall_offset

    def monotonic(self, wall: float) -> float:
        """The monotonic time of a stored wall-clock time."""
        return wall - self.wall_offset

    def persist(self, record: Record) -> int:
        """Append a record to the journal; its ref. A store in memory has it then."""
        if self.drafts and type(record) not in PASSING:
            self.write_drafts(self.drafts.take_all())
        ref = self.last_ref = self.last_ref + 1
        self.port.persist(ref, record)
        if not self.durable:
            self.committed = ref
        return ref

    def mark(self, session: Session, now: float) -> list[int]:
        """Persist what a session has had accepted; the ref of the mark that this replaces."""
        before = session.mark_ref
        session.mark_ref = self.persist(
            SessionMark(
                session.id,
                session.secret,
                self.wall(now),
                self.drafts.left_out(session).runs(),
                session.connection,
                session.dropped.runs(),
                session.outlived.runs(),
                session.forgotten.runs(),
                session.owner,
            )
        )
        return [before] if before else []

    def share(self, blobs: list[str]) -> None:
        """Somebody else needs these blobs, too."""
        self.shared.update(blobs)

    def release(self, blobs: Iterable[str]) -> None:
        """One who needed these blobs does no more: those that nobody needs can go."""
        names: list[str] = []
        for name in sorted(blobs):
            if name not in self.shared:
                names.append(name)
            elif self.shared[name] > 1:
                self.shared[name] -= 1
            else:
                del self.shared[name]
        if names:
            self.port.release(names)

    def write(self, draft: Draft) -> None:
        """Write to the journal which tasks were accepted, now or when hosts have their work."""
        if not self.drafts.add(draft):
            self.write_drafts([draft])

    def write_fresh(self) -> None:
        """Hosts have what they have room for: write what was accepted, if it is not to wait."""
        self.write_drafts(self.drafts.take_fresh(idle=self.committed >= self.last_ref))

    def write_drafts(self, drafts: Iterable[Draft]) -> None:
        """Write what was accepted, now."""
        for draft in drafts:
            self._write(draft.session, draft.taken, draft.at)
            draft.written()

    def _write(self, session: Session, taken: list[tuple[Batch, Group]], now: float) -> None:
        """Those that start much later are written apart.

        A record has one owner. What has a key, and who has the same, stay in the order in which
        they came.
        """
        late = [one for one in taken if one[0].starts_at > now and self._is_apart(one[0])]
        soon = [one for one in taken if not self._is_apart(one[0])] if late else taken
        self._write_of_owners(session, soon, now)
        if late:
            self._write_of_owners(session, late, now)

    def _write_of_owners(
        self, session: Session, taken: list[tuple[Batch, Group]], now: float
    ) -> None:
        at, owner = now + self.wall_offset, session.owner
        while taken:
            part = [one for one in taken if one[0].owner == owner]
            if part:
                groups = [group for _, group in part]
                other = "" if owner == session.owner else owner
                row = self.rows.open(
                    self.persist(Submitted(session.id, at, groups, self.epoch, other))
                )
                for batch, _ in part:
                    batch.row = row
                    row.batches.append(batch)
                    row.count += batch.count
                    self.residence.written(batch)
            if len(part) == len(taken):
                return
            taken = [one for one in taken if one[0].owner != owner]
            owner = taken[0][0].owner

    def _is_apart(self, batch: Batch) -> bool:
        return self.residence.is_far(batch) and not (batch.keys or batch.same)

    def delay(self, batch: Batch, lo: int, hi: int, due: float) -> None:
        """Let scheduled tasks wait until a time, if they are not woken before to be made ready."""
        if due == batch.starts_at and self.residence.is_far(batch):
            due -= min(READY_SECONDS, self.settings.far_seconds / 2)
        self.delays.push(due, batch, lo, hi)

    def after_commit(self, action: Callable[[float], None], now: float) -> None:
        """Do something once all that was persisted so far is durable; at once if it is."""
        if self.committed >= self.last_ref:
            action(now)
        else:
            self._after.append((self.last_ref, action))

    def when_known(self, action: Callable[[float], None], now: float) -> bool:
        """Do something once it is known what runs; at once if it is. False if too much waits."""
        if not self.holds_back:
            action(now)
        elif len(self._when_known) < ORDERS_MAX:
            self._when_known.append(action)
        else:
            return False
        return True

    def now_known(self, now: float) -> None:
        """Recovery is over."""
        self.holds_back = False
        self.queues.wake_all()
        actions, self._when_known = self._when_known, []
        for action in actions:
            action(now)

    def resource_names(self) -> set[str]:
        """The resources, beside those of every farm, that hosts have, or had not long ago."""
        return self.resources | self.hosts.resource_names()

    def is_committed(self, batch: Batch) -> bool:
        """Whether a batch is durable, or need not be."""
        return not batch.durable if batch.row is None else batch.row.since <= self.committed

    def on_committed(self, ref: int, now: float) -> None:
        """Everything up to ``ref`` is durable."""
        self.committed = max(self.committed, ref)
        after = self._after
        while after and after[0][0] <= ref:
            after.popleft()[1](now)
        if self.drafts and self.committed >= self.last_ref:
            self.write_drafts(self.drafts.take_oldest())
        self.residence.on_committed(self.committed)

    def session_of(self, peer: Peer) -> Session | None:
        """The session that a connection belongs to, if it said HELLO."""
        found = self.peers.get(peer)
        return found if isinstance(found, Session) else None

    def host_of(self, peer: Peer) -> Host | None:
        """The host that a connection belongs to, if it said HELLO."""
        found = self.peers.get(peer)
        return found if isinstance(found, Host) else None

    def open(self, batch: Batch) -> None:
        """Reserve what a batch needs of the bounds, of the farm and of its queue."""
        self.residence.enter(batch)
        units, queue = batch.units, batch.queue
        if not self.open_tasks:
            self.throughput.begin(batch.at)
        if not queue.open_tasks:
            queue.throughput.begin(batch.at)
        session = batch.session
        if not session.open_tasks:
            session.throughput.begin(batch.at)
        session.open_tasks += units
        session.open_bytes += batch.size
        self.open_tasks += units
        self.open_bytes += batch.size
        if batch.template.parent is not None:
            self.nested.open(batch)
        queue.open_tasks += units
        queue.open_bytes += batch.size

    def close(self, batch: Batch, units: int, size: int) -> None:
        """Give back what tasks of a batch had reserved."""
        if batch.template.parent is not None and not batch.open:
            self.nested.close(batch)
        session, queue = batch.session, batch.queue
        session.open_tasks -= units
        session.open_bytes -= size
        self.open_tasks -= units
        self.open_bytes -= size
        queue.open_tasks -= units
        queue.open_bytes -= size

    def depth(self, batch: Batch) -> int:
        """How many tasks above those of a batch may wait for them."""
        if (parent := batch.template.parent) is None:
            return 0
        session = self.sessions.get(parent[0])
        for own, index, _ in session.batches.overlap(parent[1], 1) if session is not None else ():
            if own.states[index] < State.SUCCEEDED:
                return batch.template.depth
        return 0  # nobody waits any more

    def room(self) -> tuple[int, int]:
        """How many more tasks and payload bytes the farm admits."""
        return (
            max(0, self.settings.max_tasks - self.open_tasks),
            max(0, self.settings.max_bytes - self.open_bytes),
        )

    def keep_result(self, batch: Batch, size: int) -> None:
        """An outcome of this size joins, or leaves (negative), those that are kept of a batch."""
        batch.result_bytes += size
        self.result_bytes += size
        if batch.held:
            self.keys.bytes += size
        if size > 0:
            self.read(batch, -size)

    def read(self, batch: Batch, size: int) -> None:
        """So much less of a batch waits to be taken by its owner, or (negative) more."""
        batch.unread_bytes -= size
        self.unread_bytes -= size

    def page(self, session: Session, run: TaskRun) -> None:
        """Tell a reader of tasks that have ended when it has taken what waits for it."""
        session.pages.add(run)
        self.paged[session] = None

    def hold(self, session: Session, delivery: Delivery) -> None:
        """A delivery keeps its outcome in memory from now on."""
        if delivery.holds:
            return
        delivery.holds, outcome = True, delivery.outcome
        if delivery.waits:
            session.resident_bytes += outcome.inline_bytes
        self.held_bytes += 0 if outcome.holders else outcome.inline_bytes
        outcome.holders += 1

    def let_go(self, session: Session, delivery: Delivery) -> None:
        """It does so no more: unless another one does, the store is enough."""
        outcome = delivery.outcome
        if delivery.holds:
            delivery.holds = False
            if delivery.waits:
                session.resident_bytes -= outcome.inline_bytes
            outcome.holders -= 1
            self.held_bytes -= 0 if outcome.holders else outcome.inline_bytes
        if outcome.ref and not outcome.holders:
            outcome.result = None

    def settle(self, batch: Batch, lo: int, hi: int, outcome: Outcome | None = None) -> int:
        """The owner has the outcomes of ``[lo, hi)``; how many it had not before.

        ``outcome`` is the one they are part of. Without it ``unread_bytes`` stays as it is.
        """
        fresh = batch.settle(lo, hi)
        if not fresh:
            return 0
        if outcome is not None and (outcome.count == hi - lo or batch.is_taken(outcome)):
            self.read(batch, outcome.size)
        is_last = batch.settled == batch.count
        if is_last and batch.is_kept and batch.result_bytes and not batch.held:
            self.kept.append(batch)
        return fresh

    def free_keys(self, now: float) -> None:
        """Let go of the keys whose time is over, and of the outcomes that were kept for them."""
        for batch in self.keys.sweep(now):
            if batch.row is not None:
                self.rows.touched[batch.row] = None
            if batch.settled == batch.count and batch.is_kept and batch.result_bytes:
                self.kept.append(batch)

    def attempt_end(self, batch: Batch, lo: int, hi: int, why: Failure | None = None) -> AttemptEnd:
        """What the journal must know of tasks whose attempts differ from their batch's, alike.

        ``why``: how the last one has just ended, if that is evidence.
        """
        own = batch.diverged[lo]
        return AttemptEnd(
            batch.session.id,
            batch.first + lo,
            hi - lo,
            own.attempt,
            own.retries,
            own.losses,
            0.0 if own.due is None else self.wall(own.due),
            own.fence,
            why or own.failure,
            own.charged,
            own.tried,
        )

    def queue(self, batch: Batch, lo: int, hi: int, *, front: bool = False) -> None:
        """Queue whatever of ``[lo, hi)`` is in state QUEUED."""
        for a, b in batch.runs(lo, hi, State.QUEUED):
            self.queues.push(batch, a, b, front=front)
