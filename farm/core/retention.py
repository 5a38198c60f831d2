"""What is forgotten, and when.

A submitted record goes when all of its tasks are over: finished, and taken by their owner or past
their time. Tasks of named jobs, and those with a ``result_ttl``, stay readable for that time even
when taken, unless there is no room for them: then the oldest go. A record of which less than a
quarter still lives has the living copied out, so that one task that never ends does not hold the
records of its siblings. Of a task that is leased and given back for ever, a record or two say from
time to time what is left of all that was said of its attempts. Of everything that is forgotten the
history keeps a line.
"""

from collections import deque
from collections.abc import Iterator
from copy import copy
from itertools import islice
from typing import TYPE_CHECKING

from farm.core.batch import Batch, Outcome
from farm.core.divergence import alike
from farm.core.history import History
from farm.core.jobs import Job
from farm.core.ledger import Ledger
from farm.core.rows import Row
from farm.model import State
from farm.protocol.parts import Group
from farm.protocol.records import AttemptEnd, AttemptsEnded, Begun, Submitted

if TYPE_CHECKING:
    from farm.core.sessions import Session

__all__ = ["Retention"]

REWRITE_SHARE = 4
SWEEP_SECONDS = 30.0
NEVER = float("inf")


class Retention:
    """Deletes what is over."""

    def __init__(self, ledger: Ledger, history: History) -> None:
        self._ledger = ledger
        self._history = history
        self.due = NEVER
        self.sweep_at = 0.0
        """When to call ``on_tick`` next is the earlier of these."""
        self.recovered_refs: list[int] = []
        self._blobs: list[str] = []  # of outcomes that were forgotten
        self._wanted: dict[int, Row] = {}  # being read, to be rewritten

    def on_tick(self, now: float) -> None:
        """Forget what is over, together, after a short while."""
        ledger = self._ledger
        if ledger.over:
            over, ledger.over = ledger.over, []
            for batch in over:
                if self._is_over(batch, now):
                    self._forget(batch)
        if ledger.result_bytes > ledger.settings.max_result_bytes:
            self._make_room()
        if self.due == NEVER and (ledger.rows.touched or self._history.waiting):
            self.due = now + ledger.settings.prune_seconds
        if now >= self.sweep_at:
            self.sweep_at = now + SWEEP_SECONDS
            self._sweep(now)
        elif now >= self.due:
            self._prune(list(ledger.rows.touched), now)
        if self._blobs:
            blobs, self._blobs = self._blobs, []
            ledger.release(blobs)

    def _is_over(self, batch: Batch, now: float) -> bool:
        return self._is_past(batch, now) and not _is_on_its_way(batch)

    def _is_past(self, batch: Batch, now: float) -> bool:
        if batch.open or batch.finished_at is None or batch.held:
            return False
        settings = self._ledger.settings
        limit = 0.0
        if batch.is_kept:
            ttl = batch.template.result_ttl
            limit = settings.result_ttl if ttl is None else ttl
        if batch.settled < batch.count:
            limit = max(limit, settings.unclaimed_ttl)
        return not limit or now >= batch.finished_at + limit

    def _make_room(self) -> None:
        """Drop results that their owners have taken, the oldest first, until the rest fits."""
        ledger, dropped = self._ledger, 0
        while ledger.kept and ledger.result_bytes > ledger.settings.max_result_bytes:
            batch = ledger.kept.popleft()
            if batch.gone or batch.held or batch.dropped:
                continue
            batch.dropped = True
            dropped += batch.count
            ledger.keep_result(batch, -batch.result_bytes)
            if batch.row is None:
                ledger.over.append(batch)
            else:
                ledger.rows.touched[batch.row] = None
        if dropped:
            ledger.counters["results_dropped"] += dropped
            ledger.port.warn(
                "the room for results is full: the oldest of those that their owners have taken "
                "are dropped before their time; max_result_bytes says how much is kept"
            )

    def _prune(self, rows: list[Row], now: float) -> None:
        self.due = NEVER
        ledger = self._ledger
        ledger.rows.touched.clear()
        refs: list[int] = []
        dirty: dict[Session, None] = {}
        for row in rows:
            if all(self._is_over(batch, now) for batch in row.batches):
                dirty[row.batches[0].session] = None
                for batch in row.batches:
                    self._forget(batch)
                refs += ledger.rows.close(row)
            elif (
                REWRITE_SHARE * self._living(row) < row.count
                and self._can_rewrite(row, now)
                and self._is_whole(row)
            ):
                dirty[row.batches[0].session] = None
                refs += self._rewrite(row, now)
            elif row.repeats:
                old = ledger.rows.release_attempts(row, ledger.committed)
                self._restate_attempts(row.batches, row, now)
                refs += old
        refs += self._history.flush(now)
        for session in dirty:
            refs += ledger.mark(session, now)
        oldest = ledger.rows.oldest
        while self.recovered_refs and (oldest is None or self.recovered_refs[0] < oldest):
            refs.append(self.recovered_refs.pop(0))
        if refs:
            ledger.port.prune(refs)

    def _living(self, row: Row) -> int:
        return sum(batch.count - (0 if batch.is_kept else batch.settled) for batch in row.batches)

    def _can_rewrite(self, row: Row, now: float) -> bool:
        """Whether what is over can go now, and the rest be said in fewer words."""
        waits = any(self._is_past(batch, now) and _is_on_its_way(batch) for batch in row.batches)
        return not waits and not _is_scattered(row)

    def _is_whole(self, row: Row) -> bool:
        """Whether the payloads of a row are in memory; if not, they are read, now or next time."""
        if not any(batch.stored for batch in row.batches):
            return True
        if self._ledger.residence.want(row):
            self._wanted[row.ref] = row
        else:
            self._ledger.rows.touched[row] = None
        return False

    def on_loaded(self, ref: int, now: float) -> None:
        """A record was read back, perhaps to be rewritten."""
        row = self._wanted.pop(ref, None)
        if row is not None and all(batch.row is row and not batch.gone for batch in row.batches):
            touched = self._ledger.rows.touched
            touched[row] = None
            self._prune(list(touched), now)

    def _rewrite(self, row: Row, now: float) -> list[int]:
        """Copy the living tasks of a row to a new record; the refs that may be deleted."""
        ledger = self._ledger
        session = row.batches[0].session
        living = [batch for batch in row.batches if not self._is_over(batch, now)]
        alive = set(living)
        for batch in row.batches:
            if batch not in alive:
                self._forget(batch)
        groups = [group for batch in living for group in self._survivors(batch)]
        at = ledger.wall(living[0].at)
        fence = max(batch.fence for batch in living)  # those that were over were not fenced
        record = Submitted(session.id, at, groups, fence, living[0].other_owner)
        new = ledger.rows.open(ledger.persist(record), row.since)
        new.batches = living
        new.count = sum(group.count for group in groups)
        for batch in living:
            batch.row = new
            taken = dict.fromkeys([] if batch.is_kept else filter(batch.is_taken, batch.outcomes))
            for outcome in batch.outcomes:
                if outcome.ref and outcome not in taken:
                    ledger.rows.mention(new, outcome.ref)
            self._let_go(batch, list(taken))
        all_matter = any(map(_every_word_matters, living))
        for ref in row.mentions:
            if all_matter or ref > ledger.committed:  # perhaps an outcome not published yet
                ledger.rows.mention(new, ref)
        for ref in row.attempts or ():
            if ref > ledger.committed:
                ledger.rows.mention_attempts(new, ref)
        self._restate_attempts(living, new, now)
        return ledger.rows.close(row)

    def _restate_attempts(self, living: list[Batch], row: Row, now: float) -> None:
        """Say again what is special about the attempts of the living.

        One record says how many there were; of tasks that run once, one for each lease says that
        they may have begun.
        """
        ledger = self._ledger
        ends: list[AttemptEnd] = []
        for batch in living:
            for lo, hi, own in alike(batch.diverged, 0, batch.count):
                if own is not None:
                    ends.append(ledger.attempt_end(batch, lo, hi))
                    ends[-1].attempts = [copy(failure) for failure in own.attempts]
        if ends:
            ref = ledger.persist(AttemptsEnded(ledger.wall(now), ends))
            ledger.rows.mention_attempts(row, ref)
        for batch in living:
            for record in _begun(batch) if batch.runs_once else ():
                ledger.rows.mention_attempts(row, ledger.persist(record))

    def _survivors(self, batch: Batch) -> list[Group]:
        """The tasks of a batch that must outlive its row, as groups under their old counters."""
        if batch.is_kept:
            return [batch.group(0, batch.count)]
        return [batch.group(lo, hi) for lo, hi in batch.unsettled(0, batch.count)]

    def _let_go(self, batch: Batch, outcomes: list[Outcome]) -> None:
        """Outcomes of a batch are kept no longer; what is remembered of them is."""
        fresh = [outcome for outcome in outcomes if not outcome.remembered]
        self._history.remember(batch, fresh)
        self._ledger.keep_result(batch, -sum(outcome.size for outcome in fresh))
        with_blobs = [outcome for outcome in outcomes if outcome.blobs]
        if with_blobs and not _is_awaited(batch) and not _is_on_its_way(batch):
            for outcome in with_blobs:
                self._blobs += outcome.blobs
                outcome.blobs, outcome.result, outcome.ref = [], None, 0

    def _forget(self, batch: Batch) -> None:
        batch.gone = True
        self._history.remember(batch, batch.outcomes)
        self._ledger.keep_result(batch, -batch.result_bytes)
        self._ledger.read(batch, batch.unread_bytes)
        if batch.dropped:
            batch.session.dropped.add(batch.first, batch.stop)
        if batch.settled < batch.count:
            for lo, hi in batch.unsettled(0, batch.count):
                batch.session.outlived.add(batch.first + lo, batch.first + hi)
        batch.session.batches.remove(batch)
        self._ledger.functions.release(batch.function)
        job = batch.job
        if job is not None:
            del job.batches[batch.first]
            self._end_job(job)
        for outcome in batch.outcomes:
            self._blobs += outcome.blobs
        batch.outcomes = []
        for watcher in batch.watchers:
            watcher.watching.pop(batch, None)
        batch.watchers = {}

    def _end_job(self, job: Job) -> None:
        """Forget a job of which nothing is left, unless its client may still add to it."""
        if job.batches or job.state == "open":
            return
        self._ledger.jobs.remove(job)
        if job.refs:
            self._ledger.port.prune(job.refs)

    def _sweep(self, now: float) -> None:
        ledger = self._ledger
        self._prune(list(ledger.rows), now)
        ledger.kept = deque(batch for batch in ledger.kept if not batch.gone)
        for session in list(ledger.sessions.values()):
            for batch in list(session.batches):
                if batch.row is None and self._is_over(batch, now):
                    self._forget(batch)
            if session.peer is not None:
                continue
            for job in list(session.jobs.values()):
                self._end_job(job)
            silent = now - session.last_seen
            used = session.mark_ref or session.jobs or session.outbox
            if not len(session.batches) and (not used or silent > ledger.settings.session_ttl):
                del ledger.sessions[session.id]
                for delivery in session.outbox:
                    ledger.let_go(session, delivery)
                session.outbox.clear()  # who knows the session yet keeps none of its tasks
                if session.mark_ref:
                    ledger.port.prune([session.mark_ref])


