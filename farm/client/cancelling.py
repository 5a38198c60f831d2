"""Cancelling and stopping tasks, for callers of any thread."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from farm.client.future import Future
from farm.client.replies import Reply
from farm.client.session import Session
from farm.client.waiting import runs_of
from farm.errors import FarmError
from farm.model import TaskId, parse_job_id
from farm.protocol.messages import TaskRun

__all__ = ["Cancelling"]

CANCEL_SECONDS = 5.0
"""How long whoever cancels or stops waits to hear whether that is so."""


class Cancelling:
    """What a connection can be asked for to end tasks; a ``grace`` stops those that run, too.

    ``ask`` has a function called on the IO thread with a request's number, the session and the
    time; ``is_over``: nobody would answer; ``is_io``: this is the IO thread, in which a finalizer
    may run, and which must not wait for itself.
    """

    def __init__(
        self,
        ask: Callable[[Callable[[int, Session, float], None]], Reply],
        is_over: Callable[[], bool],
        is_io: Callable[[], bool],
    ) -> None:
        self._ask = ask
        self._is_over = is_over
        self._is_io = is_io

    def tasks(self, tasks: list[TaskRun], grace: float | None = None) -> Reply:
        """Ask for tasks to be cancelled."""
        return self._ask(lambda request, session, now: session.cancel(request, tasks, now, grace))

    def all(self) -> Reply:
        """Ask for all tasks of this session to be cancelled."""

        def cancel(request: int, session: Session, now: float) -> None:
            runs = [(session.session, first, stop - first) for first, stop in session.open]
            session.cancel(request, runs, now)

        return self._ask(cancel)

    def job(self, job: str, futures: Sequence[Future[Any]], grace: float | None = None) -> int:
        """Cancel tasks of a job; how many will not run (on), as far as is known soon."""
        found = parse_job_id(job)
        if found is None or not futures or self._is_over():
            return 0
        reply = self.tasks(runs_of(found[0], futures), grace)
        answer = None if self._is_io() else reply.wait(CANCEL_SECONDS)
        if answer is None:
            return 0
        return sum(run[2] for run in (*answer.cancelled, *answer.stopped, *answer.stopping))

    def future(self, future: Future[Any], wait: bool, grace: float | None = None) -> bool:
        """Cancel one task; whether it never ran, or, with a grace, whether it is being ended."""
        if self._is_over():
            return False
        task = (TaskId.parse(future.id).session, future.counter, 1)
        reply = self.tasks([task], grace)
        with contextlib.suppress(FarmError, RuntimeError):  # it ended meanwhile: not cancelled
            answer = reply.wait(CANCEL_SECONDS) if wait and not self._is_io() else None
            if answer is None:
                return False
            ends = task in answer.stopped or task in answer.stopping
            return task in answer.cancelled or (grace is not None and ends)
        return False
