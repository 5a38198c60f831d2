"""The checkers of the journal and of what the coordinator says: at every step.

They watch from outside: records and messages as they pass the coordinator's port, compared with
the truth. What a machine holds inside is checked by ``farm.core.invariants``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from farm.model import Ending
from farm.protocol.messages import (
    Accepted,
    Assign,
    CancelReply,
    ClientHello,
    ClientWelcome,
    HostWelcome,
    Noted,
    Report,
    Results,
    Taken,
)
from farm.protocol.records import AttemptEnd, AttemptsEnded, Finished, Submitted, encode_record
from tests.sim import work
from tests.sim.journal import Append, Delete
from tests.sim.truth import Violation, ids, named, outcomes

if TYPE_CHECKING:
    from typing import Any

    from farm.core import CoreSettings
    from farm.protocol.records import Record
    from tests.sim.journal import Change, Disk
    from tests.sim.network import Connection
    from tests.sim.truth import Id, Outcome, Task, Truth
    from tests.sim.world import World

__all__ = ["Checks"]

NO_OUTCOME = (Ending.UNKNOWN, Ending.DELIVERED)


class Checks:
    """Watches one coordinator after the other, and the one disk."""

    def __init__(self, world: World, settings: CoreSettings) -> None:
        self.world = world
        self.truth: Truth = world.truth
        self.settings = settings
        self._window: dict[Any, int] = {}
        self._flying: dict[Any, dict[int, int]] = {}
        self._reports: dict[Any, dict[int, Report]] = {}

    @property
    def disk(self) -> Disk:
        return self.world.disk

    @property
    def wall(self) -> float:
        return self.world.wall

    def restarted(self, epoch: int) -> None:
        """A new coordinator process, which knows what is committed."""
        self.truth.process += 1
        self.truth.epoch = epoch
        self._window.clear()
        self._flying.clear()
        self._reports.clear()
        for task in self.truth.tasks.values():
            facts = self.truth.committed[task.id]
            task.known = facts.accepted
            task.admitted = self.wall if facts.accepted and facts.outcome is None else -1.0

    # ------------------------------------------------------------ the journal

    def persisted(self, ref: int, record: Record) -> None:
        """The coordinator hands a record over."""
        if ref <= max(self.truth.written.records, default=0) or ref <= self.disk.commit:
            raise Violation("journal", f"record {ref} comes after a greater one")
        match record:
            case Finished():
                for entry in record.entries:
                    for task, outcome in outcomes(entry):
                        self._finished(task, outcome)
            case AttemptsEnded():
                for entry in record.entries:
                    self._attempts_ended(entry)
            case Submitted():
                for task in named(record):
                    self._admitted(self.truth.tasks[task])
        self.truth.written.apply(ref, record)

    def is_copy(self, record: Submitted) -> bool:
        """Whether a record copies out the living tasks of another."""
        return all(self.truth.written[task].accepted for task in named(record))

    def _attempts_ended(self, entry: AttemptEnd) -> None:
        for task in ids(entry.session, entry.first, entry.count):
            if entry.attempt < self.truth.written[task].attempt:
                raise Violation("token", f"{task[1]} goes back to {entry.attempt}")

    def _admitted(self, task: Task) -> None:
        facts = self.truth.written[task.id]
        if facts.outcome is not None and not facts.finished and not facts.taken:
            raise Violation("accepted twice", f"{task.name} was over and is accepted again")
        if task.admitted < 0:
            task.admitted = self.wall
            self._within_bounds()

    def _within_bounds(self) -> None:
        """Admission is exact: never more open tasks and bytes than the settings allow."""
        units: dict[tuple[bytes, int], int] = {}
        for task in self.truth.tasks.values():
            if task.admitted >= 0 and not self._is_over(task):
                group = (task.id[0], task.group if task.packed else task.id[1])
                units[group] = len(task.work)
        if len(units) > self.settings.max_tasks:
            raise Violation("admission", f"{len(units)} tasks, {self.settings.max_tasks} allowed")

    def _is_over(self, task: Task) -> bool:
        if task.durable:
            return self.truth.written[task.id].outcome is not None
        return task.published is not None or task.settled is not None

    def _finished(self, task: Id, outcome: Outcome) -> None:
        facts = self.truth.written[task]
        if facts.outcome is not None and facts.outcome != outcome:
            raise Violation("two outcomes", f"{task[1]}: {facts.outcome} and {outcome}")
        if facts.outcome is None:
            self._token_counts(self.truth.tasks[task], outcome)

    def _token_counts(self, task: Task, outcome: Outcome) -> None:
        """The attempt that made an outcome was not fenced off."""
        token = work.made_by(outcome.payload, task.id)
        if token and self.truth.is_stale(task, *token):
            raise Violation("stale token", f"{task.name}: outcome of {token} accepted")

    def pruned(self, refs: list[int]) -> None:
        """The coordinator asks for records to be deleted."""
        self.truth.written.delete(refs)

    def committing(self, changes: list[Change]) -> None:
        """One transaction; what is committed must be enough to start again from, at any time."""
        book = self.truth.committed
        touched: set[Id] = set()
        for change in changes:
            if isinstance(change, Append):
                if encode_record(change.record) != change.data:
                    raise Violation("journal", f"record {change.ref} changed after hand-over")
                book.apply(change.ref, change.record)
            elif isinstance(change, Delete):
                touched |= book.delete(change.refs)
        for task in sorted(touched):
            self._enough_left(self.truth.tasks[task])

    def _enough_left(self, task: Task) -> None:
        facts = self.truth.committed[task.id]
        if facts.outcome is None:
            if facts.accepted and not facts.submitted:
                raise Violation("pruned early", f"{task.name} has no outcome and no record")
            return
        if facts.submitted and not facts.finished and not facts.taken:
            raise Violation("pruned early", f"{task.name} is over and would run again")
        if not facts.finished and not self.may_forget(task):
            raise Violation("pruned early", f"the outcome of {task.name} is still wanted")
        if not facts.submitted:
            accepted = self.truth.committed.marks.get(task.id[0], ())
            if not any(first <= task.id[1] < first + count for first, count in accepted):
                raise Violation("id forgotten", f"{task.name} could be accepted again")

    def may_forget(self, task: Task) -> bool:
        """Whether the owner has the outcome, or its time is over."""
        ttl = task.template.result_ttl
        if ttl is None and (task.job or task.settled is None):
            ttl = self.settings.result_ttl
        if ttl is None:
            return task.settled is not None
        return self.wall - self.truth.committed[task.id].finished_at >= ttl - 1e-3

    # ------------------------------------------------------------ messages

    def sent(self, connection: Connection, message: Any) -> None:
        """The coordinator says something."""
        match message:
            case Accepted():
                self._commit_number(message.commit)
                for first, count in message.runs:
                    self._accepted(connection, first, count)
            case Results():
                self._commit_number(message.commit)
                self._results(connection, message)
            case CancelReply():
                for run in message.cancelled:
                    for task in self.truth.run(*run):
                        self._cancelled(task)
            case Assign():
                self._assign(connection, message)
            case Noted():
                self._commit_number(message.commit)
                self._noted(connection, message.number)
            case ClientWelcome() | HostWelcome():
                self._commit_number(message.commit)

    def received(self, connection: Connection, message: Any) -> None:
        """The coordinator hears something."""
        match message:
            case ClientHello():
                self._window[connection] = message.window_bytes
                self._flying[connection] = {}
            case Taken():
                flying = self._flying.get(connection, {})
                for number in [n for n in flying if n <= message.number]:
                    del flying[number]
            case Report():
                self._reports.setdefault(connection.dealer, {})[message.number] = message

    def _commit_number(self, commit: int) -> None:
        if commit > self.disk.commit:
            raise Violation("commit number", f"{commit} was said, {self.disk.commit} is committed")

    def _accepted(self, connection: Connection, first: int, count: int) -> None:
        for task in self.truth.run(connection.dealer.session, first, count):
            if task.durable and not self.truth.committed[task.id].accepted:
                raise Violation("acknowledged before commit", task.name)

    def _results(self, connection: Connection, message: Results) -> None:
        size = sum(entry.size for entry in message.entries)
        flying = self._flying.setdefault(connection, {})
        if flying and sum(flying.values()) + size > self._window.get(connection, 0):
            raise Violation("results window", f"{connection}: {flying} and {size} bytes more")
        flying[message.number] = size
        for entry in message.entries:
            for task, outcome in outcomes(entry):
                if task in self.truth.tasks:
                    self._published(self.truth.tasks[task], outcome)

    def _published(self, task: Task, outcome: Outcome) -> None:
        if outcome.ending in NO_OUTCOME:
            return
        if task.durable:
            facts = self.truth.committed[task.id]
            if facts.outcome is None:
                raise Violation("published before commit", f"{task.name}: {outcome}")
            if facts.outcome != outcome:
                raise Violation("two outcomes", f"{task.name}: {facts.outcome}, sent {outcome}")
            if task.published not in (None, outcome) and self.disk.durable:
                raise Violation("two outcomes", f"{task.name}: {task.published}, then {outcome}")
        else:
            self._token_counts(task, outcome)
        task.published = outcome

    def _cancelled(self, task: Task) -> None:
        task.cancel_confirmed = True
        if task.durable:
            if self.truth.committed[task.id].outcome is None:
                raise Violation("acknowledged before commit", f"the cancel of {task.name}")
            for execution in task.executions:
                if not self.truth.is_stale(task, execution.epoch, execution.attempt):
                    raise Violation("cancelled task ran", f"{task.name}: {execution}")

    # ------------------------------------------------------------ leases

    def _assign(self, connection: Connection, message: Assign) -> None:
        for grant in message.grants:
            self.truth.leases[message.epoch, grant.lease] = grant.session
            for task in self.truth.run(grant.session, grant.first, grant.count):
                self._leased(task, message.epoch, grant.attempt)

    def _leased(self, task: Task, epoch: int, attempt: int) -> None:
        truth = self.truth
        if truth.written[task.id].outcome is not None:
            raise Violation("ran after its outcome", f"{task.name} is leased after its outcome")
        if task.cancel_confirmed and task.durable:
            raise Violation("cancelled task ran", f"{task.name} is leased after its cancel")
        if task.durable and truth.is_stale(task, epoch, attempt):
            raise Violation("stale token", f"{task.name} is leased under ({epoch}, {attempt})")
        if task.assigned:
            before = task.assigned[-1]
            if (epoch, attempt) <= before[:2]:
                raise Violation("token", f"{task.name}: ({epoch}, {attempt}) after {before[:2]}")
            if task.durable:
                self._fenced_off(task, before)
        task.assigned.append((epoch, attempt, truth.process))

    def _fenced_off(self, task: Task, before: tuple[int, int, int]) -> None:
        """The last attempt's end is committed before the next is leased."""
        epoch, attempt, process = before
        facts = self.truth.committed[task.id]
        if attempt < facts.attempt or epoch < facts.fence:
            return
        if process == self.truth.process:
            raise Violation("dispatched before commit", f"{task.name}: end of {before[:2]}")
        if task.known:
            raise Violation("dispatched before recovery", f"{task.name}: {before[:2]} may run")

    def _noted(self, connection: Connection, number: int) -> None:
        """A host may forget only what is committed."""
        reports = self._reports.get(connection.dealer, {})
        for done in [n for n in reports if n <= number]:
            for ended in reports.pop(done).ended:
                for task in self._tasks_of(ended.lease, ended.epoch, ended.first, ended.count):
                    self._end_committed(task, ended.epoch, ended.attempt)

    def _tasks_of(self, lease: int, epoch: int, first: int, count: int) -> list[Task]:
        session = self.truth.leases.get((epoch, lease))
        return self.truth.run(session, first, count) if session else []

    def _end_committed(self, task: Task, epoch: int, attempt: int) -> None:
        if not task.durable:
            return
        facts = self.truth.committed[task.id]
        if (
            self.truth.written[task.id].accepted
            and facts.outcome is None
            and not (attempt < facts.attempt or epoch < facts.fence)
        ):
            raise Violation("noted before commit", f"{task.name}: end of ({epoch}, {attempt})")
