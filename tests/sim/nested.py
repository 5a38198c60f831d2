"""Simulated tasks that submit others and wait for them, and the client that their worker has.

The client is a process of its own here, which lives and dies with its worker: it has a connection,
and a session that nothing waits in for room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from farm.model import deepest_wait
from farm.protocol.messages import Group, Template
from tests.sim.client import ClientProcess
from tests.sim.program import FUNCTIONS, Program
from tests.sim.truth import Task
from tests.sim.work import Work

if TYPE_CHECKING:
    from collections.abc import Callable

    from farm.protocol.messages import Refused, Result
    from farm_workers.host_slices import Slice
    from tests.sim.truth import Execution, Id
    from tests.sim.worker import Worker

__all__ = ["NestedClient", "Waits"]

CHILDREN = (1, 2, 2, 3)
WAKE_SECONDS = 0.005
"""At most, until a task goes on when all is over for which it waits."""
ONE_GROUP = 0.5
"""The share of parents that submit all their children in one group."""


class NestedProgram(Program):
    """Does what tasks want done, and nothing by itself."""

    client: NestedClient

    def _next(self) -> None:
        pass

    def rest(self) -> None:
        pass

    def submit_below(self, part: Slice, counter: int, levels: int) -> set[Id]:
        """Submit the children of a task; they have as many levels below them, less one."""
        world, chance = self.world, self.world.nested_chance
        count = chance.choice(CHILDREN)
        above = world.truth.tasks[part.session, counter].template
        limited = world.plan.limits_running  # then children are where their parents are
        template = Template(
            depth=part.depth + 1,
            parent=(part.session, counter),
            queue=above.queue if limited else "",
            concurrency_key=above.concurrency_key if limited else "",
            durable=chance.random() < 0.8,
            max_losses=chance.choice((3, 3, 1)),
        )
        first, session = self.counter, self.client.session
        self.counter += count
        below: set[Id] = set()
        works = []
        for at in range(first, first + count):
            kind = "wait" if levels > 1 and chance.random() < 0.7 else "ok"
            seconds = chance.expovariate(1.0 / world.plan.work_seconds)
            works.append(Work(kind, min(seconds, 1.0), levels - 1).payload())
            task = Task(
                (session, at), works[-1], template, FUNCTIONS[0].hash, 0, self.client.name, first,
                packed=False,
            )  # fmt: skip
            world.truth.submitted(task)
            below.add(task.id)
        groups = [self._as_group(first, works, template)]
        if chance.random() > ONE_GROUP:
            each = enumerate(works, first)
            groups = [self._as_group(at, [one], template) for at, one in each]
        self.client.machine.submit(groups, FUNCTIONS[:1], self.client.now)
        return below

    def _as_group(self, first: int, works: list[bytes], template: Template) -> Group:
        size = sum(map(len, works))
        return Group(first, len(works), FUNCTIONS[0].hash, list(works), size, template=template)


class NestedClient(ClientProcess):
    """The client of one worker."""

    program_kind = NestedProgram
    waits_for_room = False
    program: NestedProgram
    news: Callable[[], None]
    """Called whenever tasks of its own are over."""

    def settled(self, results: list[Result]) -> None:
        super().settled(results)
        self.news()

    def failed(self, first: int, count: int, why: Refused) -> None:
        """There was no room, and nothing of its own that would make some."""
        if why.reason != "busy":
            super().failed(first, count, why)
            self.news()
            return
        for task in self.world.truth.run(self.session, first, count):
            self.world.stats["told to be busy"] += 1
            task.refused = True
        self.news()


class Waits:
    """The waits of the tasks of one worker, one at a time."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._client: NestedClient | None = None
        self.execution: Execution | None = None
        """That which waits."""
        self.below: set[Id] = set()
        self._then: Callable[[], None] | None = None

    def begin(self, part: Slice, i: int, execution: Execution, levels: int) -> bool:
        """A task submits others and waits for them; False if it must not."""
        host, world = self._worker.host, self._worker.host.world
        if part.depth >= deepest_wait(world.plan.max_lent):
            world.stats["too deep"] += 1
            return False
        if not world.budget.patient:  # nor is there anybody who waits for this one
            return False
        if self._client is None:
            number = len(world.nested)
            self._client = NestedClient(world, f"{host.name}.{self._worker.slot}.{number}")
            self._client.news = self._look
            world.nested.append(self._client)
        self.execution = execution
        execution.waited = True
        self.below = self._client.program.submit_below(part, part.first + i, levels)
        world.stats["waits"] += 1
        return True

    def over(self, then: Callable[[], None]) -> None:
        """Go on as soon as all that is waited for is over."""
        self._then = then

    def _look(self) -> None:
        tasks, then = self._worker.host.world.truth.tasks, self._then
        if self.execution is None or then is None:
            return
        if all(tasks[one].settled is not None or tasks[one].refused for one in self.below):
            self._then = None
            delay = self._worker.host.world.nested_chance.uniform(0.0, WAKE_SECONDS)
            self._worker.host.world.clock.after(delay, self._go_on, self.execution, then)

    def _go_on(self, execution: Execution, then: Callable[[], None]) -> None:
        if self._worker.alive and self.execution is execution:
            self.execution = None
            then()

    def stop(self) -> None:
        """Something else has ended the wait."""
        self.execution = None

    def die(self) -> None:
        """The worker is gone, and its client with it."""
        self.execution = None
        if self._client is not None:
            self._client.die()
