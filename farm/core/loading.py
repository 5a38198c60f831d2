"""Rebuilding the ledger from the records of the journal."""

from typing import TYPE_CHECKING, Any

from farm.core.batch import Batch
from farm.core.blobs import live_blobs
from farm.core.dead import DeadTasks
from farm.core.divergence import Divergence
from farm.core.evidence import is_long
from farm.core.fencing import fence, of_sessions
from farm.core.history import History
from farm.core.jobs import Job
from farm.core.ledger import Ledger
from farm.core.loading_outcomes import OutcomeLoading, lighten
from farm.core.queue_orders import QueueOrders
from farm.core.retention import Retention
from farm.core.sessions import Session
from farm.errors import ProtocolError
from farm.model import State
from farm.protocol.records import (
    Arguments,
    AttemptEnd,
    AttemptsEnded,
    Begun,
    Buried,
    ClockRead,
    Delivered,
    Finished,
    HostJoined,
    JobOpened,
    JobSealed,
    QueueChanged,
    Record,
    Recovered,
    Remembered,
    Restored,
    SessionMark,
    Stopping,
    Submitted,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Loading"]

ORDER: tuple[tuple[type, ...], ...] = (
    (SessionMark,),
    (JobOpened, JobSealed),
    (Submitted,),
    (Finished, AttemptsEnded, Begun, Stopping, Delivered, Recovered, HostJoined, Remembered),
    (Arguments,),
    (Restored, Buried, QueueChanged),
)
"""Tasks come before what is said of them: survivors are copied out to younger records."""

WAITING = State.QUEUED, State.SCHEDULED
"""The states of tasks that have not ended, as no host has any yet."""


class Loading:
    """Gathers the stored records, then applies them.

    ``hosts`` are those of the last epoch, each with its records: ``(ref, instance)``; ``owners``
    has the names of their keys. Records
    that contradict each other are a damaged journal: they raise ``ProtocolError``, and nothing is
    guessed.
    """

    def __init__(
        self,
        ledger: Ledger,
        retention: Retention,
        dead: DeadTasks,
        history: History,
        orders: QueueOrders,
    ) -> None:
        self._ledger = ledger
        self._dead = dead
        self._history = history
        self._retention = retention
        self._outcomes = OutcomeLoading(ledger)
        self._later: list[tuple[int, Record]] = []  # the whole journal, until ``apply``
        self._clock: tuple[int, ClockRead] | None = None
        self.hosts: dict[str, list[tuple[int, bytes]]] = {}
        self.owners: dict[str, str] = {}
        self._restorers: dict[type, Callable[[int, Any, float], None]] = {
            SessionMark: self._restore_session,
            JobOpened: self._open_job,
            JobSealed: self._seal_job,
            Submitted: self._restore_batches,
            Finished: self._outcomes.restore,
            AttemptsEnded: self._restore_attempts,
            Begun: self._restore_begun,
            Stopping: self._restore_stopping,
            Delivered: self._restore_delivered,
            Recovered: self._restore_fence,
            Restored: self._restore_restored,
            HostJoined: self._join_host,
            Buried: lambda ref, record, _now: self._dead.restore(ref, record),
            Arguments: lambda ref, record, _now: self._dead.restore_arguments(ref, record.group),
            Remembered: self._history.restore,
            QueueChanged: lambda ref, record, _now: orders.restore(ref, record),
        }

    def restore(self, ref: int, record: Record) -> None:
        """One stored record. Those about tasks are applied once all tasks are known."""
        ledger = self._ledger
        ledger.last_ref = max(ledger.last_ref, ref)
        if isinstance(record, Finished):
            lighten(record)
        elif isinstance(record, Submitted):
            ledger.residence.restore(record)
        if isinstance(record, ClockRead):
            self._clock = ref, record
        else:
            self._later.append((ref, record))

    def apply(self, now: float, wall: float, boot: str) -> None:
        """All records are here: rebuild the ledger from them."""
        ledger = self._ledger
        ledger.started_at = now
        ledger.committed = ledger.loaded = ledger.last_ref
        ledger.wall_offset = self._offset(wall - now, boot)
        later, self._later = self._later, []
        for kinds in ORDER:
            for ref, record in later:
                if isinstance(record, kinds):
                    self._restorers[type(record)](ref, record, now)
        self._dead.restored()
        ledger.residence.on_committed(ledger.committed)
        self._restore_charges(now)
        self._count_unread()
        ledger.shared = live_blobs(ledger, self._dead)
        ledger.shared.subtract(list(ledger.shared))
        ledger.shared = +ledger.shared
        about = (Finished, AttemptsEnded, Begun, Stopping, Delivered)
        useless = ledger.rows.unmentioned(ref for ref, r in later if isinstance(r, about))
        if useless:
            ledger.port.prune(useless)
        ledger.functions.drop_unused_stored()

    def _count_unread(self) -> None:
        """What owners have taken of the results of their tasks, wholly or in part."""
        for session in self._ledger.sessions.values():
            for batch in session.batches:
                if batch.settled:
                    taken = (one.size for one in batch.outcomes if batch.is_taken(one))
                    self._ledger.read(batch, sum(taken))

    def _restore_charges(self, now: float) -> None:
        """Losses that may yet be given back, as the last record of each task says."""
        charges = self._ledger.charges
        for session in self._ledger.sessions.values():
            for batch in session.batches:
                for index, own in batch.diverged.items():
                    for instance in own.charged:
                        charges.add(instance, batch, index)
                        charges.part(instance, now)

    def _offset(self, offset: float, boot: str) -> float:
        """Wall-clock time minus monotonic time, on this machine since it was started.

        As long as it runs, its wall clock is read once: what others do to it moves nothing.
        """
        if self._clock is not None and self._clock[1].boot == boot:
            return self._clock[1].offset
        ledger = self._ledger
        if boot:
            ledger.persist(ClockRead(boot, offset))
        if self._clock is not None:
            ledger.port.prune([self._clock[0]])
        return offset

    def _open_job(self, ref: int, record: JobOpened, now: float) -> None:
        session = self._session(record.session, now)
        if record.job not in session.jobs:
            job = Job(session, record.job, record.name, self._ledger.monotonic(record.at))
            job.refs.append(ref)
            job.claimed = False
            self._ledger.jobs.add(job)

    def _seal_job(self, ref: int, record: JobSealed, now: float) -> None:
        job = self._session(record.session, now).jobs.get(record.job)
        if job is not None:
            job.sealed = record.count
            job.refs.append(ref)

    def _join_host(self, ref: int, record: HostJoined, _now: float) -> None:
        self.hosts.setdefault(record.name, []).append((ref, record.instance))
        self.owners[record.name] = record.owner
        self._ledger.resources.update(record.resources)

    def _session(self, identity: bytes, now: float) -> Session:
        found = self._ledger.sessions.get(identity)
        if found is None:  # its mark is always older than its tasks, so this is a damaged store
            found = self._ledger.sessions[identity] = Session(identity, b"", now)
        return found

    def _restore_session(self, ref: int, record: SessionMark, now: float) -> None:
        session = self._session(record.session, now)
        session.secret, session.owner = record.secret, record.owner
        if session.mark_ref:  # the deletion of the older one was not committed
            self._ledger.port.prune([session.mark_ref])
        session.mark_ref = ref
        session.last_seen = now
        for kept, runs in (
            (session.accepted, record.accepted),
            (session.dropped, record.dropped),
            (session.outlived, record.outlived),
            (session.forgotten, record.forgotten),
        ):
            for first, count in runs:
                kept.add(first, first + count)

    def _restore_batches(self, ref: int, record: Submitted, now: float) -> None:
        ledger = self._ledger
        session = self._session(record.session, now)
        row = ledger.rows.open(ref)
        for group in record.groups:
            if next(session.batches.overlap(group.first, group.count), None) is not None:
                continue  # copied out by a record whose predecessor was not deleted yet
            if group.template is not None and not group.template.durable:
                raise ProtocolError(f"record {ref} has tasks that are never stored")
            queue = ledger.queues.restored(group.template.queue if group.template else "")
            job, at = session.jobs.get(group.job), ledger.monotonic(record.at)
            owner = record.owner or session.owner
            batch = Batch(session, group, job, queue, at, ledger.wall_offset, owner)
            batch.row = row
            batch.fence = record.fence
            row.batches.append(batch)
            row.count += batch.count
            session.batches.add(batch)
            session.accepted.add(batch.first, batch.stop)
            if batch.job is not None:
                batch.job.batches[batch.first] = batch
            ledger.open(batch)
            ledger.functions.acquire(batch.function, durable=True)
            if batch.same is not None:
                self._outcomes.duplicates.add(batch)
        if not row.batches:
            ledger.port.prune(ledger.rows.close(row))

    def _restore_attempts(self, ref: int, record: AttemptsEnded, _now: float) -> None:
        for end in record.entries:
            self._restore_attempt(ref, end)

    def _restore_attempt(self, ref: int, end: AttemptEnd) -> None:
        ledger = self._ledger
        session = ledger.sessions.get(end.session)
        if session is None:
            return
        for batch, lo, hi in session.batches.overlap(end.first, end.count):
            if batch.row is not None:
                ledger.rows.mention_attempts(batch.row, ref)
            waiting = [run for state in WAITING for run in batch.runs(lo, hi, state)]
            if waiting and (
                end.retries > batch.template.retries or end.losses > batch.template.max_losses
            ):
                raise ProtocolError(f"record {ref} spends more of a task than it has")
            failures = end.attempts if end.failure is None else [*end.attempts, end.failure]
            for a, b in waiting:
                step = 1 if any(map(is_long, failures)) else b - a
                for at in range(a, b, step):
                    self._restore_run(batch, at, at + step, ref, end)

    def _restore_run(self, batch: Batch, lo: int, hi: int, ref: int, end: AttemptEnd) -> None:
        due = self._ledger.monotonic(end.due) if end.due else None
        for _, _, own in batch.diverge_runs(lo, hi):
            self._restore_evidence(own, end)
            own.attempt, own.retries, own.losses = end.attempt, end.retries, end.losses
            own.fence, own.ref, own.due = end.fence, ref, due
            own.failure = end.failure.brief() if end.failure else None
            own.charged, own.tried = end.charged, end.tried
        state = State.QUEUED if due is None else State.SCHEDULED
        batch.states[lo:hi] = bytes((state,)) * (hi - lo)

    def _restore_evidence(self, own: Divergence, end: AttemptEnd) -> None:
        """What an attempt left, if it spent something; a younger record may say all of it again."""
        evidence = self._ledger.evidence
        found = list(end.attempts)
        if found:
            evidence.release(own.attempts)
            own.attempts = []
        elif end.failure and end.retries + end.losses > own.retries + own.losses:
            found.append(end.failure)
        for failure in found:
            evidence.add(own, failure)

    def _restore_begun(self, ref: int, record: Begun, _now: float) -> None:
        session = self._ledger.sessions.get(record.session)
        if session is None:
            return
        for batch, lo, hi in session.batches.overlap(record.first, record.count):
            if batch.row is not None:
                self._ledger.rows.mention_attempts(batch.row, ref)
            for state in WAITING:  # it was due before the restart
                for a, b in batch.runs(lo, hi, state):
                    for _, _, own in batch.diverge_runs(a, b):
                        own.begun, own.begun_on = record.attempt, record.host

    def _restore_stopping(self, ref: int, record: Stopping, _now: float) -> None:
        for session_id, first, count in record.tasks:
            session = self._ledger.sessions.get(session_id)
            if session is None:
                continue
            for batch, lo, hi in session.batches.overlap(first, count):
                batch.mark_stopping(lo, hi, record.grace)
                if batch.row is not None:
                    self._ledger.rows.mention(batch.row, ref)

    def _restore_delivered(self, ref: int, record: Delivered, _now: float) -> None:
        ledger = self._ledger
        for owner, first, count in record.tasks:
            session = ledger.sessions.get(owner)
            if session is None:
                continue
            for batch, lo, hi in session.batches.overlap(first, count):
                if batch.row is not None:
                    ledger.rows.mention(batch.row, ref)
                    ledger.rows.touched[batch.row] = None
                for a, b in _final_runs(batch, lo, hi):
                    ledger.settle(batch, a, b)

    def _restore_fence(self, ref: int, record: Recovered, _now: float) -> None:
        """Everything submitted before is fenced off below this epoch, except what was adopted."""
        self._retention.recovered_refs.append(ref)
        kept = of_sessions(record.adopted)
        for session in self._ledger.sessions.values():
            for batch in session.batches:
                if batch.row is not None and batch.row.ref < ref and batch.open:
                    fence(batch, record.epoch, kept, tried=record.tried)

    def _restore_restored(self, ref: int, record: Restored, now: float) -> None:
        """Whatever was open may have run, and ended, since the copy was made.

        Recovery then fences all tokens but those of this store; until it has, none count, for
        those of epochs that the copy knows nothing of may be the higher ones.
        """
        recovered = any(known > ref for known in self._retention.recovered_refs)
        epoch = record.epoch if recovered else self._ledger.epoch
        self._restore_fence(ref, Recovered(epoch, []), now)
        for session in self._ledger.sessions.values():
            for batch in session.batches:
                if batch.row is not None and batch.row.ref < ref and batch.open:
                    _may_have_run(batch)


def _may_have_run(batch: Batch) -> None:
    """Nobody knows where, or when: of a later epoch's recovery is known only what ran since."""
    if not batch.runs_once:
        batch.tried = True
        return
    for state in WAITING:
        for lo, hi in batch.runs(0, batch.count, state):
            for _, _, own in batch.diverge_runs(lo, hi):
                own.begun, own.begun_on = own.attempt, b""


def _final_runs(batch: Batch, lo: int, hi: int) -> list[tuple[int, int]]:
    """The runs of ``[lo, hi)`` that are in a final state and not settled."""
    return [run for state in State if state.is_final for run in batch.runs(lo, hi, state)]