def _is_on_its_way(batch: Batch) -> bool:
    """Whether a reader is just being told of blobs, and may not have them yet."""
    for outcome in batch.outcomes:
        if outcome.blobs:
            break
    else:
        return False
    return any(
        delivery.outcome.batch is batch
        for session in (batch.session, *batch.watchers)
        for _, _, deliveries in session.inflight
        for delivery in deliveries
    )


def _is_awaited(batch: Batch) -> bool:
    """Whether somebody may yet be told of an outcome that its owner has taken."""
    return bool(batch.watchers) or any(
        delivery.outcome.batch is batch for delivery in batch.session.outbox
    )


def _every_word_matters(batch: Batch) -> bool:
    """What a kept outcome or a stop says is in no other record."""
    return bool(batch.stopping) or bool(batch.settled and batch.is_kept)


def _begun(batch: Batch) -> Iterator[Begun]:
    """The attempts of tasks that run once which may have begun, and have not ended."""
    session, first = batch.session.id, batch.first
    for lease in batch.leases or ():
        for lo, hi in lease.live_runs():
            yield Begun(session, first + lo, hi - lo, lease.attempt, lease.host.instance)
    for index, own in batch.diverged.items():  # of an older epoch, and its host may yet claim it
        waits = batch.states[index] in {State.QUEUED, State.SCHEDULED}
        if waits and own.begun == own.attempt:
            yield Begun(session, first + index, 1, own.begun, own.begun_on)


def _is_scattered(row: Row) -> bool:
    """Whether a packed task's survivors have gaps: each run would have the whole payload."""
    return any(
        batch.packed
        and (batch.open or any(outcome.blobs for outcome in batch.outcomes))
        and len(list(islice(batch.unsettled(0, batch.count), 2))) > 1
        for batch in row.batches
    )
