"""The coordinator as a state machine: one call per message, outputs through a port."""

from collections.abc import Callable, Collection
from typing import Any

from farm.core.admission import Admission
from farm.core.blobs import blob_names
from farm.core.cancels import Cancels
from farm.core.connections import Connections
from farm.core.dead import DeadTasks
from farm.core.delivery import Deliveries
from farm.core.duplicates import Duplicates
from farm.core.endings import Endings
from farm.core.explaining import Explaining
from farm.core.following import Following
from farm.core.history import History
from farm.core.hosts import Host
from farm.core.inquiries import Inquiries
from farm.core.ledger import Ledger
from farm.core.loading import Loading
from farm.core.lookups import Lookups
from farm.core.placement import Placement
from farm.core.port import Peer, Port
from farm.core.queries import Queries
from farm.core.questions import Questions
from farm.core.queue_orders import QueueOrders
from farm.core.recalls import Recalls
from farm.core.recovery import Recovery
from farm.core.reports import Reports
from farm.core.retention import Retention
from farm.core.rights import Rights
from farm.core.sessions import Session
from farm.core.settings import CoreSettings
from farm.core.states import Event
from farm.core.upkeep import Upkeep
from farm.core.watchdog import Watchdog
from farm.model import Ending, State
from farm.protocol.codec import entries_of
from farm.protocol.messages import (
    Attach,
    Beat,
    Bye,
    Cancel,
    ClientHello,
    DrainHost,
    FromClient,
    FromHost,
    Function,
    HostHello,
    JobOpen,
    JobSeal,
    NeedFunction,
    Query,
    Rejected,
    Report,
    Submit,
    Taken,
    Told,
)
from farm.protocol.records import Record

__all__ = ["Core"]

NEVER = float("inf")
EXPIRE_AGAIN_SECONDS = 1.0  # how soon a host is asked again for what has expired there
GREETINGS = frozenset({ClientHello, HostHello, Bye})


