"""A whole farm in one process: machines, network, disk, faults, and the checks on them all.

A run has three parts. First there are faults and new work. Then the world rests: faults stop,
everything reconnects, and all that was asked for must be answered. At last everybody leaves and
time passes until nothing has to be kept any more: nothing must be left.

All three have so many steps together (``Plan.steps``); a seed that takes more has failed. A step
is an event of which something comes: not a beat, a timer after which nothing is said, or a look
at how much memory a worker has.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any

from farm.protocol.records import ClockRead, Restored, encode_record
from tests.sim.budget import STEPS_PER_LOOK, Budget
from tests.sim.checks import Checks
from tests.sim.checks_nested import starving
from tests.sim.checks_work import inside, left_behind
from tests.sim.client import ClientProcess
from tests.sim.clock import Clock
from tests.sim.coordinator import WALL, CoordinatorProcess
from tests.sim.door import Door
from tests.sim.faults import Faults
from tests.sim.files import Files
from tests.sim.host import HostProcess
from tests.sim.hostile import HostileClient
from tests.sim.journal import Disk
from tests.sim.network import Network
from tests.sim.owners import Owners
from tests.sim.rest import check_rest, check_void, unrest
from tests.sim.trace import Trace
from tests.sim.truth import Book, Truth, Violation

if TYPE_CHECKING:
    from tests.sim.nested import NestedClient
    from tests.sim.plan import Plan

__all__ = ["World"]

ALONE_SECONDS = 300.0
"""Longer than anything is kept."""
INSIDE_TURNS = 10
"""The core's invariants are checked each time so many things have happened to it."""
IDLE = frozenset({"_arrive", "_wake", "weigh", "weighed"})
"""The events of which mostly nothing comes; they are steps if anybody says a word."""
REST_STEPS = 2_000
"""So many times ten steps without coming to rest are a hang."""


