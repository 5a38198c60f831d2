"""What a session has asked for besides running tasks: jobs, cancels, tasks followed, queries.

Each of these is remembered until the coordinator's answer makes sure that it need not be asked
again, and is asked again on every new connection until then. All are bounded by the calls that
the owner of the session makes and waits for.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from farm.protocol.messages import Attach, Cancel, CancelReply, JobInfo, JobOpen, JobSeal, TaskRun
from farm.ranges import RangeSet

__all__ = ["Cancels", "Follows", "Jobs", "TaskSet", "runs_among"]

FOLLOWS_MIN = 256
"""As many are remembered before it is looked which of them are over."""
NOBODYS_REQUEST = 0
"""Requests of the session's owner are numbered from 1."""


def runs_among(tasks: list[TaskRun], session: bytes, open_: RangeSet) -> list[tuple[int, int]]:
    """Those of these tasks that belong to the session and are open."""
    own = [(first, first + count) for owner, first, count in tasks if owner == session]
    return [run for first, stop in own for run in open_.overlap(first, stop)]


class TaskSet:
    """A set of tasks of any sessions."""

    __slots__ = ("_runs",)

    def __init__(self, runs: Iterable[TaskRun] = ()) -> None:
        self._runs: dict[bytes, RangeSet] = {}
        for session, first, count in runs:
            self.add(session, first, first + count)

    def __bool__(self) -> bool:
        return bool(self._runs)

    def add(self, session: bytes, first: int, stop: int) -> None:
        """Add the session's tasks ``[first, stop)``."""
        self._runs.setdefault(session, RangeSet()).add(first, stop)

    def take(self, session: bytes, first: int, stop: int) -> list[tuple[int, int]]:
        """Remove the session's tasks ``[first, stop)``; which of them were here."""
        runs = self._runs.get(session)
        found = runs.overlap(first, stop) if runs else []
        if runs and found:
            runs.remove(first, stop)
            if not runs:
                del self._runs[session]
        return found

    def overlap(self, session: bytes, first: int, stop: int) -> list[tuple[int, int]]:
        """Which of the session's tasks ``[first, stop)`` are here."""
        runs = self._runs.get(session)
        return runs.overlap(first, stop) if runs else []

    def gaps(self, session: bytes, first: int, stop: int) -> list[tuple[int, int]]:
        """Which of the session's tasks ``[first, stop)`` are not here."""
        runs = self._runs.get(session)
        return runs.gaps(first, stop) if runs else [(first, stop)]

    def runs(self) -> list[TaskRun]:
        """All of them, in order within each session."""
        return [
            (session, start, stop - start)
            for session, runs in self._runs.items()
            for start, stop in runs
        ]


@dataclass(slots=True)
class _Job:
    name: str
    count: int | None = None  # None while open
    held: int = 0  # tasks that the coordinator has not accepted yet
    gone: int = 0  # tasks that were cancelled or refused before it did
    said: bool = False  # that it is sealed, on this connection
    heard: bool = False  # that this is committed


