"""Questions about dead tasks, and about what the attempts of any task have left behind."""

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from farm.core.batch import Batch
from farm.core.blobs import whole
from farm.core.dead import DeadTask, DeadTasks
from farm.core.ledger import Ledger
from farm.core.queue_credit import cut
from farm.core.rights import why_not_admin
from farm.core.sessions import Session
from farm.model import TaskId
from farm.protocol.parts import Failure, Group
from farm.protocol.records import Arguments, Buried, Finished, Record

__all__ = ["DeadQueries", "Pending"]

LIMIT = 100
LIMIT_MAX = 10_000
IDS_MAX = 1_000
"""Ids in one order."""
Row = dict[str, Any]


class Pending(NamedTuple):
    """An answer that needs a record of the store; ``finish`` makes it from that."""

    ref: int
    finish: Callable[[Record | None], Any]


class DeadQueries:
    """``kinds`` has the questions that are answered here."""

    def __init__(self, ledger: Ledger, dead: DeadTasks) -> None:
        self._ledger = ledger
        self._dead = dead
        self.kinds: dict[str, Callable[[Row, float, Session], Any]] = {
            "dead": self._list,
            "dead_task": self._payload,
            "drop_dead": self._drop,
        }

    def _list(self, arguments: Row, now: float, who: Session) -> list[Row]:
        """Dead tasks, the oldest first; ``function`` and ``job`` choose among them."""
        limit = max(1, min(LIMIT_MAX, int(arguments.get("limit") or LIMIT)))
        function, job = arguments.get("function"), arguments.get("job")
        found: list[Row] = []
        for dead in self._dead:
            if not (who.sees_all or dead.owner == who.owner):
                continue
            row = self._row(dead, now)
            if (not function or function == row["function"]) and (not job or job == row["job"]):
                found.append(row)
            if len(found) == limit:
                break
        return found

    def _row(self, dead: DeadTask, now: float) -> Row:
        failure = dead.failure
        return {
            "id": str(dead.id),
            "function": self._ledger.functions.name(dead.function),
            "job": dead.job,
            "cause": failure.cause,
            "message": failure.message,
            "host": failure.host,
            "losses": failure.losses,
            "age_seconds": max(0.0, now - dead.at),
            "bytes": dead.size,
        }

    def _payload(self, arguments: Row, now: float, who: Session) -> Pending:
        """A dead task as it was submitted: its group, encoded, for a client to submit again."""
        dead = self._find(arguments, who)
        row = self._row(dead, now)

        def finish(record: Record | None) -> Row:
            if (
                dead.blobs and self._dead.find(dead.id, who) is not dead
            ):  # forgotten, and its blobs too
                raise ValueError(f"task {dead.id} is not among the dead that are kept any more")
            group = whole(self._ledger.port, _called(record, dead.id), dead.id)
            return row | {"group": msgspec.msgpack.encode(group)}

        return Pending(dead.called, finish)

    def _drop(self, arguments: Row, _now: float, who: Session) -> int:
        """Forget dead tasks, by ``ids``; how many were known. Those of others only for an admin."""
        ids = list(arguments.get("ids") or ())
        if len(ids) > IDS_MAX:
            raise ValueError(f"{len(ids)} ids at a time; {IDS_MAX} can be")
        tasks = [TaskId.parse(str(text)) for text in ids]
        known = [dead for task in tasks if (dead := self._dead.find(task, who)) is not None]
        others = any(dead.owner != who.owner for dead in known)
        if others and (why := why_not_admin(who, "forget dead tasks of others")):
            raise ValueError(why)
        return sum(self._dead.drop(dead.id) for dead in known)

    def _find(self, arguments: Row, who: Session) -> DeadTask:
        task = TaskId.parse(str(arguments.get("id", "")))
        dead = self._dead.find(task, who)
        if dead is None:
            raise ValueError(f"task {task} is not among the dead that are kept")
        return dead

    # ------------------------------------------------------------ the evidence of one task

    def of_batch(self, row: Row, batch: Batch, index: int) -> Row | Pending:
        """A row with the attempts of a task whose batch is there."""
        outcome = batch.outcome(index)
        if outcome is None:
            own = batch.diverged.get(index)
            return row | {"attempts": [attempt_row(one) for one in own.attempts] if own else []}
        if outcome.failure is None or not outcome.ref:
            return row | _evidence([], outcome.failure)

        def finish(record: Record | None) -> Row:
            if isinstance(record, Finished) and outcome.entry < len(record.entries):
                entry = record.entries[outcome.entry]
                return row | _evidence(entry.attempts, entry.failure)
            return row | _evidence([], None)

        return Pending(outcome.ref, finish)

    def of_dead(
        self, task: TaskId, now: float, who: Session, row: Row | None = None
    ) -> Pending | None:
        """A row of a dead task with its attempts; None if it is not dead, or not kept."""
        dead = self._dead.find(task, who)
        if dead is None:
            return None
        basis = row or {"state": "dead", "ending": "lost", "count": 1, **self._row(dead, now)}
        basis |= {"losses": dead.failure.losses, "failure": dead.failure.message}

        def finish(record: Record | None) -> Row:
            attempts = _buried(record, task).attempts
            return basis | {"attempts": [attempt_row(one) for one in attempts]}

        return Pending(dead.ref, finish)


def _called(record: Record | None, task: TaskId) -> Group:
    """The group of a dead task alone, with its arguments."""
    if isinstance(record, Arguments):
        at = task.counter - record.group.first
        return cut(record.group, at, at + 1)
    return _buried(record, task).group


def _buried(record: Record | None, task: TaskId) -> Buried:
    if not isinstance(record, Buried):
        raise ValueError(f"task {task} is not among the dead that are kept any more")  # noqa: TRY004
    return record


def _evidence(before: list[Failure], last: Failure | None) -> Row:
    """The attempts of a task that is over, and why it failed, if it did."""
    if last is None:
        return {"attempts": [attempt_row(one) for one in before]}
    attempts = [attempt_row(one) for one in (*before, last)]
    return {"attempts": attempts, "failure": last.message or last.cause}


def attempt_row(failure: Failure) -> Row:
    """The evidence of an attempt as plain data."""
    row = {field: getattr(failure, field) for field in failure.__struct_fields__}
    del row["final"], row["losses"]
    return row | {"output": failure.output.decode("utf-8", "replace")}
