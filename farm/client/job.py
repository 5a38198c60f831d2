"""A job: tasks that were submitted together, seen as one."""

from collections.abc import Iterator, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from farm.client.future import STOP_SECONDS, Future
from farm.model import Duration, seconds

__all__ = ["Job", "JobProgress", "OwnTasks"]

T = TypeVar("T")


class JobProgress(NamedTuple):
    """How many tasks a job has, how many are over, and of these how many were cancelled.

    ``running`` ones were handed to a worker and are not over.
    """

    total: int
    done: int
    running: int
    cancelled: int


class _Source(Protocol):
    """What is known of a job from elsewhere; changes while the job is open."""

    @property
    def futures(self) -> list[Future[Any]]:
        """Of the tasks, in order."""

    @property
    def state(self) -> str:
        """``open``, ``sealed`` or ``abandoned``."""


class _Cancel(Protocol):
    def __call__(
        self, job: str, futures: Sequence[Future[Any]], grace: float | None = None, /
    ) -> int: ...


class OwnTasks(NamedTuple):
    """The tasks of a job that was submitted here, and is complete."""

    futures: list[Future[Any]]
    state: str = "sealed"


class Job(Generic[T]):
    """Tasks of one name. ``len()`` counts them, iteration yields their futures in order.

    A job of another process grows while it is open; iteration yields what is known of it.
    """

    def __init__(
        self,
        job: str,
        name: str,
        source: _Source,
        cancel: _Cancel,
    ) -> None:
        self._id = job
        self._name = name
        self._source = source
        self._cancel = cancel

    def __repr__(self) -> str:
        progress = self.progress
        name = f" {self._name!r}" if self._name else ""
        return f"<Job{name} {self._id}: {progress.done} of {progress.total} tasks done>"

    def __len__(self) -> int:
        return len(self._source.futures)

    def __iter__(self) -> Iterator[Future[T]]:
        return iter(self._source.futures)

    @property
    def id(self) -> str:
        """The job's id, by which any client finds it."""
        return self._id

    @property
    def name(self) -> str:
        """The name that it was given, or an empty text."""
        return self._name

    @property
    def state(self) -> str:
        """``open``, ``sealed`` (no task will join), or ``abandoned`` (its client is gone)."""
        return self._source.state

    @property
    def progress(self) -> JobProgress:
        """How far it is, as known here."""
        futures = list(self._source.futures)
        return JobProgress(
            total=len(futures),
            done=sum(future.done() for future in futures),
            running=sum(future.running() for future in futures),
            cancelled=sum(future.cancelled() for future in futures),
        )

    def cancel(self) -> int:
        """Cancel all tasks that no worker is at; how many will not run, as far as is known soon.

        Among them may be tasks that ran before, and would have been tried again.
        """
        return self._cancel(self._id, self._open)

    def stop(self, grace: Duration = STOP_SECONDS) -> int:
        """End all its tasks, also those that run, as ``Future.stop`` does; how many that were.

        It stays as it is: a job that is open may get more tasks.
        """
        return self._cancel(self._id, self._open, seconds(grace, "grace"))

    @property
    def _open(self) -> list[Future[Any]]:
        return [future for future in self._source.futures if not future.done()]