class Jobs:
    """The jobs of the session that the coordinator may not have heard all about.

    A job is said again on each connection until the coordinator has answered that its seal is
    committed, or that it knows of no such job.
    """

    def __init__(self) -> None:
        self._jobs: dict[int, _Job] = {}

    def open(self, number: int, name: str) -> JobOpen:
        """Begin a job; the message that says so."""
        self._jobs.setdefault(number, _Job(name))
        return JobOpen(number, name)

    def seal(self, number: int, count: int) -> None:
        """No more tasks will join; ``count`` is how many did."""
        job = self._jobs.get(number)
        if job is not None:
            job.count = count

    def held(self, number: int, change: int, *, gone: bool = False) -> None:
        """So many more, or fewer, tasks of a job wait to be accepted; ``gone``: never will be."""
        job = self._jobs.get(number)
        if job is not None:
            job.held += change
            if gone:
                job.gone -= change

    def said_nothing(self) -> None:
        """A new connection: everything is to be said again."""
        for job in self._jobs.values():
            job.said = job.heard = False

    def again(self, numbers: Iterable[int]) -> list[JobOpen]:
        """What opens jobs that are over for the coordinator, but not for us."""
        opens: list[JobOpen] = []
        for number in numbers:
            job = self._jobs.get(number)
            if job is None:
                return []
            job.said = job.heard = False
            opens.append(JobOpen(number, job.name))
        return opens

    def opens(self) -> list[JobOpen]:
        """What opens the jobs again."""
        return [JobOpen(number, job.name) for number, job in self._jobs.items()]

    @property
    def unsealed(self) -> list[str]:
        """The names of jobs that could be sealed, and may be open for the coordinator."""
        return [
            job.name or str(number)
            for number, job in self._jobs.items()
            if job.count is not None and job.held <= 0 and not job.heard
        ]

    def seals(self) -> list[JobSeal]:
        """Seals that can be said now: a job is complete when all its tasks are accepted.

        Before, its session may still die, and the job must be found abandoned then.
        """
        found = []
        for number, job in self._jobs.items():
            if job.count is not None and job.held <= 0 and not job.said:
                job.said = True
                found.append(JobSeal(number, max(job.count - job.gone, 0)))
        return found

    def answered(self, info: JobInfo) -> bool:
        """Take in the answer to a seal; False if it is that to something else."""
        if info.request != NOBODYS_REQUEST or not info.job:
            return False
        job = self._jobs.get(info.job)
        if job is not None:
            job.heard = job.said  # else the job was opened again since
        return True

    def forget(self, used: Iterable[int]) -> None:
        """Jobs that are known to be sealed are over, but for ``used``.

        These are those with tasks that may have to be submitted again.
        """
        done = [number for number, job in self._jobs.items() if job.heard]
        if done:
            done = list(set(done).difference(used))
        for number in done:
            del self._jobs[number]


@dataclass(slots=True)
class _Cancelling:
    asked: TaskSet
    grace: float | None = None  # of a stop
    done: TaskSet = field(default_factory=TaskSet)
    stopped: TaskSet = field(default_factory=TaskSet)
    sent: bool = False


class Cancels:
    """Cancels and stops that were asked for and not yet answered.

    ``stopping`` are the owner's tasks that the coordinator has promised to stop, until they end.
    """

    def __init__(self) -> None:
        self.stopping = RangeSet()
        self._waiting: dict[int, _Cancelling] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def ask(self, request: int, tasks: list[TaskRun], grace: float | None) -> None:
        """Ask for tasks to be cancelled, or stopped within a grace."""
        self._waiting[request] = _Cancelling(TaskSet(tasks), grace)

    def narrow(self, request: int, own: bytes, open_: RangeSet) -> CancelReply | None:
        """Ask only for those of the owner's tasks that are open; the answer if that is nothing."""
        waiting = self._waiting[request]
        for session, first, count in waiting.asked.runs():
            if session == own:
                for a, b in open_.gaps(first, first + count):
                    waiting.asked.take(session, a, b)
        return None if waiting.asked else self.answer(CancelReply(request, []))

    def unsent(self) -> list[Cancel]:
        """What is to be sent now, once on each connection."""
        found = []
        for request, waiting in self._waiting.items():
            if not waiting.sent:
                waiting.sent = True
                found.append(Cancel(request, waiting.asked.runs(), waiting.grace))
        return found

    def said_nothing(self) -> None:
        """A new connection: everything is to be asked again."""
        for waiting in self._waiting.values():
            waiting.sent = False

    def wanted(self, session: bytes, first: int, stop: int) -> list[tuple[int, int]]:
        """Which of these tasks somebody wants cancelled and waits to hear about."""
        found = RangeSet()
        for waiting in self._waiting.values():
            for a, b in waiting.asked.overlap(session, first, stop):
                found.add(a, b)
        return list(found)

    def cancelled(self, session: bytes, first: int, stop: int, *, stopped: bool = False) -> None:
        """These tasks are cancelled: the answer says so even if the coordinator's does not."""
        for waiting in self._waiting.values():
            for a, b in waiting.asked.overlap(session, first, stop):
                (waiting.stopped if stopped else waiting.done).add(session, a, b)

    def answer(self, reply: CancelReply) -> CancelReply | None:
        """All that the request cancelled or stopped, or None if nobody waits for it any more."""
        waiting = self._waiting.pop(reply.request, None)
        if waiting is None:
            return None
        for found, runs in ((waiting.done, reply.cancelled), (waiting.stopped, reply.stopped)):
            for session, first, count in runs:
                found.add(session, first, first + count)
        done, stopped = waiting.done.runs(), waiting.stopped.runs()
        return CancelReply(reply.request, done, stopped, reply.stopping)


