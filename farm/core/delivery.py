"""Outcomes on their way to those who read them.

An outcome is offered to its owner and to those who follow it once it is committed. It is sent as
the reader's window allows and forgotten when the owner has taken it. What waits for slow readers
beyond a bound in bytes, of each and in all, stays in the store and is read back when its turn
comes; so is what was sent and not taken when a connection ends.
"""

from copy import copy
from itertools import chain, islice

from farm.core.batch import Batch, Outcome
from farm.core.duplicates import as_duplicate
from farm.core.ledger import Ledger
from farm.core.rows import Row
from farm.core.sessions import Delivery, Session
from farm.model import Ending
from farm.protocol.messages import Results
from farm.protocol.parts import (
    BATCH_BYTES,
    TASKS_PER_MESSAGE_MAX,
    Failure,
    Result,
    TaskRun,
)
from farm.protocol.records import Delivered, Finished, Record

__all__ = ["DROPPED", "OUTLIVED", "Deliveries"]

DROPPED = Failure("dropped", "its result was dropped to make room for newer ones")
"""Why a result, taken by its owner and kept for others, is there no more."""
OUTLIVED = Failure("outlived", "nobody took its result in the time that results are kept")

LOOK_AHEAD = 64
LOOK_AHEAD_BYTES = 4 * BATCH_BYTES
"""How many waiting outcomes, of which size in all, are read back together."""


