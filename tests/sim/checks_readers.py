"""The checkers of what clients are told: outcomes, within their windows, and credit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from farm.model import Ending
from farm.protocol.messages import (
    Attach,
    ClientHello,
    ClientWelcome,
    Credit,
    JobInfo,
    Refused,
    Results,
    Started,
    Submit,
    Taken,
)
from farm.protocol.records import JobSealed
from tests.sim.truth import Violation, ids, outcomes

if TYPE_CHECKING:
    from typing import Any

    from farm.protocol.parts import TaskRun
    from farm.protocol.records import Record
    from tests.sim.checks import Checks
    from tests.sim.network import Connection
    from tests.sim.truth import Id, Outcome, Task

__all__ = ["ReaderChecks"]

NO_OUTCOME = (Ending.UNKNOWN, Ending.DELIVERED)


class _Reader:
    """What the coordinator and one client have said to each other on a connection."""

    def __init__(self, window: int) -> None:
        self.window = window
        self.flying: dict[int, int] = {}  # results not taken: their sizes by number
        self.granted = (0, 0)
        self.received = (0, 0)
        self.refused = 0
        self.asked: set[Id] = set()  # tasks of others, by name or with their job


class ReaderChecks:
    """Watches the coordinator's side of every client's connection."""

    def __init__(self, checks: Checks) -> None:
        self._checks = checks
        self._truth = checks.truth
        self._readers: dict[Connection, _Reader] = {}
        self._seals: set[tuple[bytes, int]] = set()  # committed: by session and job

    def restarted(self) -> None:
        """Connections count from zero."""
        self._readers.clear()
        self._seals.clear()
        for record in self._truth.committed.records.values():
            self.committed(record)

    def committed(self, record: Record) -> None:
        """A record is committed; it may be deleted in the same moment."""
        if isinstance(record, JobSealed):
            self._seals.add((record.session, record.job))

    def sent(self, connection: Connection, message: Any) -> None:
        """The coordinator tells a client something."""
        match message:
            case Results():
                self._results(connection, message)
            case ClientWelcome():
                self._credit(connection, message.credit_tasks, message.credit_bytes)
            case Credit():
                self._credit(connection, message.tasks, message.bytes)
            case Refused():
                self._readers[connection].refused += 1
            case JobInfo() if message.job and not message.request:
                self._sealed(message)
            case JobInfo():
                self._asked(connection, message.tasks)
            case Started():
                self._started(connection, message)

    def received(self, connection: Connection, message: Any) -> None:
        """A client tells the coordinator something."""
        match message:
            case ClientHello():
                self._readers[connection] = _Reader(message.window_bytes)
            case Taken():
                flying = self._readers[connection].flying
                for number in [n for n in flying if n <= message.number]:
                    del flying[number]
            case Attach():
                self._asked(connection, message.tasks)
            case Submit():
                reader = self._readers[connection]
                tasks, size = reader.received
                for group in message.groups:
                    tasks += 1 if group.packed else group.count
                    size += group.size
                reader.received = (tasks, size)

    def _sealed(self, message: JobInfo) -> None:
        """A client is told that its job is sealed, or that there is none."""
        if not message.error and (message.session, message.job) not in self._seals:
            raise Violation("acknowledged before commit", f"the seal of {message}")

    def _asked(self, connection: Connection, runs: list[TaskRun]) -> None:
        self._readers[connection].asked.update(task for run in runs for task in ids(*run))

    def _started(self, connection: Connection, message: Started) -> None:
        """A client is told that tasks of its own have begun; it may hear so much later."""
        for run in message.runs:
            for task in self._truth.run(connection.dealer.session, *run):
                known = self._checks.disk.durable or task.key is None  # else who has its key is
                if known and not self._truth.first_of(task).handed:
                    raise Violation("started", f"{task.name} was said to be started, and is not")
                task.said_started = True

    def _credit(self, connection: Connection, tasks: int, size: int) -> None:
        """What a client may have on the way unasked is bounded; a refusal lets it try again."""
        reader, settings = self._readers[connection], self._checks.settings
        if tasks - reader.received[0] > settings.session_tasks + reader.refused:
            raise Violation("credit given", f"{connection}: {tasks}, {reader.received} received")
        if size - reader.received[1] > settings.session_bytes:
            raise Violation("credit given", f"{connection}: {size}, {reader.received} received")
        if tasks < reader.granted[0] or size < reader.granted[1]:
            raise Violation("credit given", f"{connection}: {tasks} after {reader.granted}")
        reader.granted = (tasks, size)

    def _results(self, connection: Connection, message: Results) -> None:
        reader = self._readers[connection]
        size = sum(entry.size for entry in message.entries)
        if reader.flying and sum(reader.flying.values()) + size > reader.window:
            raise Violation("results window", f"{connection}: {reader.flying} and {size} more")
        reader.flying[message.number] = size
        own = connection.dealer.session
        for entry in message.entries:
            for task, outcome in outcomes(entry):
                if task[0] != own and task not in reader.asked and not entry.packed:
                    raise Violation("not asked for", f"{connection}: {task[1]}")
                if task in self._truth.tasks and outcome.ending not in NO_OUTCOME:
                    self._published(self._truth.tasks[task], outcome)

    def _published(self, task: Task, outcome: Outcome) -> None:
        if task.durable:
            facts = self._truth.committed[task.id]
            if facts.outcome is None:
                raise Violation("published before commit", f"{task.name}: {outcome}")
            if facts.outcome != outcome:
                raise Violation("two outcomes", f"{task.name}: {facts.outcome}, sent {outcome}")
            if task.published not in (None, outcome) and self._checks.disk.durable:
                raise Violation("two outcomes", f"{task.name}: {task.published}, then {outcome}")
        else:
            self._checks.token_counts(task, outcome)
        task.published = outcome