class Core:
    """The coordinator's brain.

    ``epoch`` is committed before this is made; ``commit`` is the greatest ref ever committed,
    which may be of a record that was pruned; ``store`` is the store's identity (16 bytes);
    ``chance`` gives numbers in [0, 1). Restore every stored function and record, call ``start``,
    then feed it messages and ticks. Times are monotonic seconds.
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
        commit: int = 0,
    ) -> None:
        self.ledger = ledger = Ledger(
            settings, port, epoch=epoch, store=store, durable=durable, chance=chance
        )
        ledger.last_ref = commit
        self.deliveries = Deliveries(ledger)
        self.dead = DeadTasks(ledger)
        self.duplicates = Duplicates(ledger, self.deliveries.offer)
        self.endings = Endings(ledger, self.deliveries, self.dead, self.duplicates)
        self.cancels = Cancels(ledger, self.endings)
        self.following = Following(ledger, self.deliveries)
        self.rights = Rights(ledger)
        self.placement = place = Placement(ledger)
        self.admission = Admission(ledger, self.following, self.duplicates, self.rights, place)
        self.recalls = Recalls(ledger, self.placement)
        self.history = History(ledger)
        self.retention = Retention(ledger, self.history)
        self.reports = Reports(ledger, self.endings, self.cancels)
        self.orders = QueueOrders(ledger, self.endings)
        self.loading = Loading(ledger, self.retention, self.dead, self.history, self.orders)
        self.recovery = Recovery(ledger, self.endings, self.retention, self.reports, self.cancels)
        self.connections = Connections(
            ledger,
            self.admission,
            self.deliveries,
            self.following,
            self.reports,
            self.recovery,
            self.cancels,
        )
        self.lookups = Lookups(ledger, self.history, Explaining(ledger))
        self.watchdog = Watchdog(ledger)
        accounts = self.endings.accounts
        self.upkeep = Upkeep(ledger, self.retention, self.dead, self.watchdog, accounts)
        queries = Queries(ledger, self.dead, self.history, self.watchdog, self.orders)
        self.questions = Questions(ledger)
        self.inquiries = Inquiries(ledger, queries, self.lookups, self.questions)
        self._last_event = NEVER
        self._away_seconds = 2 * settings.beat_seconds
        self._dirty = False
        self._due: float | None = None  # what ``next_deadline`` found since the last tick

    # ------------------------------------------------------------ start

    def restore_function(self, digest: bytes, name: str, data: bytes) -> None:
        """A stored function; all of them before the first record."""
        self.ledger.functions.add(digest, name, data, stored=True)

    def restore(self, ref: int, record: Record) -> None:
        """A stored record; all of them in order of ``ref``."""
        self.loading.restore(ref, record)

    def start(self, now: float, wall: float, boot: str = "") -> None:
        """Begin to serve; ``wall`` is the time since 1970 at ``now``, in seconds.

        ``boot`` names the life of this machine in which monotonic times can be compared, if known.
        """
        self.loading.apply(now, wall, boot)
        orphans = self.duplicates.restore(now)
        self.ledger.queues.begin(now, fresh=not self.ledger.loaded)
        self.ledger.throughput.begin(now)
        self.deliveries.restore()
        self.recovery.begin(self.loading.hosts, self.loading.owners, now)
        for batch, lo, hi in orphans:  # a damaged store: nobody is to wait for ever
            self.endings.finish(batch, lo, hi, Event.FAIL, Ending.UNKNOWN)
        self.endings.flush(now)
        self._event(now)

    # ------------------------------------------------------------ events

    def _event(self, now: float) -> None:
        """Notice time in which the coordinator itself was away: no lease runs in it.

        With hosts connected it is woken every beat, so two beats without an event are an absence.
        """
        gap = now - self._last_event
        if gap > self._away_seconds and self.connections.has_hosts:
            self.connections.extend(gap)
        self._last_event = now
        self._dirty = True

    def receive(self, peer: Peer, message: FromClient | FromHost, now: float) -> None:
        """One message from a connection."""
        self._event(now)
        who = self.ledger.peers.get(peer)
        if who is None or type(message) in GREETINGS:
            self._greet(peer, message, now)
            return
        who.last_seen = now
        if isinstance(who, Session):
            self._from_client(peer, who, message, now)
        else:
            self._from_host(peer, who, message, now)

    def _greet(self, peer: Peer, message: Any, now: float) -> None:
        """The first message of a connection, or the last."""
        ledger = self.ledger
        match message:
            case ClientHello():
                self.connections.on_client_hello(peer, message, now)
            case HostHello():
                self.connections.on_host_hello(peer, message, now)
            case Bye():
                self.connections.on_bye(peer, now)
            case _:
                ledger.counters["before_hello"] += 1
                ledger.release(blob_names(entries_of(message)))
                ledger.port.send(peer, Rejected("hello", "say HELLO first", retry=True))
                ledger.port.close(peer)

    def _from_client(self, peer: Peer, session: Session, message: Any, now: float) -> None:
        match message:
            case Submit():
                self.admission.on_submit(session, message, now)
            case Taken():
                self.deliveries.on_taken(session, message.number, now)
            case Function():
                if self.rights.is_itself(session, message):
                    self.ledger.functions.add(message.hash, message.name, message.data)
                else:
                    self.ledger.counters["forged"] += 1
            case JobOpen() | JobSeal() | Attach():
                self.following.on_message(session, message, now)
            case Cancel():
                message.tasks = self.rights.visible(session, message.tasks)
                self.cancels.on_cancel(peer, message, now)
            case Query():
                self.inquiries.on_query(peer, session, message, now)
            case DrainHost():
                self.connections.on_drain(peer, session, message)
            case Beat():
                self.connections.on_beat(peer, message)
            case _:
                self.ledger.counters["unexpected"] += 1

    def _from_host(self, peer: Peer, host: Host, message: Any, now: float) -> None:
        match message:
            case Report():
                self.reports.on_report(host, message, now)
                if not self.ledger.open_tasks:  # whoever waits, waits for this
                    self._deliver()
                self.reports.on_reported(host, message, now)
            case Beat():
                self.connections.on_beat(peer, message)
            case NeedFunction():
                self.placement.on_need_function(host, message.hash)
            case Told():
                self.questions.on_told(host, message)
            case _:
                self.ledger.counters["unexpected"] += 1

    def on_closed(self, peer: Peer, now: float) -> None:
        """A connection is gone."""
        self._event(now)
        self.connections.on_closed(peer, now)

    def on_revoked(self, keys: Collection[str], now: float) -> None:
        """Keys were revoked, or have expired, and their connections are cut: by their ids."""
        self._event(now)
        self.connections.on_revoked(keys, now)

    def on_committed(self, ref: int, now: float) -> None:
        """Every change up to and including the record ``ref`` is durable."""
        self._event(now)
        self.ledger.on_committed(ref, now)
        if self.ledger.short:  # what it holds back may be among them
            self.ledger.queues.resume()

    def on_loaded(self, ref: int, record: Record | None, now: float) -> None:
        """A record asked for with ``Port.load``; None if the store has it no more."""
        self._event(now)
        self._on_payloads(ref, record, now)
        self.inquiries.on_loaded(ref, record)
        self.deliveries.on_loaded(ref, record)
        self.lookups.on_loaded(ref, record, now)

    def _on_payloads(self, ref: int, record: Record | None, now: float) -> None:
        """If payloads were to be read back with this record, they are."""
        ledger = self.ledger
        for batch in ledger.residence.on_loaded(ref, record):
            ledger.queues.arrived(batch)
        self.retention.on_loaded(ref, now)
        if ledger.residence.lost:
            self.endings.lose_payloads(now)
        ledger.residence.settle()

    def on_short(self, reason: str, now: float) -> None:
        """The store should get no new work, and why; empty once it has room again."""
        self._event(now)
        self.ledger.short = reason
        self.ledger.write_drafts(self.ledger.drafts.take_all())
        self.ledger.queues.resume()

    def on_last_commit(self, now: float) -> None:
        """The process goes down after one more commit: what is accepted is to be in it."""
        self._event(now)
        self.ledger.write_drafts(self.ledger.drafts.take_all())

    def on_stopping(self, now: float) -> None:
        """The process is going down: tell the peers, and hosts what they need not keep."""
        self._event(now)
        self.reports.flush_notes()
        self.connections.on_stopping()

    # ------------------------------------------------------------ time

    @property
    def dropped_bytes(self) -> int:
        """How many bytes of payloads have left memory for the store, in this life."""
        return self.ledger.residence.dropped_bytes

    @property
    def at_rest(self) -> bool:
        """Whether nothing has happened since the last ``on_tick``."""
        return not self._dirty

    def on_tick(self, now: float) -> None:
        """The end of a turn: do what is due, place tasks, send what gathered.

        Call it after every batch of events, sockets drained first, and at ``next_deadline``.
        """
        self._event(now)
        ledger, connections = self.ledger, self.connections
        due = min(ledger.delays.due, ledger.expiries.due, ledger.drafts.due)
        if now >= min(due, connections.due, self.recovery.deadline):
            self._end_waits(now)
        self._place(now)
        if ledger.hosts.over or self.recalls.asked or now >= self.recalls.due:
            self.recalls.look(now)
        self._deliver()
        if now >= self.reports.note_due or self.reports.starting or self.reports.notes:
            self.reports.flush(now)
        if self.questions.asked:
            self.questions.on_tick(now)
        # Nobody waits for what follows.
        if self.cancels.decided:
            self.cancels.flush(now)
        self.admission.flush(now)
        self.upkeep.on_tick(now)
        self._dirty = False
        self._due = None

    def _place(self, now: float) -> None:
        """Hosts get what they have room for; then what was accepted is written."""
        ledger, queues = self.ledger, self.ledger.queues
        if (queues.ring or queues.timed or ledger.hosts.changed is not None) or (
            ledger.residence.near or queues.lending
        ):
            self.placement.place(now)
        if ledger.drafts.fresh:
            ledger.write_fresh()
        if queues.timed:
            queues.plan(now)

    def _deliver(self) -> None:
        """Outcomes leave for those who wait for them."""
        if self.following.changed or self.ledger.paged:  # a follower is told of a task first
            self.following.flush()
        if self.deliveries.waiting:
            self.deliveries.flush()

    def _end_waits(self, now: float) -> None:
        """What had to wait until now: recovery, delays, expiry, silence."""
        ledger = self.ledger
        if now >= self.recovery.deadline:
            self.recovery.finish(now)
        if now >= ledger.delays.due:
            self.placement.on_due(now)
        if now >= ledger.expiries.due:
            for batch, lo, hi in ledger.expiries.pop_due(now):
                for state in (State.QUEUED, State.SCHEDULED):
                    for a, b in list(batch.runs(lo, hi, state)):
                        self.endings.finish(batch, a, b, Event.EXPIRE, Ending.EXPIRED)
                if self.recalls.take_back(batch, lo, hi):  # it comes back, and expires then
                    ledger.expiries.push(now + EXPIRE_AGAIN_SECONDS, batch, lo, hi)
            self.endings.flush(now)
        if now >= self.connections.due:
            self.connections.on_tick(now)
        if now >= ledger.drafts.due:
            ledger.write_drafts(ledger.drafts.take_due(now))

    def next_deadline(self) -> float | None:
        """When ``on_tick`` must be called next; in the past if at once."""
        if self._last_event == NEVER:
            return None
        if self._dirty:
            return self._last_event
        if self._due is None:
            self._due = self._find_deadline()
        return self._due

    def _find_deadline(self) -> float:
        ledger, connections, admission = self.ledger, self.connections, self.admission
        due = min(
            ledger.delays.due,
            ledger.expiries.due,
            ledger.drafts.due,
            connections.due_for_hosts,
            self.recalls.due,
            self.questions.due,
            self.reports.note_due,
            admission.acknowledge_due,
            admission.queues.due,
            ledger.queues.due,
            self.recovery.deadline,
            self.upkeep.due,
        )
        if connections.has_hosts:
            due = min(due, self._last_event + self._away_seconds / 2)
        return due