class Deliveries:
    """Sends outcomes and takes their acknowledgements."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._loading: dict[int, dict[Delivery, Session]] = {}
        self._loading_bytes: dict[int, int] = {}
        self.waiting: dict[Session, None] = {}

    # ------------------------------------------------------------ offering

    def offer(self, outcome: Outcome) -> None:
        """An outcome is committed: its owner, and all who follow it, may have it."""
        batch = outcome.batch
        if batch is None:
            return
        self.enqueue(batch.session, outcome, outcome.first, outcome.count)
        if not batch.watchers:
            return
        lo, most = outcome.first - batch.first, self._ledger.settings.session_outcomes
        for follower, wanted in batch.watchers.items():
            for a, b in wanted.overlap(lo, lo + outcome.count):
                if follower.pages or len(follower.outbox) >= most:
                    self._ledger.page(follower, (batch.session.id, batch.first + a, b - a))
                else:
                    self.enqueue(follower, outcome, batch.first + a, b - a)

    def enqueue(self, session: Session, outcome: Outcome, first: int, count: int) -> None:
        """Put a part of an outcome in a session's outbox."""
        delivery = Delivery(outcome, first, count)
        session.outbox.append(delivery)
        self.waiting[session] = None
        if outcome.result is not None:
            self._keep(session, delivery)

    def _keep(self, session: Session, delivery: Delivery) -> None:
        """Keep an outcome in memory if there is room; always one that is about to be sent."""
        outcome = delivery.outcome
        is_next = session.peer is not None and delivery is session.outbox[0]
        in_store = outcome.ref and outcome.inline_bytes
        if is_next or not in_store or not self._is_too_much(session, outcome):
            self._ledger.hold(session, delivery)
        else:
            self._ledger.let_go(session, delivery)

    def _is_too_much(self, session: Session, outcome: Outcome) -> bool:
        settings, size = self._ledger.settings, outcome.inline_bytes
        if session.resident_bytes + size > settings.session_result_bytes:
            return True
        return self._ledger.held_bytes + size > settings.resident_result_bytes

    def enqueue_ending(
        self, session: Session, run: TaskRun, ending: Ending, failure: Failure | None = None
    ) -> None:
        """Tell a session of tasks that the farm does not know any more, and perhaps why."""
        owner, first, count = run
        if not count:
            return
        outcome = Outcome(None, Result(owner, first, count, ending, [], failure=failure), 0, 0)
        session.outbox.append(Delivery(outcome, first, count))
        self.waiting[session] = None

    def restore(self) -> None:
        """After loading: every outcome that its owner has not taken waits for it again."""
        for session in self._ledger.sessions.values():
            for batch in session.batches:
                for outcome in batch.outcomes:
                    lo = outcome.first - batch.first
                    for a, b in batch.unsettled(lo, lo + outcome.count):
                        self.enqueue(session, outcome, batch.first + a, b - a)

    def disconnect(self, session: Session) -> None:
        """A connection ends: only what the session owns goes on waiting for it."""
        ledger = self._ledger
        ledger.inflight_bytes -= session.inflight_bytes
        sent = (delivery for _, _, deliveries in session.inflight for delivery in deliveries)
        for delivery in chain(sent, session.outbox):
            if not delivery.is_owed(session):
                ledger.let_go(session, delivery)
        session.disconnect()
        for delivery in session.outbox:
            if ledger.held_bytes <= ledger.settings.resident_result_bytes:
                break
            if delivery.outcome.ref:
                ledger.let_go(session, delivery)

    def resume(self, session: Session) -> None:
        """A session has connected: send what waits for it."""
        if session.outbox:
            self.waiting[session] = None

    # ------------------------------------------------------------ sending

    def flush(self) -> None:
        """Send what the windows of the connected sessions allow."""
        waiting, self.waiting = self.waiting, {}
        ledger, most = self._ledger, self._ledger.settings.resident_result_bytes
        for session in waiting:
            while session.peer is not None and session.outbox:
                full = session.inflight_bytes >= session.window_bytes
                if session.inflight and (full or ledger.inflight_bytes >= most):
                    break
                left = session.window_bytes - session.inflight_bytes
                entries, deliveries, size = self._gather(session, left)
                if not entries:
                    break
                self._send(session, entries, deliveries, size)

    def _send(
        self, session: Session, entries: list[Result], deliveries: list[Delivery], size: int
    ) -> None:
        if session.peer is None:
            return
        session.results_sent += 1
        session.inflight.append((session.results_sent, size, deliveries))
        session.inflight_bytes += size
        self._ledger.inflight_bytes += size
        message = Results(session.results_sent, self._ledger.committed, entries)
        self._ledger.port.send(session.peer, message)

    def _gather(self, session: Session, left: int) -> tuple[list[Result], list[Delivery], int]:
        """The next message: its entries, what they came from, and payload bytes.

        It has at most what is ``left`` of the window, or, with nothing else on the way, one entry.
        Several have ``BATCH_BYTES`` at most; a larger one travels alone.
        """
        entries: list[Result] = []
        deliveries: list[Delivery] = []
        size = count = 0
        while session.outbox and count < TASKS_PER_MESSAGE_MAX:
            delivery = session.outbox[0]
            outcome = delivery.outcome
            if (entries or session.inflight) and size + outcome.size > left:
                break
            if entries and size + outcome.size > BATCH_BYTES:
                break
            is_gone = outcome.batch is not None and outcome.batch.gone
            if is_gone and (outcome.result is None or outcome.blobs):
                self._tell_gone(session)
                continue
            if outcome.result is None:
                self._load_ahead(session)
                break
            session.outbox.popleft()
            entry = outcome.result
            if delivery.count != entry.count:
                entry = _part(entry, delivery.first, delivery.count)
            self._sent(session, delivery)
            entries.append(entry)
            deliveries.append(delivery)
            size += entry.size + len(entry.output)
            count += max(1, len(entry.payloads))
        return entries, deliveries, size

    def _sent(self, session: Session, delivery: Delivery) -> None:
        """Keep what may have to be sent again, if there is much room in memory."""
        ledger = self._ledger
        if 2 * ledger.held_bytes > ledger.settings.resident_result_bytes:
            ledger.let_go(session, delivery)
        if delivery.holds:
            session.resident_bytes -= delivery.outcome.inline_bytes
        delivery.waits = False

    def _tell_gone(self, session: Session) -> None:
        """The next outcome was forgotten while it waited: whoever waits for it must hear that."""
        delivery = session.outbox[0]
        self._ledger.let_go(session, delivery)
        delivery.waits = False
        batch = delivery.outcome.batch
        owner = b"" if batch is None else batch.session.id
        run = (owner, delivery.first, delivery.count)
        ending, failure = Ending.DELIVERED, None
        if batch is not None:
            ending, failure = _why_absent(batch, delivery.outcome)
        outcome = Outcome(None, Result(*run, ending, [], failure=failure), 0, 0)
        session.outbox[0] = Delivery(outcome, delivery.first, delivery.count)

    # ------------------------------------------------------------ reading back

    def _load_ahead(self, session: Session) -> None:
        """Read the next outcome back, and as many after it as there is room for in memory."""
        settings, size = self._ledger.settings, 0
        room = settings.resident_result_bytes - self._ledger.held_bytes
        room = min(LOOK_AHEAD_BYTES, room - sum(self._loading_bytes.values()))
        for delivery in islice(session.outbox, LOOK_AHEAD):
            outcome = delivery.outcome
            size += outcome.size
            if size > room and size > outcome.size:
                break
            if outcome.result is None:
                if outcome.ref not in self._loading:
                    self._loading[outcome.ref] = {}
                    self._loading_bytes[outcome.ref] = 0
                    self._ledger.port.load(outcome.ref)
                if delivery not in self._loading[outcome.ref]:
                    self._loading[outcome.ref][delivery] = session
                    self._loading_bytes[outcome.ref] += outcome.inline_bytes

    def on_loaded(self, ref: int, record: Record | None) -> None:
        """A record of outcomes was read back; None if it is gone."""
        self._loading_bytes.pop(ref, None)
        for delivery, session in self._loading.pop(ref, {}).items():
            self.waiting[session] = None
            outcome = delivery.outcome
            batch = outcome.batch
            if batch is not None and outcome.result is None:
                if isinstance(record, Finished) and outcome.entry < len(record.entries):
                    entry = _as_published(record.entries[outcome.entry])
                    if batch.same is not None:
                        entry = as_duplicate(entry, batch, outcome.first, outcome.count)
                    outcome.result = entry
                else:
                    ending, failure = _why_absent(batch, outcome)
                    outcome.result = Result(
                        batch.session.id, outcome.first, outcome.count, ending, [], failure=failure
                    )
            if delivery.waits:
                self._keep(session, delivery)
            else:
                self._ledger.let_go(session, delivery)

    # ------------------------------------------------------------ acknowledgement

    def on_taken(self, session: Session, number: int, now: float) -> None:
        """The session has stored every ``Results`` up to ``number``."""
        ledger = self._ledger
        runs: list[TaskRun] = []
        rows: dict[Row, None] = {}
        while session.inflight and session.inflight[0][0] <= number:
            _, size, deliveries = session.inflight.popleft()
            session.inflight_bytes -= size
            ledger.inflight_bytes -= size
            for delivery in deliveries:
                outcome = delivery.outcome
                ledger.let_go(session, delivery)
                if outcome.batch is None:
                    continue
                if outcome.batch.session is session:
                    self._settle(outcome.batch, delivery, runs, rows)
        if session.outbox:  # its window may have kept that from it
            self.waiting[session] = None
        if runs:
            ref = ledger.persist(Delivered(ledger.wall(now), runs))
            ledger.rows.touched.update(rows)
            for row in rows:
                ledger.rows.mention(row, ref)

    def _settle(
        self, batch: Batch, delivery: Delivery, runs: list[TaskRun], rows: dict[Row, None]
    ) -> None:
        """The owner has what was delivered; ``runs`` and ``rows`` get what that is a record of."""
        lo = delivery.first - batch.first
        if batch.gone:
            return
        if not self._ledger.settle(batch, lo, lo + delivery.count, delivery.outcome):
            return
        if batch.row is None:
            if batch.settled == batch.count:
                self._ledger.over.append(batch)
            return
        rows[batch.row] = None
        last = runs[-1] if runs else None
        if last and last[0] == batch.session.id and last[1] + last[2] == delivery.first:
            runs[-1] = (last[0], last[1], last[2] + delivery.count)
        else:
            runs.append((batch.session.id, delivery.first, delivery.count))


