"""A client that submits nothing, and tries what it may not do with the tasks of others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from farm.model import TaskId
from farm.protocol.messages import DrainHost
from tests.sim.client import ClientProcess
from tests.sim.owners import HOSTILE, Thief
from tests.sim.program import Program

if TYPE_CHECKING:
    from farm.protocol.parts import TaskRun
    from tests.sim.world import World

__all__ = ["HostileClient"]

MEAN_SECONDS = 0.3
ABOUT_TASKS = ("task", "explain", "stack", "logs", "call", "function", "dead_task")
ABOUT_JOBS = ("job", "job_tasks")
LISTS = ("tasks", "jobs", "dead", "history", "status")
ORDERS = ("pause_queue", "resume_queue", "purge_queue", "set_queue")


class HostileProgram(Program):
    """Knows all ids; ``OwnerChecks`` look at what it is told."""

    def _next(self) -> None:
        chance = self.world.owners.chance
        self.client.later(chance.expovariate(1.0 / MEAN_SECONDS), self._act)

    def _act(self) -> None:
        if self.world.resting or self.client.finished:
            return
        acts = (self._cancel, self._follow, self._follow_job, self._ask, self._ask)
        self.world.owners.chance.choice(
            (*acts, self._list, self._order, self._drain, self._steal)
        )()
        self._next()

    def rest(self) -> None:
        """It has nothing open."""

    def _targets(self) -> list[TaskRun]:
        chance, tasks = self.world.owners.chance, list(self.world.truth.tasks)
        if not tasks:
            return []
        start = chance.randrange(len(tasks))
        return [(*task, 1) for task in tasks[start : start + chance.choice((1, 3, 10))]]

    def _cancel(self) -> None:
        if runs := self._targets():
            request = self._request()
            self.cancels.add(request)
            grace = self.world.owners.chance.choice((None, 0.0, 0.5))
            self.client.machine.cancel(request, runs, self.client.now, grace)

    def _follow(self) -> None:
        if runs := self._targets():
            self.follow_tasks(self._request(), runs)

    def _follow_job(self) -> None:
        if self.world.job_names:
            request = self._request()
            self.follows[request] = set()
            name = self.world.owners.chance.choice(self.world.job_names)
            self.followed_jobs[request] = name
            self.client.machine.attach(request, [], name, self.client.now)

    def _query(self, what: str, **arguments: object) -> None:
        request = self._request()
        self.questions.add(request)
        self.client.machine.query(request, what, arguments, self.client.now)

    def _ask(self) -> None:
        chance = self.world.owners.chance
        if self.world.job_names and chance.random() < 0.2:
            self._query(chance.choice(ABOUT_JOBS), id=chance.choice(self.world.job_names))
        elif runs := self._targets():
            self._query(chance.choice(ABOUT_TASKS), id=str(TaskId(*runs[0][:2])))

    def _list(self) -> None:
        chance = self.world.owners.chance
        if chance.random() < 0.2 and (runs := self._targets()):
            self._query("drop_dead", ids=[str(TaskId(*run[:2])) for run in runs])
        else:
            self._query(chance.choice(LISTS))

    def _order(self) -> None:
        queues = sorted({"default", *self.world.plan.queues})
        chance = self.world.owners.chance
        self._query(chance.choice(ORDERS), name=chance.choice(queues))

    def _drain(self) -> None:
        request = self._request()
        self.questions.add(request)
        host = f"host{self.world.owners.chance.randrange(self.world.plan.hosts)}"
        self.client.machine.ask(DrainHost(request, host), self.client.now)

    def _steal(self) -> None:
        """Only where it is written whose a session is, for good."""
        world = self.world
        if not world.disk.durable or "restore store" in world.plan.faults:
            return
        marks = world.truth.committed.marks
        victims = [one for one in world.clients if one.alive and one.session in marks]
        if victims:
            world.stats["thefts"] += 1
            world.door.dial(Thief(world, world.owners.chance.choice(victims)))


class HostileClient(ClientProcess):
    """Its process."""

    program_kind = HostileProgram

    def __init__(self, world: World) -> None:
        super().__init__(world, HOSTILE, window_bytes=1 << 20)