class World:
    """One seed's farm."""

    def __init__(self, plan: Plan, *, verbose: bool = False) -> None:
        self.plan = plan
        self.chance = Random(plan.seed * 7919 + 1)
        self.clock = Clock()
        self.trace = Trace(self.clock, verbose=verbose)
        self.steps = 0
        self.steps_of_work = 0  # of these, those before the rest
        self.stats: Counter[str] = Counter()
        self.truth = Truth()
        slow = 0.0 if plan.is_calm else 0.1
        self.network = Network(
            self.clock, self.chance, delay=plan.delay, holes=plan.holes, slow=slow
        )
        self.disk = self._new_disk()
        self.backup: tuple[Disk, Book, set[str]] | None = None
        self.epoch_floor = 0
        self.skew = 0.0  # by how much the wall clock of the coordinator's machine is wrong
        self.boot_offset = self.chance.uniform(1.0, 1e6)
        self.resting = self.leaving = False
        self.budget = Budget(self)
        self.coordinator: CoordinatorProcess | None = None
        self.door = Door(self)
        self.hosts: list[HostProcess | None] = [None] * plan.hosts
        self.clients: list[ClientProcess] = []
        self.owners = Owners(self)
        self.files = Files(self)
        self.checks = Checks(self, plan.core_settings)
        self.job_names: list[str] = []
        self.start_coordinator()
        for index in range(plan.hosts):
            self.start_host(index)
        self.nested: list[NestedClient] = []  # those of workers
        self.nested_chance = Random(plan.seed * 7919 + 2)
        self.clients += [ClientProcess(self, f"client{i}") for i in range(plan.clients)]
        if plan.owners:
            self.clients.append(HostileClient(self))
        self.faults = Faults(self)

    def _new_disk(self) -> Disk:
        return Disk(self.chance.randbytes(16), durable=self.plan.durable)

    @property
    def wall(self) -> float:
        """Seconds since 1970."""
        return WALL + self.clock.now

    @property
    def has_read_clock(self) -> bool:
        """Whether the store says what the wall clock said when nobody had set it yet."""
        records = self.truth.committed.records.values()
        return any(isinstance(record, ClockRead) for record in records)

    # ------------------------------------------------------------ the trace

    def said(self, who: str, to: Any, what: Any) -> None:
        self.trace.add(who, to, what)

    # ------------------------------------------------------------ machines

    def start_coordinator(self) -> None:
        self.said("world", "coordinator", "starts")
        self.coordinator = CoordinatorProcess(self)
        self.door.opened()

    def crash_coordinator(self, restart_after: float) -> None:
        """The coordinator's process is gone, and another one starts in a while."""
        if self.coordinator is None:
            return
        self.said("world", "coordinator", "ends")
        process, self.coordinator = self.coordinator, None
        process.die()
        if self.disk.durable:
            self.truth.crashed()
        else:
            self.disk = self._new_disk()
            self.truth.wiped()
        self.clock.after(restart_after, self.start_coordinator)

    def restore_store(self) -> None:
        """Make a copy of the store; the next time, put it in the store's place."""
        if not self.disk.durable or not self.has_read_clock:
            return
        if self.backup is None:
            self.stats["restore store"] -= 1  # not yet
            copied = self.files.copied(self.disk)
            self.backup = self.disk.copy(), self.truth.committed.copy(), copied
            return
        if self.coordinator is not None:
            self.crash_coordinator(restart_after=0.5)
        (disk, book, copied), self.backup = self.backup, None
        # An epoch that cannot be read any more is taken to be within a margin of the copy's.
        margin = disk.epoch + 1_000_000
        known = self.chance.random() < 0.7 or self.disk.epoch > margin
        replaced = self.disk.epoch if known else margin
        epoch = max(disk.epoch, replaced, int((self.wall + self.skew) * 1000)) + 1
        disk.store, disk.epoch = self.chance.randbytes(16), epoch
        disk.commit += 1
        disk.records[disk.commit] = encode_record(Restored(epoch))
        self.disk = disk
        self.files.restored(copied)
        self.checks.losses.restored()
        self.checks.queues.restored()
        self.truth.restored(book, disk.commit, epoch)

    def start_host(self, index: int) -> None:
        self.hosts[index] = HostProcess(self, f"host{index}", self.plan.slots[index])

    def crash_host(self, index: int, restart_after: float) -> None:
        """The agent dies, and its workers with it; another takes its place, unless all leave."""
        process = self.hosts[index]
        if process is None:
            return
        self.said("world", process.name, "crashes")
        self.hosts[index] = None
        process.die()
        if not self.leaving:
            self.clock.after(restart_after, self.start_host, index)

    def host_left(self, process: HostProcess) -> None:
        """A drained host ends; unless the world rests, another takes its place."""
        index = self.hosts.index(process)
        self.hosts[index] = None
        process.die()
        if not self.leaving:
            self.clock.after(0.5, self.start_host, index)

    def crash_client(self, process: ClientProcess, *, again: bool) -> None:
        """The client's process dies; another program may take up where it left."""
        self.said("world", process.name, "crashes")
        process.die()
        if again:
            successor = ClientProcess(self, f"client{len(self.clients)}")
            self.clients.append(successor)

    # ------------------------------------------------------------ a run

    def run(self) -> None:
        """All three parts; raises ``Violation``."""
        while self.clock.now < self.plan.seconds and self.budget.is_left:
            for _ in range(STEPS_PER_LOOK):
                self._step()
        self.steps_of_work = self.steps
        self._rest()
        inside(self.coordinator)
        check_rest(self)
        self._leave()
        inside(self.coordinator)
        check_void(self)

    def _step(self) -> None:
        """The next event."""
        before = self.network.words
        happened = self.clock.step()
        if happened is None:
            raise Violation("stuck", "nothing will ever happen again")
        if self.network.words != before or getattr(happened, "__name__", "") not in IDLE:
            self.steps += 1
        if self.steps > self.plan.steps:
            raise Violation("stuck", f"not over after {self.plan.steps} steps")
        coordinator = self.coordinator
        if coordinator is not None and coordinator.turns >= INSIDE_TURNS:
            coordinator.turns = 0
            inside(coordinator)

    def _rest(self) -> None:
        self.resting = True
        self.said("world", "everybody", "rests")
        self.network.heal()
        self.door.opened()
        self.faults.stop()
        auditor = ClientProcess(self, "auditor", window_bytes=1 << 20)
        self.clients.append(auditor)
        for client in self.clients:
            if client.alive:
                client.resume()
                client.do(client.program.rest)
        auditor.do(auditor.program.audit)
        self._until_quiet("the farm does not come to rest")

    def _until_quiet(self, complaint: str) -> None:
        """Until nothing is open; as long as one task after the other ends, that may take long."""
        steps = ended = 0
        while missing := unrest(self):
            steps += 1
            if not self.budget.patient or self.budget.is_over:
                self._give_up()
            before, ended = ended, self.truth.settled
            steps = steps if ended == before else 0
            if steps > REST_STEPS:
                if starved := starving(self):
                    raise Violation("starved", f"nobody begins {', '.join(starved)}")
                raise Violation("stuck", f"{complaint}: {missing[:12]}")
            for _ in range(10):
                self._step()

    def _give_up(self) -> None:
        """Nobody waits any longer for what has not ended: there are just enough steps left.

        With a task the farm stops those that it waits for.
        """
        self.stats["impatient"] += self.budget.patient and bool(self.truth.unsettled)
        self.budget.patient = False
        for client in self.clients:
            if client.alive:
                client.do(client.program.give_up)

    def _leave(self) -> None:
        """Clients close, hosts drain, and the coordinator is alone for a long time."""
        self.leaving = True
        for client in (*self.clients, *self.nested):
            if client.alive:
                client.leave()
        for host in self.hosts:
            if host is not None:
                host.do(host.drain)
        self._until_alone()

    def _until_alone(self) -> None:
        steps = 0
        until = self.clock.now + ALONE_SECONDS
        while self.clock.now < until:
            steps += 1
            if steps > REST_STEPS:
                raise Violation("stuck", "the coordinator is alone and does not come to rest")
            self._step()
            if all(host is None for host in self.hosts) and not any(left_behind(self)):
                return
