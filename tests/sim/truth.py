"""What the simulator knows of every task, gathered from outside of the machines.

``Facts`` are what the journal says of a task. They are kept twice, as handed over and as
committed; a crash makes the first a copy of the second.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from farm.protocol.records import (
    AttemptsEnded,
    Begun,
    Delivered,
    Finished,
    Record,
    Recovered,
    Restored,
    SessionMark,
    Stopping,
    Submitted,
)
from tests.sim.work import content

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from farm.model import Ending
    from farm.protocol.messages import Failure, Result, TaskKey, Template

__all__ = [
    "Book",
    "Execution",
    "Facts",
    "Id",
    "Outcome",
    "Task",
    "Truth",
    "Violation",
    "ids",
    "outcomes",
]

Id = tuple[bytes, int]
"""A task: its session and counter."""


class Violation(AssertionError):
    """A promise was broken; ``check`` names which."""

    def __init__(self, check: str, detail: str) -> None:
        super().__init__(f"{check}: {detail}")
        self.check = check


class Outcome(NamedTuple):
    """How a task ended, with the payload of its entry: all values of a packed run together."""

    ending: Ending
    payload: bytes


def ids(session: bytes, first: int, count: int) -> list[Id]:
    return [(session, counter) for counter in range(first, first + count)]


def outcomes(result: Result) -> Iterator[tuple[Id, Outcome]]:
    """The tasks of a result and the outcome of each."""
    for i in range(result.count):
        payload = b""
        if result.payloads:
            payload = content(result.payloads[0 if result.packed else i])
        yield (result.session, result.first + i), Outcome(result.ending, payload)


@dataclass(slots=True)
class Facts:
    """What records say of a task."""

    accepted: bool = False
    outcome: Outcome | None = None
    delivered: bool = False
    attempt: int = 1  # the smallest that may run
    fence: int = 0  # tokens of lower epochs are void
    at: float = 0.0  # when it was accepted, in seconds since 1970
    due: float = 0.0  # when its next attempt may run
    begun: int = 0  # the attempt that may have run, of a task that must not run twice
    retries: int = 0
    losses: int = 0
    charged: list[bytes] = field(default_factory=list)  # hosts that cost a loss each
    failure: Failure | None = None
    stopping: bool = False
    finished_at: float = 0.0
    same: Id | None = None  # the task that has its key, if another has
    submitted: set[int] = field(default_factory=set)  # records that name it: Submitted
    finished: set[int] = field(default_factory=set)  # Finished
    taken: set[int] = field(default_factory=set)  # Delivered

    @property
    def is_open(self) -> bool:
        return self.accepted and self.outcome is None

    def copy(self) -> Facts:
        made = replace(self)
        made.submitted, made.finished = set(self.submitted), set(self.finished)
        made.taken = set(self.taken)
        return made


@dataclass(slots=True, eq=False)
class Execution:
    """A worker began a task."""

    host: str
    epoch: int
    attempt: int
    began: float
    ended: str = ""
    stop_by: float = float("inf")  # its host was told to end it by then
    burst: bool = False  # the kernel ended something of it for its memory
    waited: bool = False  # for tasks that it has submitted


class Lease(NamedTuple):
    """A task was given to a host: the token, by which coordinator process, to which agent."""

    epoch: int
    attempt: int
    process: int
    agent: Any


@dataclass(slots=True)
class Task:
    """A task as its client submitted it, and what became of it."""

    id: Id
    work: bytes
    template: Template
    function: bytes
    job: int
    client: str
    group: int  # its group's first counter
    packed: bool
    known: bool = False  # this coordinator process loaded it
    acknowledged: bool = False
    settled: Outcome | None = None
    published: Outcome | None = None
    cancel_asked: bool = False
    cancel_confirmed: bool = False
    stop_confirmed: bool = False  # somebody was told that no success of it counts any more
    stop_promised: bool = False  # its owner was
    forgotten: bool = False  # by a store that was restored from a copy without it
    undone: list[Outcome] = field(default_factory=list)  # that stores had which are gone
    retried: set[int] = field(default_factory=set)  # attempts after which it was to run again
    refused: bool = False
    owner: str = ""  # whose it is, as the farm has written
    key: TaskKey | None = None
    firsts: list[Id] = field(default_factory=list)  # as which it was to end, by any coordinator
    handed: int = 0
    said_started: bool = False  # to its owner
    executions: list[Execution] = field(default_factory=list)
    assigned: list[Lease] = field(default_factory=list)
    arrived: int = 0  # with which message to the coordinators: the one that had it accepted

    @property
    def runs_once(self) -> bool:
        """Whether it must not run again after an attempt of which nobody knows the end."""
        return self.durable and not self.template.max_losses

    @property
    def durable(self) -> bool:
        return self.template.durable

    @property
    def name(self) -> str:
        return f"{self.id[0][:2].hex()}-{self.id[1]}"

    def starts_at(self, accepted: float) -> float:
        """When it may run first, by the wall clock, if it was accepted then."""
        if self.template.eta is not None:
            return max(accepted, self.template.eta)
        return accepted + (self.template.delay or 0.0)

    @property
    def key_name(self) -> tuple[bool, str]:
        """Its key without the body."""
        return (self.key.unique, self.key.text) if self.key else (False, "")


class Book:
    """The facts of all tasks after a sequence of records."""

    def __init__(self) -> None:
        self.facts: dict[Id, Facts] = {}
        self.open: dict[Id, None] = {}  # the tasks that are
        self.records: dict[int, Record] = {}
        self.marks: dict[bytes, list[tuple[int, int]]] = {}
        self.duplicates: dict[Id, list[Id]] = {}

    def __getitem__(self, task: Id) -> Facts:
        found = self.facts.get(task)
        if found is None:
            found = self.facts[task] = Facts()
        return found

    def copy(self) -> Book:
        made = Book()
        made.facts = {task: facts.copy() for task, facts in self.facts.items()}
        made.open = dict(self.open)
        made.records = dict(self.records)
        made.marks = dict(self.marks)
        made.duplicates = {first: list(found) for first, found in self.duplicates.items()}
        return made

    def apply(self, ref: int, record: Record) -> None:
        """A record comes after all others."""
        self.records[ref] = record
        match record:
            case Submitted():
                self._submitted(ref, record)
            case Finished():
                self._finished(ref, record)
            case Delivered():
                for task in named(record):
                    self[task].delivered = True
                    self[task].taken.add(ref)
            case AttemptsEnded():
                self._attempts(record)
            case Begun() | Stopping():
                self._marked(record)
            case SessionMark():
                self.marks[record.session] = list(record.accepted)
            case Recovered():
                self._recovered(record)

    def _marked(self, record: Begun | Stopping) -> None:
        if isinstance(record, Stopping):
            for task in named(record):
                self[task].stopping = True
            return
        for task in ids(record.session, record.first, record.count):
            self[task].begun = record.attempt

    def _submitted(self, ref: int, record: Submitted) -> None:
        for task in named(record):
            facts = self[task]
            if not facts.accepted:  # not a copy of a living task
                facts.fence = max(facts.fence, record.fence)
                facts.at = record.at
            facts.accepted = True
            facts.submitted.add(ref)
            if facts.outcome is None:
                self.open[task] = None
        for group in record.groups:
            for i in range(group.count if group.same else 0):
                self._duplicate(
                    (record.session, group.first + i), (group.same[0], group.same[1] + i)
                )

    def _duplicate(self, task: Id, first: Id) -> None:
        """A task ends as another does, or has."""
        facts, known = self[task], self[first]
        facts.same = first
        if task not in self.duplicates.setdefault(first, []):
            self.duplicates[first].append(task)
        if known.outcome is not None and facts.outcome is None:
            facts.outcome, facts.finished_at = known.outcome, known.finished_at
            facts.finished |= known.finished
            self.open.pop(task, None)

    def _finished(self, ref: int, record: Finished) -> None:
        for entry in record.entries:
            for first, outcome in outcomes(entry):
                for task in (first, *self.duplicates.get(first, ())):
                    facts = self[task]
                    if task != first and facts.outcome is not None:
                        continue  # it was cancelled
                    facts.finished.add(ref)
                    facts.finished_at = record.at
                    facts.outcome = facts.outcome or outcome
                    self.open.pop(task, None)

    def _recovered(self, record: Recovered) -> None:
        adopted = {task for run in record.adopted for task in ids(*run)}
        for task, facts in self.facts.items():
            if task not in adopted:
                facts.fence = max(facts.fence, record.epoch)

    def _attempts(self, record: AttemptsEnded) -> None:
        for entry in record.entries:
            for task in ids(entry.session, entry.first, entry.count):
                facts = self[task]
                facts.attempt = max(facts.attempt, entry.attempt)
                facts.retries = entry.retries
                facts.losses = entry.losses
                facts.charged = entry.charged
                facts.due = entry.due
                facts.failure = entry.failure

    def delete(self, refs: Iterable[int]) -> set[Id]:
        """Forget records; the tasks that they named."""
        touched: set[Id] = set()
        for ref in refs:
            record = self.records.pop(ref, None)
            names = named(record)
            more = [one for task in names for one in self.duplicates.get(task, ())]
            for task in (*names, *(more if isinstance(record, Finished) else ())):
                facts = self[task]
                facts.submitted.discard(ref)
                facts.finished.discard(ref)
                facts.taken.discard(ref)
                touched.add(task)
        return touched


def named(record: Record | None) -> list[Id]:
    """The tasks that a record names as submitted, finished or delivered."""
    match record:
        case Submitted():
            return [t for g in record.groups for t in ids(record.session, g.first, g.count)]
        case Finished():
            return [t for e in record.entries for t in ids(e.session, e.first, e.count)]
        case Delivered() | Stopping():
            return [t for run in record.tasks for t in ids(*run)]
        case _:
            return []


class Truth:
    """All tasks ever submitted, and the journal's facts of them."""

    def __init__(self) -> None:
        self.tasks: dict[Id, Task] = {}
        self.unsettled: dict[Id, Task] = {}  # of these, those whose owner has no outcome
        self.written = Book()
        self.committed = Book()
        self.leases: dict[tuple[int, int], bytes] = {}  # the session of each lease
        self.process = 0  # which coordinator process it is
        self.epoch = 0

    def submitted(self, task: Task) -> None:
        """A client has a new task."""
        self.tasks[task.id] = self.unsettled[task.id] = task

    def settle(self, task: Task, outcome: Outcome) -> None:
        """Its owner has an outcome of it."""
        task.settled = outcome
        del self.unsettled[task.id]

    @property
    def open_tasks(self) -> Iterator[Task]:
        """Those that are accepted and have no outcome, by what was handed over to the journal."""
        return (self.tasks[task] for task in self.written.open if self.tasks[task].durable)

    @property
    def settled(self) -> int:
        """How many tasks have an outcome that their owners know, be they durable or not."""
        return len(self.tasks) - len(self.unsettled)

    def first_of(self, task: Task) -> Task:
        """The task as which another ends, which has its key; of others themselves."""
        same = self.written[task.id].same
        return task if same is None else self.tasks[same]

    def all_firsts(self, task: Task) -> list[Task]:
        """It, and all as which it was to end: a word of them may be from before a restart."""
        return [task, *(self.tasks[first] for first in task.firsts)]

    def made_as(self, task: Task, outcome: Outcome) -> list[Task]:
        """The tasks as which it may have ended so: who had its key in a store that is gone?"""
        return self.all_firsts(task) if outcome in task.undone else [self.first_of(task)]

    def run(self, session: bytes, first: int, count: int) -> list[Task]:
        return [self.tasks[task] for task in ids(session, first, count) if task in self.tasks]

    def crashed(self) -> None:
        """What was not committed is forgotten."""
        self.written = self.committed.copy()

    def wiped(self) -> None:
        """The store was in memory, and is gone: cancels are, too."""
        replaced, self.committed = self.committed, Book()
        for task in self.tasks.values():
            if (undone := replaced[task.id].outcome) is not None:
                task.undone.append(undone)
            task.cancel_confirmed = task.stop_confirmed = False
        self.crashed()

    def restored(self, book: Book, ref: int, epoch: int) -> None:
        """The store is a copy from before; what came since is known to nobody but its owners."""
        replaced, self.committed = self.committed, book
        book.records[ref] = Restored(epoch)
        for facts in book.facts.values():
            facts.fence = max(facts.fence, epoch)
            facts.begun = max(facts.begun, facts.attempt)
        for task in self.tasks.values():
            facts = book[task.id]
            if facts.outcome is None:
                if (undone := replaced[task.id].outcome) is not None:
                    task.undone.append(undone)
                task.published, task.cancel_confirmed = None, False
                task.stop_confirmed = task.stop_promised = False
            if task.durable and not facts.accepted:
                task.forgotten, task.acknowledged = True, False
        self.crashed()

    def has(self, task: Task) -> bool:
        """Whether the store has a task; a late word of it may be from before it was restored."""
        return not task.durable or self.committed[task.id].accepted

    def is_stale(self, task: Task, epoch: int, attempt: int) -> bool:
        """Whether the journal, as handed over so far, voids an attempt's token.

        Of a task that is not in the journal only the last token counts.
        """
        if not task.durable:
            return bool(task.assigned) and (epoch, attempt) != task.assigned[-1][:2]
        facts = self.written[task.id]
        return attempt < facts.attempt or epoch < facts.fence
