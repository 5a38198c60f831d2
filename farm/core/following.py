"""Jobs as their clients open and seal them, and readers who attach to tasks of any session."""

from collections.abc import Callable
from functools import partial

from farm.core.batch import SETTLED, Batch
from farm.core.delivery import DROPPED, OUTLIVED, Deliveries
from farm.core.jobs import Job
from farm.core.ledger import Ledger
from farm.core.sessions import Session
from farm.model import Ending
from farm.protocol.messages import Attach, JobInfo, JobOpen, JobSeal
from farm.protocol.parts import COUNTER_MAX, TaskRun
from farm.protocol.records import JobOpened, JobSealed
from farm.ranges import RangeSet

__all__ = ["Following"]

Visit = Callable[[Session, Batch, int, int], None]
Absent = Callable[[Session, Session | None, bytes, tuple[int, int]], None]

RUNS_MIN = 4096
"""So many runs of tasks may be asked for whatever ``session_outcomes`` is."""


class Following:
    """Opens and seals jobs, and lets sessions follow tasks; reading consumes nothing."""

    def __init__(self, ledger: Ledger, deliveries: Deliveries) -> None:
        self._ledger = ledger
        self._deliveries = deliveries
        self.changed: dict[Job, None] = {}

    def on_message(self, session: Session, message: JobOpen | JobSeal | Attach, now: float) -> None:
        """Whatever a client says about jobs and attaching."""
        match message:
            case JobOpen():
                self._open(session, message, now)
            case JobSeal():
                self._seal(session, message, now)
            case Attach():
                self._attach(session, message)

    # ------------------------------------------------------------ jobs

    def _open(self, session: Session, message: JobOpen, now: float) -> None:
        """A session opens a job; saying it again changes nothing."""
        known = session.jobs.get(message.job)
        if known is not None and not known.claimed:
            known.claimed = True
            self.changed[known] = None
        if message.job < 1 or known is not None:
            return
        ledger = self._ledger
        if len(session.jobs) >= ledger.settings.session_jobs:
            ledger.counters["refused_jobs"] += 1  # and its tasks are refused, saying why
            return
        if not session.mark_ref:
            ledger.mark(session, now)
        job = Job(session, message.job, message.name, now)
        record = JobOpened(ledger.wall(now), session.id, message.job, message.name)
        job.refs.append(ledger.persist(record))
        ledger.jobs.add(job)

    def _seal(self, session: Session, message: JobSeal, now: float) -> None:
        """A session says that a job is complete; it is told when that is committed."""
        job = session.jobs.get(message.job)
        if job is None:
            self._tell_sealed(session, message.job, "the farm has no such job")
            return
        if job.sealed is None:
            job.sealed = message.count
            record = JobSealed(session.id, message.job, message.count)
            job.refs.append(self._ledger.persist(record))
            self.changed[job] = None
        if not job.answering:
            job.answering = True
            self._ledger.after_commit(partial(self._sealed, job), now)

    def _sealed(self, job: Job, _now: float) -> None:
        job.answering = False
        self._tell_sealed(job.session, job.number)

    def _tell_sealed(self, session: Session, number: int, error: str = "") -> None:
        if session.peer is not None:
            info = JobInfo(0, [], session.id, number, state="sealed", error=error)
            self._ledger.port.send(session.peer, info)

    def note_growth(self, job: Job, batch: Batch) -> None:
        """A job gained tasks: its followers follow them too."""
        if job.followers:
            for follower in job.followers.values():
                self._watch(follower, batch, 0, batch.count)
            self.changed[job] = None

    def flush(self) -> None:
        """Tell followers of jobs that changed in this turn, and of more outcomes if they can."""
        changed, self.changed = self.changed, {}
        for job in changed:
            for (_, request), follower in list(job.followers.items()):
                self._inform(follower, request, job)
        if self._ledger.paged:
            self._turn_pages()

    def _inform(self, session: Session, request: int, job: Job) -> None:
        if session.peer is not None:
            info = JobInfo(request, job.runs(), job.session.id, job.number, job.name, job.state)
            self._ledger.port.send(session.peer, info)

    # ------------------------------------------------------------ attaching

    def _attach(self, session: Session, message: Attach) -> None:
        """Follow a job, or tasks by id."""
        settings = self._ledger.settings
        waiting, most = session.pages.pieces, max(settings.session_outcomes, RUNS_MIN)
        if waiting >= most or session.follows >= settings.session_follows:
            error = (
                f"this client follows {session.follows} jobs already, and is to be told of "
                f"{waiting} runs of tasks; read those first"
            )
            if session.peer is not None:
                self._ledger.port.send(session.peer, JobInfo(message.request, [], error=error))
            return
        if not message.job:
            if session.peer is not None:
                self._ledger.port.send(session.peer, JobInfo(message.request, message.tasks))
            for run in message.tasks:
                self._follow(session, run)
            return
        job = self._ledger.jobs.find(message.job, session)
        if job is None:
            error = f"the farm has no job {message.job!r}; `farm jobs` lists those it has"
            if session.peer is not None:
                self._ledger.port.send(session.peer, JobInfo(message.request, [], error=error))
            return
        job.followers[session.id, message.request] = session
        session.follows += 1
        session.following.add(job)
        self._inform(session, message.request, job)
        for run in job.runs():
            self._follow(session, run)

    def _follow(self, session: Session, run: TaskRun) -> None:
        self._each(session, run, self._follow_batch, self._absent)

    def _each(self, session: Session, run: TaskRun, visit: Visit, absent: Absent) -> None:
        """Go through those tasks that the farm has, and those that it has not."""
        owner_id, first, count = run
        count = min(count, COUNTER_MAX - first)  # beyond it, nothing has a name
        owner, end = self._ledger.sessions.get(owner_id), first + count
        at = first
        known = owner is not None and (session.sees_all or session.owner == owner.owner)
        for batch, lo, hi in list(owner.batches.overlap(first, count)) if owner else ():
            if not session.sees(batch):
                continue  # as if there were nothing
            absent(session, owner if known else None, owner_id, (at, batch.first + lo))
            at = batch.first + hi
            visit(session, batch, lo, hi)
        absent(session, owner if known else None, owner_id, (at, end))

    def _absent(
        self, session: Session, _owner: Session | None, owner_id: bytes, run: tuple[int, int]
    ) -> None:
        """Say what became of tasks that the farm does not have when it is their turn."""
        start, stop = run
        if start < stop:
            session.pages.absent.append((owner_id, start, stop - start))
            self._ledger.paged[session] = None

    def _follow_batch(self, session: Session, batch: Batch, lo: int, hi: int) -> None:
        self._watch(session, batch, lo, hi)
        self._offer(session, batch, lo, hi)

    def _watch(self, session: Session, batch: Batch, lo: int, hi: int) -> None:
        if session is not batch.session:
            batch.watchers.setdefault(session, RangeSet()).add(lo, hi)
            session.watching[batch] = None

    def _offer(self, session: Session, batch: Batch, lo: int, hi: int) -> None:
        """Tell one reader of the committed outcomes of ``[lo, hi)``, a page at a time."""
        start, stop = batch.first + lo, batch.first + hi
        for outcome in batch.outcomes_of(start, stop):
            a = max(start, outcome.first)
            b = min(stop, outcome.first + outcome.count)
            self._ledger.page(session, (batch.session.id, a, b - a))

    def _turn_pages(self) -> None:
        """Tell more to readers for whom not much waits any more."""
        page = max(1, self._ledger.settings.session_outcomes // 2)
        for session in list(self._ledger.paged):
            pages, outbox = session.pages, session.outbox
            if len(outbox) <= page // 2:
                while pages.absent and len(outbox) < page:
                    self._each(session, pages.absent.popleft(), self._follow_batch, self._missing)
                while pages.has_ended and len(outbox) < page:
                    for run in pages.take(page - len(outbox)):
                        self._each(session, run, self._deliver_again, self._missing)
            if not pages:
                del self._ledger.paged[session]

    def _deliver_again(self, session: Session, batch: Batch, lo: int, hi: int) -> None:
        """Put the committed outcomes of ``[lo, hi)`` in one reader's outbox."""
        start, stop = batch.first + lo, batch.first + hi
        for outcome in batch.outcomes_of(start, stop):
            a = max(start, outcome.first)
            b = min(stop, outcome.first + outcome.count)
            if batch.packed:  # it is sent as a whole
                b = session.pages.take_on(batch.session.id, b, outcome.first + outcome.count)
            if outcome.result is None and not outcome.ref:
                self._deliveries.enqueue_ending(
                    session, (batch.session.id, a, b - a), Ending.DELIVERED
                )
            else:
                self._deliveries.enqueue(session, outcome, a, b - a)

    def _missing(
        self, session: Session, owner: Session | None, owner_id: bytes, run: tuple[int, int]
    ) -> None:
        """Tasks of which the farm has no record: settled long ago, or never accepted.

        Of an owner of whom the session may not know: None.
        """
        start, stop = run
        if owner is None:
            count = max(0, stop - start)
            self._deliveries.enqueue_ending(session, (owner_id, start, count), Ending.UNKNOWN)
            return
        had = RangeSet(owner.accepted.overlap(start, stop) + owner.volatile.overlap(start, stop))
        for a, b in owner.forgotten.overlap(start, stop):
            had.remove(a, b)
        for a, b in had.gaps(start, stop):
            self._deliveries.enqueue_ending(session, (owner.id, a, b - a), Ending.UNKNOWN)
        for a, b in had:
            self._gone(session, owner, a, b)

    def _gone(self, session: Session, owner: Session, start: int, stop: int) -> None:
        """Tasks that are over, and of which no outcome is kept."""
        delivered = RangeSet([(start, stop)])
        for runs, failure in ((owner.dropped, DROPPED), (owner.outlived, OUTLIVED)):
            for a, b in runs.overlap(start, stop):
                delivered.remove(a, b)
                run = (owner.id, a, b - a)
                self._deliveries.enqueue_ending(session, run, Ending.UNKNOWN, failure)
        for a, b in delivered:
            self._deliveries.enqueue_ending(session, (owner.id, a, b - a), Ending.DELIVERED)

    def on_pending(self, session: Session, runs: list[tuple[int, int]]) -> None:
        """What a returning client waits for: say what is not to come by itself."""
        for first, asked in runs:
            count = min(asked, COUNTER_MAX - first)
            at = first
            for batch, lo, hi in list(session.batches.overlap(first, count)):
                self._never_came(session, at, batch.first + lo)
                at = batch.first + hi
                for a, b in list(batch.runs(lo, hi, SETTLED)):
                    self._offer(session, batch, a, b)
            self._never_came(session, at, first + count)

    def _never_came(self, session: Session, start: int, stop: int) -> None:
        """Tasks that a client waits for, and the farm has no record of."""
        for a, b in session.accepted.gaps(start, stop):
            for lo, hi in session.volatile.gaps(a, b):
                session.forgotten.add(lo, hi)
        self._missing(session, session, session.id, (start, stop))
