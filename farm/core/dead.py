"""Dead tasks: kept with the evidence of each attempt until somebody has looked after them.

The outcome of a dead task is published as every other, and goes its way. What is kept here is a
record of its own, with all that is needed to look into the task, and to submit its like again. It
goes when it is told to, when its time is over, or when there are too many: the oldest first.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from farm.core.batch import Batch
from farm.core.blobs import names_in
from farm.core.ledger import Ledger
from farm.core.sessions import Session
from farm.model import State, TaskId
from farm.protocol.parts import Failure, Group
from farm.protocol.records import Arguments, Buried

__all__ = ["DeadTask", "DeadTasks"]


NEVER = float("inf")
Burial = tuple[Batch, Group, list[Failure]]
"""A task that is dead, alone in its group, and the evidence of its attempts."""


class DeadTask(NamedTuple):
    """What is known of a dead task without reading its record; ``called`` has its arguments."""

    ref: int
    id: TaskId
    function: bytes
    job: str
    at: float
    size: int
    failure: Failure
    blobs: list[str]
    owner: str
    called: int


class _InCommon:
    """A record of arguments, and how many need it: dead tasks, and who adds them just now."""

    __slots__ = ("blobs", "needed", "size")

    def __init__(self, group: Group) -> None:
        self.size = group.size
        self.blobs = names_in(group.payloads)
        self.needed = 1


class DeadTasks:
    """All dead tasks, the oldest first.

    The time of none of them is over before ``due``.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._all: dict[TaskId, DeadTask] = {}
        self._in_common: dict[int, _InCommon] = {}
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
        for dead in self._all.values():
            if dead.called == dead.ref:
                yield from dead.blobs
        for shared in self._in_common.values():
            yield from shared.blobs

    def find(self, task: TaskId, who: Session) -> DeadTask | None:
        """One that is committed, if this session may know of it."""
        found = self._all.get(task)
        if found is None or found.ref > self._ledger.committed:
            return None
        return found if who.sees_all or found.owner == who.owner else None

    def bury(self, burials: Sequence[Burial], now: float) -> None:
        """Tasks are dead. Persists that, to be followed by their outcomes.

        Items of a packed task that die together have their arguments in one record.
        """
        ledger = self._ledger
        packed: dict[Batch, list[Group]] = {}
        for batch, group, _ in burials:
            if group.packed:
                packed.setdefault(batch, []).append(group)
        shared = {
            batch: self._bury_in_common(batch, groups)
            for batch, groups in packed.items()
            if len(groups) > 1
        }
        for batch, group, attempts in burials:
            job = (batch.job.name or batch.job.id) if batch.job else ""
            called = shared.get(batch, 0)
            own = msgspec.structs.replace(group, payloads=[b""], size=0) if called else group
            record = Buried(
                ledger.wall(now), batch.session.id, own, job, attempts, batch.owner, called
            )
            self._add(ledger.persist(record), record, now)
        for called in shared.values():
            self._let_go(called)

    def _bury_in_common(self, batch: Batch, groups: list[Group]) -> int:
        first = min(groups, key=lambda group: group.first)
        last = max(group.first for group in groups)
        group = msgspec.structs.replace(first, count=last + 1 - first.first)
        ref = self._ledger.persist(Arguments(batch.session.id, group))
        self.restore_arguments(ref, group)
        return ref

    def restore_arguments(self, ref: int, group: Group) -> None:
        """A record of arguments, before those that name it; kept until ``restored`` at least."""
        shared = self._in_common[ref] = _InCommon(group)
        self._bytes += shared.size
        self._ledger.share(shared.blobs)  # the batch has them still

    def restore(self, ref: int, record: Buried) -> None:
        """A stored record, when all tasks are known."""
        first = record.group.first
        session = self._ledger.sessions.get(record.session)
        batches = session.batches.overlap(first, 1) if session else ()
        lost = record.arguments and record.arguments not in self._in_common
        if lost or any(batch.states[lo] < State.SUCCEEDED for batch, lo, _ in batches):
            self._ledger.port.prune([ref])  # its outcome was not committed: it runs again
            return
        self._add(ref, record, self._ledger.monotonic(record.at))

    def restored(self) -> None:
        """All records are here: arguments that nobody names go."""
        for ref in list(self._in_common):
            self._let_go(ref)

    def _add(self, ref: int, record: Buried, at: float) -> None:
        ledger = self._ledger
        group = record.group
        task = TaskId(record.session, group.first)
        self.drop(task)
        weight = sum(failure.weight for failure in record.attempts)
        last = record.attempts[-1].brief()
        if shared := self._in_common.get(record.arguments):
            shared.needed += 1
            self._bytes += weight
            size, blobs = shared.size + weight, shared.blobs
        else:
            size, blobs = group.size + weight, names_in(group.payloads)
            self._bytes += size
            ledger.share(blobs)  # the batch has them still
        self._all[task] = DeadTask(
            ref, task, group.function, record.job, at, size, last, blobs, record.owner,
            record.arguments or ref,
        )  # fmt: skip
        self.due = min(self.due, at + ledger.settings.result_ttl)
        ledger.functions.acquire(group.function, durable=True)
        settings = ledger.settings
        while len(self) > settings.dead_tasks or (self._bytes > settings.dead_bytes and self._all):
            self.drop(next(iter(self._all)))

    def drop(self, task: TaskId) -> bool:
        """Forget a dead task; whether it was known."""
        dead = self._all.pop(task, None)
        if dead is None:
            return False
        self._ledger.functions.release(dead.function)
        self._ledger.port.prune([dead.ref])
        if shared := self._in_common.get(dead.called):
            self._bytes -= dead.size - shared.size
            self._let_go(dead.called)
        else:
            self._bytes -= dead.size
            self._ledger.release(dead.blobs)
        return True

    def _let_go(self, called: int) -> None:
        """Arguments are needed by one less."""
        shared = self._in_common[called]
        shared.needed -= 1
        if not shared.needed:
            del self._in_common[called]
            self._bytes -= shared.size
            self._ledger.port.prune([called])
            self._ledger.release(shared.blobs)

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
