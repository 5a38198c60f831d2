"""A client's process: the session, its port, its connection, and a program that uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from farm.client.session import Session, SessionSettings
from farm.model import Ending
from farm.protocol.messages import (
    Accepted,
    Answer,
    CancelReply,
    ClientWelcome,
    Credit,
    JobInfo,
    QueueCredit,
    Refused,
    Submit,
)
from tests.sim.checks_work import cancelled, settled
from tests.sim.plan import PYTHON
from tests.sim.process import Process
from tests.sim.program import Program
from tests.sim.truth import Outcome, Violation, outcomes
from tests.sim.work import PRINTED

if TYPE_CHECKING:
    from farm.protocol.messages import Group, Result
    from tests.sim.network import Connection
    from tests.sim.truth import Id, Task
    from tests.sim.world import World

__all__ = ["ClientProcess"]


class ClientProcess(Process):
    """One process of a client; also its session's port, and a dealer."""

    side = "client"
    program_kind: type[Program] = Program
    waits_for_room = True

    def __init__(self, world: World, name: str, *, window_bytes: int = 0) -> None:
        super().__init__(world, name)
        window = window_bytes or world.plan.window_bytes
        chance = world.chance
        self.session = chance.randbytes(16)
        self.shares = bool(world.plan.blobs) and chance.random() < world.plan.blobs
        self.connection: Connection | None = None
        self.finished = False  # the program is over and the session closed
        self.followed: dict[int, set[Id]] = {}  # what each request follows
        self.heard: dict[Id, Outcome] = {}  # outcomes of followed tasks
        self.replies: dict[int, Any] = {}
        self._granted = (0, 0)
        self._sent = (0, 0)
        self._again: set[int] = set()  # what earlier connections had sent, and is to be decided
        self._may: dict[str, int] = {}  # how many tasks of queues that were full may be sent
        self._floor = 0  # below it nothing is sent any more
        self.machine = Session(
            SessionSettings(
                "sim",
                PYTHON,
                window_bytes=window,
                take_seconds=0.05,
                hello_seconds=2.0,
                waits_for_room=self.waits_for_room,
            ),
            self,
            session=self.session,
            secret=chance.randbytes(16),
            instance=chance.randbytes(8),
        )
        self.program = self.program_kind(self)
        self.dial()

    # ------------------------------------------------------------ connections

    def dial(self) -> None:
        """Try to connect until it works."""
        if self.alive and self.connection is None and not self.finished:
            self.world.door.dial(self)

    def connected(self, connection: Connection) -> None:
        self.connection = connection
        self._granted = self._sent = (0, 0)
        self._may.clear()
        outbox = self.machine._outbox
        shelves = (outbox.again, outbox.unacked, outbox.retained)
        self._again = {first for shelf in shelves for group in shelf for first in _counters(group)}
        self.do(lambda: self.machine.on_connected(self.now))

    def lost(self, connection: Connection) -> None:
        self.do(self._lost, connection)

    def _lost(self, connection: Connection) -> None:
        if connection is self.connection:
            self.connection = None
            self.machine.on_disconnected(self.now)
            self.dial()

    def arrived(self, connection: Connection, message: Any) -> None:
        self.do(self._arrived, connection, message)

    def _arrived(self, connection: Connection, message: Any) -> None:
        if connection is not self.connection:
            return
        coordinator = self.world.coordinator
        if coordinator is not None and connection.peer in coordinator.connections:
            self.world.files.secure(message)
        match message:
            case ClientWelcome():
                self._granted = (message.credit_tasks, message.credit_bytes)
            case Credit():
                self._granted = (message.tasks, message.bytes)
            case Refused() if message.queue:
                self._may[message.queue] = 0
                self._again.difference_update(range(message.first, message.first + message.count))
            case QueueCredit():
                self._may[message.queue] = self._may.get(message.queue, 0) + message.tasks
            case Accepted():
                for first, count in message.runs:
                    for task in self.world.truth.run(self.session, first, count):
                        task.acknowledged = self.world.truth.has(task)
        self.machine.receive(message, self.now)

    # ------------------------------------------------------------ the session's port

    def send(self, message: Any) -> None:
        if self.connection is None:
            return
        if isinstance(message, Submit):
            self._spend(message)
        self.world.said(self.name, self.connection, message)
        self.connection.send_up(message)

    def _spend(self, message: Submit) -> None:
        tasks, size = self._sent
        self._floor = max(self._floor, message.floor)
        for group in message.groups:
            if group.first < self._floor:
                raise Violation("floor", f"{self.name} sends {group.first}, below {self._floor}")
            units = 1 if group.packed else group.count
            self._spend_in_queue(group, units)
            tasks += units
            size += group.size
        self._sent = (tasks, size)
        if not self.waits_for_room:  # the coordinator decides of each
            return
        if tasks > self._granted[0] or size > self._granted[1]:
            raise Violation("credit", f"{self.name} sent {self._sent} and may {self._granted}")

    def _spend_in_queue(self, group: Group, units: int) -> None:
        """To a queue that was full only what it has room for is sent."""
        queue = (group.template.queue if group.template else "") or "default"
        if queue in self.machine._outbox.parked and group.first not in self._again:
            self._may[queue] -= units
            if self._may[queue] < 0:
                raise Violation("queue credit", f"{self.name} sends {units} more to {queue}")

    def disconnect(self, reason: str) -> None:
        self.world.said(self.name, "gives up", reason)
        if self.connection is not None:
            self.connection.close_by_dealer()
            self.connection = None
            self.dial()

    def settled(self, results: list[Result]) -> None:
        for result in results:
            if result.output not in (b"", PRINTED, b"last words"):
                raise Violation("output", f"{self.name} is told {result.output!r}")
            if result.attempts or (result.failure and result.failure.brief() is not result.failure):
                raise Violation("output", f"{self.name} is told all of {result.failure}")
            for task, outcome in outcomes(result):
                if task[0] == self.session:
                    self._settled(self.world.truth.tasks[task], outcome, packed=result.packed)
                else:
                    self._heard(task, outcome)

    def _settled(self, task: Task, outcome: Outcome, *, packed: bool) -> None:
        if task.settled is not None:
            # Again with a packed entry, or because the program follows what it owns.
            if self.world.stats["restore store"]:  # it may run, and end, again
                return
            gone = outcome.ending in (Ending.UNKNOWN, Ending.DELIVERED)
            gone = gone and (task.forgotten or self.world.checks.may_forget(task))
            again = packed or self.program.is_following(task.id)
            if not again or (task.settled != outcome and not gone):
                raise Violation("settled twice", f"{task.name}: {task.settled}, then {outcome}")
            return
        if outcome.ending in (Ending.UNKNOWN, Ending.DELIVERED) and not task.forgotten:
            raise Violation("lost", f"{task.name} ends as {outcome.ending.name}")
        self.world.truth.settle(task, outcome)
        if outcome.ending is Ending.UNKNOWN:
            self.world.stats["forgotten"] += 1
            return
        settled(self.world, task)

    def _heard(self, task: Id, outcome: Outcome) -> None:
        known = self.world.truth.tasks.get(task)
        if known is None:
            if outcome.ending is not Ending.UNKNOWN:
                raise Violation("endings", f"task {task[1]} never was, and ends as {outcome}")
        elif outcome.ending not in (Ending.UNKNOWN, Ending.DELIVERED):
            said = (None, outcome)  # None: its store was restored since
            undone = outcome in known.undone  # and this was on its way
            if known.durable and known.published not in said and not undone:
                raise Violation("two outcomes", f"{known.name}: a reader is told {outcome}")
        else:
            self._denied(known)
        self.heard[task] = outcome

    def _denied(self, task: Task) -> None:
        """A reader is told that the farm has no outcome of a task (any more)."""
        world = self.world
        wanted = task.durable and world.disk.durable and task.id in self.program.must_know
        wanted = wanted and not task.forgotten
        if wanted and not world.checks.may_forget(task):
            raise Violation("lost", f"{task.name} is denied to a reader")

    def failed(self, first: int, count: int, why: Refused) -> None:
        for task in self.world.truth.run(self.session, first, count):
            self.world.checks.keys.refused(task, why)

    def started(self, runs: list[tuple[int, int]]) -> None:
        for first, count in runs:
            for task in self.world.truth.run(self.session, first, count):
                if not task.said_started:
                    raise Violation("started", f"{task.name} was not said to be started")

    def progress(self, notes: list[tuple[bytes, int, float, float, str]]) -> None:
        self.world.stats["progress"] += 1
        for session, counter, *note in notes:
            known = self.world.truth.all_firsts(self.world.truth.tasks[session, counter])
            if note != [1.0, 2.0, "half"] or not any(one.executions for one in known):
                raise Violation("progress", f"{self.name} is told {note} of {counter}")

    def replied(self, message: CancelReply | JobInfo | Answer) -> None:
        if message.request in self.replies and not isinstance(message, JobInfo):
            raise Violation("replied twice", f"{self.name}: {message}")
        self.replies[message.request] = message
        self.world.checks.queues.answered(self, message)
        if isinstance(message, JobInfo):
            followed = self.followed.setdefault(message.request, set())
            for session, first, count in message.tasks:
                followed.update((session, first + i) for i in range(count))
        elif isinstance(message, CancelReply):
            for run in message.cancelled:
                for task in self.world.truth.run(*run):
                    if not self._is_undone(task):
                        cancelled(task)
            for run in message.stopping:
                for task in self.world.truth.run(*run):
                    # A store restored since then may have forgotten it.
                    mine = run[0] == self.session and task.settled is None
                    task.stop_promised = mine and not self.world.stats["restore store"]

    def _is_undone(self, task: Task) -> bool:
        """Whether a store that was restored since does not know of a cancel any more."""
        outcome = self.world.truth.committed[task.id].outcome
        is_cancelled = outcome is not None and outcome.ending is Ending.CANCELLED
        restored = bool(self.world.stats["restore store"])
        return restored and task.durable and not is_cancelled

    def rejected(self, code: str, message: str, retry: bool) -> None:
        self.world.said(self.name, "rejected", (code, message))
        if not retry and code not in {"epoch", "store", "replaced"}:
            raise Violation("rejected", f"{self.name}: {code}: {message}")

    def room(self, tasks: int, size: int) -> None:
        pass

    # ------------------------------------------------------------ its end

    def die(self) -> None:
        super().die()
        if self.connection is not None:
            self.connection.close_by_dealer()
            self.connection = None

    def leave(self) -> None:
        """The program is over: close the session and end."""
        self.machine.close(self.now)
        self.finished = True
        self.die()


def _counters(group: Group) -> range:
    return range(group.first, group.first + group.count)
