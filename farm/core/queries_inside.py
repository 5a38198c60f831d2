"""Questions about what one task is and does: its call, its stack, what it has printed."""

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from farm.core.batch import SETTLED, Batch
from farm.core.blobs import whole
from farm.core.dead import DeadTasks
from farm.core.hosts import Lease
from farm.core.ledger import Ledger
from farm.core.queries_dead import Pending
from farm.core.questions import Running
from farm.core.rights import find_task, had_task
from farm.core.sessions import Session
from farm.model import State, TaskId
from farm.protocol.messages import Told
from farm.protocol.parts import COUNTER_MAX, Failure, Group, Payload
from farm.protocol.records import Arguments, Buried, Finished, Record, Submitted

__all__ = ["InsideQueries"]

Row = dict[str, Any]


class InsideQueries:
    """``kinds`` has the questions that are answered here."""

    def __init__(self, ledger: Ledger, dead: DeadTasks) -> None:
        self._ledger = ledger
        self._dead = dead
        self.kinds: dict[str, Callable[[Row, float, Session], Any]] = {
            "stack": self._stack,
            "logs": self._logs,
            "call": self._call,
            "function": self._function,
        }

    # ------------------------------------------------------------ the task

    def _meant(self, text: object, who: Session) -> TaskId:
        """The task of that id; of one that ends as another does, and has not, that other."""
        task = TaskId.parse(str(text or ""))
        found = find_task(self._ledger, task, who)
        if found is None:
            return task
        batch, index = found
        if batch.same is None or batch.states[index] != State.SCHEDULED:
            return task
        return TaskId(batch.same[0], batch.same[1] + index)

    def _lease(self, batch: Batch, index: int) -> Lease | None:
        """The lease that a task is in, if it is in one."""
        if batch.states[index] != State.LEASED:
            return None
        for host in self._ledger.hosts.all.values():
            for lease in host.leases.values():
                if lease.batch is batch and lease.live_in(index, index + 1):
                    return lease
        return None

    def _unknown(self, task: TaskId, who: Session) -> ValueError:
        if had_task(self._ledger, task, who):
            return ValueError(f"task {task} was delivered to its owner and is not kept")
        return ValueError(f"the farm has no task {task}")

    # ------------------------------------------------------------ its stack

    def _stack(self, arguments: Row, now: float, who: Session) -> Running:
        """The stacks of the threads of the worker that runs a task."""
        task = self._meant(arguments.get("id"), who)
        found = find_task(self._ledger, task, who)
        lease = self._lease(*found) if found else None
        if lease is None:
            raise ValueError(f"task {task} does not run; `farm explain` says where it is")

        def finish(told: Told) -> Row:
            if told.error:
                raise ValueError(told.error)
            return {
                "id": str(task),
                "host": lease.host.name,
                "attempt": lease.attempt,
                "running_seconds": max(0.0, now - lease.since),
                "stack": told.data.decode("utf-8", "backslashreplace"),
            }

        return Running(lease, task.counter, "stack", 0, finish)

    # ------------------------------------------------------------ what it has printed

    def _logs(self, arguments: Row, _now: float, who: Session) -> Row | Pending | Running:
        """The end of the output of each attempt; of ``attempt``, if it runs, from ``since`` on."""
        task = self._meant(arguments.get("id"), who)
        found = find_task(self._ledger, task, who)
        if (dead := self._dead.find(task, who)) is not None:
            answer = {"id": str(task), "state": "dead", "over": True}
            return Pending(dead.ref, lambda record: answer | {"attempts": _buried(record)})
        if found is None:
            raise self._unknown(task, who)
        batch, index = found
        state = batch.states[index]
        own = batch.diverged.get(index)
        answer = {
            "id": str(task),
            "state": "delivered" if state == SETTLED else State(state).name.lower(),
            "over": False,
            "attempts": _failed(own.attempts if own else ()),
        }
        lease = self._lease(batch, index)
        if lease is not None and lease.host.peer is not None:
            since = int(arguments.get("since") or 0)
            if arguments.get("attempt") != lease.attempt:
                since = 0
            return self._running(answer, lease, task.counter, min(max(0, since), COUNTER_MAX))
        return self._ended(answer, batch, index)

    def _running(self, answer: Row, lease: Lease, counter: int, since: int) -> Running:
        def finish(told: Told) -> Row:
            row = _row(lease.attempt, lease.host.name, told.data)
            row |= {"start": told.start, "over": False, "why": told.error}
            return answer | {"attempts": [*answer["attempts"], row]}

        return Running(lease, counter, "output", since, finish)

    def _ended(self, answer: Row, batch: Batch, index: int) -> Row | Pending:
        """Of a task that is over, once that is committed; else what there is."""
        outcome = batch.outcome(index)
        if outcome is None:
            return answer
        answer["over"] = True
        if not outcome.ref:  # not durable: there as long as it was not taken
            data = outcome.result.output if outcome.result else b""
            answer["attempts"].append(_row(outcome.attempt, outcome.host, data))
            return answer

        def finish(record: Record | None) -> Row:
            if not isinstance(record, Finished) or outcome.entry >= len(record.entries):
                raise ValueError(f"the output of task {answer['id']} is not kept any more")
            entry = record.entries[outcome.entry]
            attempts = _failed(entry.attempts)
            if outcome.host or entry.failure is not None:  # else it never ran
                attempts.append(_row(outcome.attempt, outcome.host, entry.printed))
                attempts[-1]["cause"] = entry.failure.cause if entry.failure else ""
            return answer | {"attempts": attempts}

        return Pending(outcome.ref, finish)

    # ------------------------------------------------------------ its call

    def _call(self, arguments: Row, _now: float, who: Session) -> Row | Pending:
        """A task as it was submitted: its group, encoded, for a client to call it."""
        task = self._meant(arguments.get("id"), who)
        if (dead := self._dead.find(task, who)) is not None:
            called = lambda record: self._called(_group_of(record, task), task)  # noqa: E731
            return Pending(dead.called, called)
        found = find_task(self._ledger, task, who)
        if found is None:
            raise self._unknown(task, who)
        batch, index = found
        kept = batch.states[index] < State.SUCCEEDED or (batch.packed and batch.open)
        if kept and not batch.stored:
            return self._called(batch.group(index, index + 1), task)
        row = batch.row
        if row is None and not batch.durable:
            raise ValueError(f"task {task} is not durable, and its call is gone with its end")
        if row is None or row.ref > self._ledger.committed:
            raise ValueError(f"task {task} is just being written to the store; ask again")
        return Pending(row.ref, lambda record: self._called(_group_of(record, task), task))

    def _called(self, group: Group | None, task: TaskId) -> Row:
        """The call of one task of a group."""
        payload: Payload = b""
        if group is not None:
            index = task.counter - group.first
            payload = group.payloads[0 if group.packed else index]
        if group is None or not payload:
            raise ValueError(
                f"the arguments of task {task} are not kept any more: they go when it has ended "
                "and its owner has the outcome, unless it is dead, or its results are kept"
            )
        start = group.start + index
        own = Group(task.counter, 1, group.function, [payload], len(payload), group.packed, start)
        own = whole(self._ledger.port, own, task)
        return {"id": str(task), "group": msgspec.msgpack.encode(own)}

    def _function(self, arguments: Row, _now: float, who: Session) -> Row:
        """The bytes of the function of a task."""
        task = self._meant(arguments.get("id"), who)
        dead, found = self._dead.find(task, who), find_task(self._ledger, task, who)
        if dead is not None:
            digest = dead.function
        elif found is not None:
            digest = found[0].function
        else:
            raise self._unknown(task, who)
        functions = self._ledger.functions
        if (data := functions.data(digest)) is None:
            raise ValueError(f"the function of task {task} is lost")
        return {"hash": digest, "name": functions.name(digest), "data": data}


def _group_of(record: Record | None, task: TaskId) -> Group | None:
    """The group in a record that a task belongs to."""
    match record:
        case Buried() | Arguments():
            groups = [record.group]
        case Submitted():
            groups = record.groups
        case _:
            groups = []
    return next((g for g in groups if g.first <= task.counter < g.first + g.count), None)


def _row(attempt: int, host: str, output: bytes) -> Row:
    return {
        "attempt": attempt,
        "host": host,
        "cause": "",
        "output": output,
        "start": 0,
        "over": True,
        "why": "",
    }


def _failed(failures: Iterable[Failure]) -> list[Row]:
    return [_row(one.attempt, one.host, one.output) | {"cause": one.cause} for one in failures]


def _buried(record: Record | None) -> list[Row]:
    if not isinstance(record, Buried):
        raise ValueError("the task is not among the dead that are kept any more")  # noqa: TRY004
    return _failed(record.attempts)
