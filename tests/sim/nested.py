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

    from farm.protocol.messages import Refused
    from farm_workers.host_slices import Slice
    from tests.sim.truth import Execution, Id
    from tests.sim.worker import Worker

__all__ = ["NestedClient", "Waits"]

CHILDREN = (1, 2, 2, 3)
LOOK_SECONDS = 0.005
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

    def failed(self, first: int, count: int, why: Refused) -> None:
        """There was no room, and nothing of its own that would make some."""
        if why.reason != "busy":
            super().failed(first, count, why)
            return
        for task in self.world.truth.run(self.session, first, count):
            self.world.stats["told to be busy"] += 1
            task.refused = True


class Waits:
    """The waits of the tasks of one worker, one at a time."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._client: NestedClient | None = None
        self.execution: Execution | None = None
        """That which waits."""
        self.below: set[Id] = set()

    def begin(self, part: Slice, i: int, execution: Execution, levels: int) -> bool:
        """A task submits others and waits for them; False if it must not."""
        host, world = self._worker.host, self._worker.host.world
        if part.depth >= deepest_wait(world.plan.max_lent):
            world.stats["too deep"] += 1
            return False
        if self._client is None:
            number = len(world.nested)
            self._client = NestedClient(world, f"{host.name}.{self._worker.slot}.{number}")
            world.nested.append(self._client)
        self.execution = execution
        execution.waited = True
        self.below = self._client.program.submit_below(part, part.first + i, levels)
        world.stats["waits"] += 1
        return True

    def over(self, then: Callable[[], None]) -> None:
        """Look now and then whether all that is waited for is over, and go on then."""
        clock = self._worker.host.world.clock
        clock.after(LOOK_SECONDS, self._look, self.execution, then)

    def _look(self, execution: Execution, then: Callable[[], None]) -> None:
        if not self._worker.alive or self.execution is not execution:
            return
        tasks = self._worker.host.world.truth.tasks
        if all(tasks[one].settled is not None or tasks[one].refused for one in self.below):
            self.execution = None
            then()
        else:
            self.over(then)

    def stop(self) -> None:
        """Something else has ended the wait."""
        self.execution = None

    def die(self) -> None:
        """The worker is gone, and its client with it."""
        self.execution = None
        if self._client is not None:
            self._client.die()
