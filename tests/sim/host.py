"""A host's process: the host machine, its port, its connection and its workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from farm.model import Ending
from farm.protocol.messages import Assign, HostHello, Recall, Report
from farm_workers.host import Host
from farm_workers.host_roster import Death
from farm_workers.host_slices import HostSettings
from tests.sim.checks_host import HostMemory
from tests.sim.checks_limits import check_burst
from tests.sim.process import Process
from tests.sim.truth import Violation
from tests.sim.worker import KILLED, Worker

if TYPE_CHECKING:
    from farm_workers.host_slices import Slice
    from tests.sim.network import Connection
    from tests.sim.world import World

__all__ = ["HostProcess"]


class HostProcess(Process):
    """One agent; also its machine's port, and a dealer."""

    side = "host"

    def __init__(self, world: World, name: str, slots: int) -> None:
        super().__init__(world, name)
        self.slots = slots
        self.shares = bool(world.plan.blobs) and world.chance.random() < world.plan.blobs
        self.connection: Connection | None = None
        self.workers: dict[int, Worker] = {}
        self.asked: dict[int, int] = {}  # the limit that a worker was last told, by slot
        self.spoiled_until = self.weak_until = self.full_until = 0.0
        self.never_ready = 0  # workers that died before they were
        self._window = 0
        self.memory = HostMemory(name)
        self.machine = Host(
            HostSettings(
                slots=slots, window_max=4096 if world.plan.lookahead else slots,
                name=name, python=world.plan.python_of(name), farm="sim", hello_seconds=2.0,
                drain_seconds=3.0, retry_seconds=1.0, has_initializer=world.plan.initializer,
                grace_seconds=world.chance.choice((0.3, 1000.0)),
                kill_seconds=world.plan.kill_seconds,
                max_tasks_per_worker=world.plan.max_tasks_per_worker,
                max_memory_per_worker=world.plan.max_memory_per_worker,
                max_lent=world.plan.max_lent, spare_seconds=0.5,
                **world.plan.facts_of(name),
            ),
            self,
            instance=world.chance.randbytes(8),
            now=self.now,
        )  # fmt: skip
        self._arm()
        self.dial()

    @property
    def holds(self) -> list[str]:
        """What the host has not finished, or not been told to forget."""
        return [f"lease {key}" for key in self.machine._work.backlog.leases]

    # ------------------------------------------------------------ connections

    def dial(self) -> None:
        if self.alive and self.connection is None:
            self.world.door.dial(self)

    def connected(self, connection: Connection) -> None:
        self.connection = connection
        self._window = 0
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
        if isinstance(message, Assign):
            if self.machine.unusable:
                raise Violation("environment", f"{self.name} cannot run what it is given")
            self._assigned(message)
        if isinstance(message, Recall):
            for worker in self.workers.values():
                worker.limits.told(message)
        self.memory.received(message)
        self.machine.receive(message, self.now)
        self.after_turn()

    def _assigned(self, message: Assign) -> None:
        """The coordinator leases no more than the largest window of this connection."""
        leases = self.machine._work.backlog.leases.values()
        held = sum(min(lease.open, 1) if lease.grant.packed else lease.open for lease in leases)
        held += sum(1 if grant.packed else grant.count for grant in message.grants)
        if held > self._window:
            raise Violation("host window", f"{self.name} would hold {held}, not {self._window}")

    # ------------------------------------------------------------ workers

    def heard(self, worker: Worker, what: str, *arguments: Any) -> None:
        """A message, or the end, of a worker's pipe."""
        self.do(self._heard, worker, what, arguments)

    def _heard(self, worker: Worker, what: str, arguments: tuple[Any, ...]) -> None:
        if self.workers.get(worker.slot) is not worker:
            return
        self.world.said(f"{self.name}.{worker.slot}", what, arguments)
        match what:
            case "ready" | "retired":
                getattr(self.machine, f"on_worker_{what}")(worker.slot, self.now)
            case "ended":
                self.machine.on_worker_ended(worker.slot, arguments[0], self.now)
            case "progress":
                key, counter, note = arguments
                self.machine.on_worker_progress(worker.slot, key, counter, note, self.now)
            case "waits":
                ordinal, begins = arguments
                self.machine.on_worker_waits(worker.slot, ordinal, self.now, begins=begins)
            case "limited":
                self._limited(worker.slot, *arguments)
            case "exit":
                del self.workers[worker.slot]
                code, ordinal = arguments
                self.never_ready += not worker.ready
                death = Death(code, ordinal, output=b"last words", oom=worker.oom)
                self.machine.on_worker_exit(worker.slot, death, self.now)
            case "memory":
                self.machine.on_worker_memory(worker.slot, arguments[0], self.now)
                if worker.oom:
                    self.machine.on_worker_oom(worker.slot, worker.ordinal, self.now)
        self.after_turn()

    def _limited(self, slot: int, limit: int, index: int) -> None:
        """The answer to the limit that was told last: the pool looks once, too."""
        if limit == self.asked.get(slot):
            self.machine.on_worker_limited(slot, index, self.now)

    @property
    def is_spoiled(self) -> bool:
        """Whether no worker can start here now: the disk is full, the initializer raises."""
        return self.world.clock.now < self.spoiled_until

    def spoil(self, seconds: float, *, dies: bool) -> None:
        """For a time no worker can start; those that are there die, or one of them does."""
        self.spoiled_until = self.world.clock.now + seconds
        for slot in list(self.workers)[: None if dies else 1]:
            self.lose_worker(slot)

    @property
    def is_weak(self) -> bool:
        """Whether workers start, and are killed soon after they are ready."""
        return self.world.clock.now < self.weak_until

    def weaken(self, seconds: float) -> None:
        """Workers die, and for a time those that replace them do not live long."""
        self.weak_until = self.world.clock.now + seconds
        for slot in list(self.workers):
            self.lose_worker(slot)

    def fill(self, seconds: float) -> None:
        """Its folder for temporary files is full, for a time."""
        self.full_until = self.world.clock.now + seconds
        self.machine.on_trouble("full", self.now)
        self.world.clock.after(seconds, self.do, self.has_room)

    def has_room(self) -> None:
        if self.world.clock.now >= self.full_until:
            self.machine.on_trouble("", self.now)

    def lose_worker(self, slot: int) -> None:
        """The kernel kills a worker process."""
        worker = self.workers.get(slot)
        if worker is not None and self.alive:
            worker.die(KILLED)

    # ------------------------------------------------------------ the machine's port

    def send(self, message: Any) -> None:
        if self.connection is None:
            return
        if isinstance(message, HostHello | Report):
            self._window = max(message.window, self._window)
            self.memory.sent(message)
            if message.trouble and message.window:
                raise Violation("host window", f"{self.name} is full, and asks for {message}")
            self._is_broken(message)
        if isinstance(message, Report):
            for end in message.ended:
                check_burst(self, end)
        self.world.said(self.name, self.connection, message)
        self.connection.send_up(message)

    def _is_broken(self, message: HostHello | Report) -> None:
        """A host says that no worker can start only if some did not: those that are ready did."""
        ended = [] if isinstance(message, HostHello) else message.ended
        broken = any(one.ending is Ending.BROKEN for one in ended)
        if broken and self.never_ready < self.machine._settings.failures_max:
            raise Violation("broken host", f"{self.name}: {self.never_ready} did not start")

    def disconnect(self, reason: str) -> None:
        self.world.said(self.name, "gives up", reason)
        if self.connection is not None:
            self.connection.close_by_dealer()
            self.connection = None
            self.dial()

    def spawn(self, slot: int) -> None:
        if slot in self.workers:
            raise Violation("slot", f"{self.name} starts a second worker in slot {slot}")
        worker = self.workers[slot] = Worker(self, slot)
        self.world.clock.after(self.world.chance.uniform(0.005, 0.03), worker.start)

    def kill(self, slot: int) -> None:
        worker = self.workers.get(slot)
        if worker is not None:
            self.world.clock.after(self.world.chance.uniform(0.0, 0.01), worker.die, KILLED)

    def stop(self, slot: int) -> None:
        self.world.clock.after(self.world.chance.uniform(0.0, 0.01), self.workers[slot].stop)

    def ran(self, slot: int, ordinal: int, now: float) -> float:
        worker = self.workers[slot]
        execution = worker.running[2] if worker.running else None
        return now - execution.began if execution and worker.ordinal == ordinal else 0.0

    def interrupt(self, slot: int, ordinal: int) -> None:
        delay = self.world.chance.uniform(0.0, 0.01)
        self.world.clock.after(delay, self.workers[slot].interrupt, ordinal)

    def retire(self, slot: int) -> None:
        self.workers[slot].tell("leave")

    def measure(self, slot: int, limit: int) -> None:
        self.world.clock.after(0.0, self.workers[slot].weigh)

    def ask(self, slot: int, question: int, what: str, since: int) -> None:
        delay = self.world.chance.choice((0.0, 0.001, 0.1))
        self.world.clock.after(delay, self.do, self._told, slot, question, what)

    def _told(self, slot: int, question: int, what: str) -> None:
        error = "" if slot in self.workers else "its worker has ended"
        self.machine.on_worker_told(question, what.encode(), 0, error)
        self.after_turn()

    def run(self, slot: int, part: Slice) -> None:
        self.memory.runs(part)
        for task in self.world.truth.run(part.session, part.first, part.count):
            task.handed += 1
        self.world.said(self.name, f"slot {slot}", part)
        self.workers[slot].tell("run", part)

    def function(self, slot: int, hash: bytes, name: str, data: bytes) -> None:  # noqa: A002
        self.workers[slot].tell("function", hash)

    def limit(self, slot: int, ordinal: int) -> None:
        self.asked[slot] = ordinal
        self.workers[slot].tell("limit", ordinal)

    # ------------------------------------------------------------ its end

    def drain(self) -> None:
        """SIGTERM."""
        self.machine.drain(self.now)
        self.after_turn()

    def after_turn(self) -> None:
        self.world.checks.recalls.look()
        if self.alive and self.machine.drained:
            self.world.host_left(self)

    def die(self) -> None:
        super().die()
        for worker in self.workers.values():
            worker.alive = False
            worker.waits.die()
        if self.connection is not None:
            self.connection.close_by_dealer()
            self.connection = None
