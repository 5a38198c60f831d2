"""What a task can know about itself while it runs, and do: ``current_task``, ``current_client``.

A worker runs one task at a time, so there is one current task in a process, seen from every
thread of it. Using a ``TaskContext`` after its task has ended is harmless and does nothing.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from farm.model import Token

if TYPE_CHECKING:
    from farm.client.client import Client

__all__ = ["TaskContext", "current_client", "current_task", "set_source"]

NOTE_CHARS_MAX = 1_000
Report = Callable[["TaskContext", float, float, str], None]


class TaskContext:
    """The task that is running.

    ``id`` is the same in every attempt, ``token`` greater in every later one: effects on other
    systems can be made idempotent by ``(id, item)`` and fenced by ``token``. ``item`` is the index
    in the ``map`` or ``submit_many`` that the task came from, 0 for a single ``submit``.
    ``attempt`` counts from 1. ``deadline`` is when its time limit ends it, in seconds as
    ``time.time()`` has them, or None.
    """

    __slots__ = ("_report", "attempt", "deadline", "id", "item", "token")

    def __init__(
        self,
        id: str,  # noqa: A002 -- the name that users see
        item: int,
        attempt: int,
        token: Token,
        deadline: float | None,
        *,
        report: Report,
    ) -> None:
        self.id = id
        self.item = item
        self.attempt = attempt
        self.token = token
        self.deadline = deadline
        self._report = report

    def __repr__(self) -> str:
        return f"TaskContext(id={self.id!r}, item={self.item}, attempt={self.attempt})"

    def progress(self, done: float, total: float = 0, note: str = "") -> None:
        """Say how far the task is; shown as ``future.progress``. Cheap enough for every step.

        What is said within 100 ms of the last is sent only if nothing newer comes; of a note, its
        first 1,000 characters.
        """
        self._report(self, float(done), float(total), str(note)[:NOTE_CHARS_MAX])


_source: Callable[[], TaskContext | None] | None = None
_client: "Callable[[], Client] | None" = None


def current_task() -> TaskContext:
    """The task that this code runs in; raises ``RuntimeError`` outside of one."""
    task = _source() if _source is not None else None
    if task is None:
        raise RuntimeError("farm.current_task() was called outside a task: no task is running here")
    return task


def current_client() -> "Client":
    """A client of the farm that runs this task: what the task submits with it are its children.

    Call it in each task that uses it; the tasks of one worker process share one. While the task
    waits for a future of it, another task may have its slot. Where another client would wait for
    room, ``submit`` raises ``Busy``. What a task has submitted is accepted before its own outcome
    counts. Raises ``RuntimeError`` outside a task, and ``ConnectionError`` if the farm does not
    answer.
    """
    if _client is None or _source is None or _source() is None:
        raise RuntimeError(
            "farm.current_client() was called outside a task: make a client of your own, with "
            "farm.Client(ADDRESS) or farm.local()"
        )
    return _client()


def set_source(
    source: Callable[[], TaskContext | None] | None,
    client: "Callable[[], Client] | None" = None,
) -> None:
    """For the worker process: where ``current_task`` and ``current_client`` get their answers."""
    global _source, _client
    _source, _client = source, client
