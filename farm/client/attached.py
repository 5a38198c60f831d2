"""A job of any session as a client that attached to it knows it."""

from collections.abc import Callable
from typing import Any

from farm.client.future import Future, Origin
from farm.model import job_id
from farm.protocol.messages import JobInfo
from farm.ranges import RangeSet

__all__ = ["AttachedJob"]


class AttachedJob:
    """The futures of a job's tasks, in order, as far as the coordinator has told of them.

    Filled on the IO thread, read from others; ``state`` is ``open``, ``sealed`` or ``abandoned``.
    """

    def __init__(
        self,
        origin: Callable[[bytes], Origin],
        follow: Callable[[Future[Any], bytes], None],
    ) -> None:
        self.id = self.name = self.state = ""
        self.futures: list[Future[Any]] = []
        self._origin, self._follow = origin, follow
        self._known = RangeSet()

    def learn(self, info: JobInfo) -> None:
        """The coordinator tells of the job: make futures for the tasks that are new."""
        if info.error:
            return
        self.id, self.name, self.state = job_id(info.session, info.job), info.name, info.state
        origin = self._origin(info.session)
        for session, first, count in info.tasks:
            for a, b in self._known.gaps(first, first + count):
                self._known.add(a, b)
                for counter in range(a, b):
                    future: Future[Any] = Future(origin, counter)
                    self._follow(future, session)
                    self.futures.append(future)