@dataclass(slots=True)
class _Follow:
    job: str
    known: TaskSet = field(default_factory=TaskSet)
    complete: bool = False  # no more tasks will be added
    asked_again: bool = False  # on this connection, and not answered yet
    answered: bool = False


class Follows:
    """Tasks and jobs, of any session, whose outcomes were asked for."""

    def __init__(self, own: bytes) -> None:
        self._own = own
        self._follows: dict[int, _Follow] = {}
        self._open = TaskSet()
        self._most = FOLLOWS_MIN

    def ask(self, request: int, tasks: list[TaskRun], job: str) -> Attach:
        """Follow tasks or a job; the message that asks for it."""
        if len(self._follows) >= self._most:
            self._forget()
        self._follows[request] = _Follow(job, TaskSet(tasks), complete=not job)
        for session, first, count in tasks:
            self._open.add(session, first, first + count)
        return Attach(request, tasks, job)

    def _forget(self) -> None:
        """Forget what is over; looked at anew when as many again are remembered."""
        for request, follow in list(self._follows.items()):
            if follow.complete and follow.answered and not self._rest(follow):
                del self._follows[request]
        self._most = max(FOLLOWS_MIN, 2 * len(self._follows))

    def _rest(self, follow: _Follow) -> list[TaskRun]:
        """Its tasks that have not ended yet."""
        return [
            (session, a, b - a)
            for session, first, count in follow.known.runs()
            for a, b in self._open.overlap(session, first, first + count)
        ]

    def again(self) -> list[Attach]:
        """What asks for everything that has not ended yet, on a new connection."""
        self._forget()
        found = []
        for request, follow in self._follows.items():
            rest = self._rest(follow)
            follow.asked_again = bool(follow.job)
            # Whoever asked waits for the answer, although all may have ended for another request.
            tasks = [] if follow.job else rest or list(follow.known.runs())
            found.append(Attach(request, tasks, follow.job))
        return found

    def learn(self, info: JobInfo, say: Callable[[Attach], None]) -> bool:
        """Take in what the coordinator says of a request; whether anybody asked.

        A job may have lost tasks with its coordinator, or over time. They are asked for by
        themselves, under a number that nobody else uses, to be told what became of them.
        """
        follow = self._follows.get(info.request)
        if follow is None:
            return False
        follow.answered = True
        if info.error:
            del self._follows[info.request]
        if info.error or follow.asked_again:
            follow.asked_again = False
            listed = TaskSet(info.tasks)
            missing = [
                (session, a, b - a)
                for session, first, count in follow.known.runs()
                if session != self._own  # those are sent again, or were cancelled before
                for lo, hi in self._open.overlap(session, first, first + count)
                for a, b in listed.gaps(session, lo, hi)
            ]
            if missing:
                say(Attach(NOBODYS_REQUEST, missing))
        for session, first, count in info.tasks:
            for a, b in follow.known.gaps(session, first, first + count):
                follow.known.add(session, a, b)
                self._open.add(session, a, b)
        follow.complete = not follow.job or info.state == "sealed"
        return True

    def settle(self, session: bytes, first: int, stop: int) -> list[tuple[int, int]]:
        """Which of these tasks were waited for; they no longer are."""
        return self._open.take(session, first, stop) if self._open else []