def _why_absent(batch: Batch, outcome: Outcome) -> tuple[Ending, Failure | None]:
    """What is said of an outcome whose record is there no more.

    That goes before the batch does, if what is left of the batch was copied out.
    """
    if batch.dropped:
        return Ending.UNKNOWN, DROPPED
    if batch.is_taken(outcome) and (batch.gone or not batch.is_kept):
        return Ending.DELIVERED, None
    return Ending.UNKNOWN, OUTLIVED if batch.gone else None


def _as_published(entry: Result) -> Result:
    """An outcome of the journal without what is evidence for people only."""
    if entry.failure is None and not entry.attempts:
        return entry
    entry = copy(entry)  # a store in memory keeps the record itself
    if entry.failure is not None:
        entry.output = entry.printed
        entry.failure = entry.failure.brief()
    entry.attempts = []
    return entry


def _part(result: Result, first: int, count: int) -> Result:
    """The part of an outcome that names ``[first, first + count)``; a packed one stays whole."""
    if result.packed:
        return result
    lo = first - result.first
    payloads = result.payloads[lo : lo + count]
    size = sum(map(len, payloads))
    seconds = result.seconds * count / result.count
    return Result(
        result.session, first, count, result.ending, payloads, size, False, result.failure, seconds,
        output=result.output,
    )  # fmt: skip
