"""Dead tasks: kept with the evidence of each attempt until somebody has looked after them.

The outcome of a dead task is published as every other, and goes its way. What is kept here is a
record of its own, with all that is needed to look into the task, and to submit its like again. It
goes when it is told to, when its time is over, or when there are too many: the oldest first.
"""

from collections.abc import Iterator
from typing import NamedTuple

from farm.core.batch import Batch
from farm.core.blobs import names_in
from farm.core.ledger import Ledger
from farm.core.sessions import Session
from farm.model import State, TaskId
from farm.protocol.parts import Failure, Group
from farm.protocol.records import Buried

__all__ = ["DeadTask", "DeadTasks"]


NEVER = float("inf")


class DeadTask(NamedTuple):
    """What is known of a dead task without reading its record."""

    ref: int
    id: TaskId
    function: bytes
    job: str
    at: float
    size: int
    failure: Failure
    blobs: list[str]
    owner: str


class DeadTasks:
    """All dead tasks, the oldest first.

    The time of none of them is over before ``due``.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._all: dict[TaskId, DeadTask] = {}
        self._bytes = 0
        self.due = NEVER

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[DeadTask]:
        """Those that are committed."""
        committed = self._ledger.committed
        return (dead for dead in self._all.values() if dead.ref <= committed)

    def blobs(self) -> Iterator[str]:
        """The blobs of all of them, committed or not."""
        return (name for dead in self._all.values() for name in dead.blobs)

    def find(self, task: TaskId, who: Session) -> DeadTask | None:
        """One that is committed, if this session may know of it."""
        found = self._all.get(task)
        if found is None or found.ref > self._ledger.committed:
            return None
        return found if who.sees_all or found.owner == who.owner else None

    def bury(self, batch: Batch, group: Group, attempts: list[Failure], now: float) -> None:
        """A task is dead. Persists that, to be followed by its outcome."""
        ledger = self._ledger
        job = (batch.job.name or batch.job.id) if batch.job else ""
        record = Buried(ledger.wall(now), batch.session.id, group, job, attempts, batch.owner)
        self._add(ledger.persist(record), record, now)

    def restore(self, ref: int, record: Buried) -> None:
        """A stored record, when all tasks are known."""
        first = record.group.first
        session = self._ledger.sessions.get(record.session)
        batches = session.batches.overlap(first, 1) if session else ()
        if any(batch.states[lo] < State.SUCCEEDED for batch, lo, _ in batches):
            self._ledger.port.prune([ref])  # its outcome was not committed: it runs again
            return
        self._add(ref, record, self._ledger.monotonic(record.at))

    def _add(self, ref: int, record: Buried, at: float) -> None:
        ledger = self._ledger
        group = record.group
        task = TaskId(record.session, group.first)
        self.drop(task)
        size = group.size + sum(failure.weight for failure in record.attempts)
        last = record.attempts[-1].brief()
        blobs = names_in(group.payloads)
        self._all[task] = DeadTask(
            ref, task, group.function, record.job, at, size, last, blobs, record.owner
        )
        self.due = min(self.due, at + ledger.settings.result_ttl)
        ledger.share(blobs)  # the batch has them still
        self._bytes += size
        ledger.functions.acquire(group.function, durable=True)
        settings = ledger.settings
        while len(self) > settings.dead_tasks or (self._bytes > settings.dead_bytes and self._all):
            self.drop(next(iter(self._all)))

    def drop(self, task: TaskId) -> bool:
        """Forget a dead task; whether it was known."""
        dead = self._all.pop(task, None)
        if dead is None:
            return False
        self._bytes -= dead.size
        self._ledger.functions.release(dead.function)
        self._ledger.port.prune([dead.ref])
        self._ledger.release(dead.blobs)
        return True

    # ------------------------------------------------------------ time

    def on_tick(self, now: float) -> None:
        """Forget those whose time is over."""
        self.due = NEVER
        while self._all:
            oldest = next(iter(self._all.values()))
            self.due = oldest.at + self._ledger.settings.result_ttl
            if self.due > now:
                break
            self.drop(oldest.id)
