"""How many steps a world has, and what it does so that all that it began ends within them.

No new work is taken that might not end in time, and then it rests. What takes longer than most of
its kind is given up: cancelled, as by users who lost their patience.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.sim.truth import Id

if TYPE_CHECKING:
    from tests.sim.client import ClientProcess
    from tests.sim.world import World

__all__ = ["STEPS_PER_LOOK", "Budget"]

STEPS_PER_LOOK = 16
"""After so many steps it is looked whether it is time to rest."""
OF_WORK, OF_REST, OF_PATIENCE = 0.48, 0.84, 0.8
"""The shares of all steps after which it is time to rest, and to have come to rest, and by which
what is open is to be cancelled if it could not end in time."""
OF_MORE, OF_OPEN, OF_CANCELLED = 27, 20, 10
"""The steps for an open task: if there are to be more of them, if not, if it is cancelled."""
OF_FEW, FEW = 12, 10
"""So many more if it waits for room where there is room for less than so many."""
OF_NESTED = 1
"""How many others a task that waits for others has below it that are open with it, or so."""
OF_CLIENT, OF_TOLD, OF_ASKED = 12, 5, 3
"""The steps for a client, for an outcome that it is told because it asked, and for a request
without a reply, which a new connection sends again."""


class Budget:
    """Of one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.patient = True
        """Whether anybody waits for what is open."""

    @property
    def is_left(self) -> bool:
        """Whether more may go wrong before the rest, in which everything that is open ends."""
        steps, used = self._world.plan.steps, self._world.steps + STEPS_PER_LOOK
        return used < min(OF_WORK * steps, steps - self._needed(OF_OPEN))

    @property
    def takes_more(self) -> bool:
        """Whether there are steps for new tasks, too."""
        world = self._world
        told = OF_TOLD * len(world.truth.tasks)  # when it is audited
        return world.steps + told + self._needed(OF_MORE) < OF_REST * world.plan.steps

    @property
    def is_over(self) -> bool:
        """Whether there are just enough steps left to cancel what is open."""
        world = self._world
        return world.steps + self._needed(OF_CANCELLED) > OF_PATIENCE * world.plan.steps

    def _needed(self, each: float) -> float:
        """The steps that the rest may take: so many for each task that is open."""
        plan, truth = self._world.plan, self._world.truth
        clients = [one for one in (*self._world.clients, *self._world.nested) if one.alive]
        living = {client.session for client in clients}
        waited_for = {task for task in truth.unsettled if task[0] in living}
        tasks = len(waited_for | truth.committed.open.keys())
        told = sum(self._unheard(client) for client in clients)
        asked = sum(len(client.program.unanswered) for client in clients)
        each = (each + OF_FEW * plan.has_less_room_than(FEW)) * (1 + OF_NESTED * plan.nested)
        return each * tasks + OF_CLIENT * len(clients) + OF_TOLD * told + OF_ASKED * asked

    def _unheard(self, client: ClientProcess) -> int:
        """How many outcomes a client follows, and has not been told.

        Of its own it is told once more if they are over when the farm hears that it follows them.
        """
        program, others, mine = client.program, set[Id](), set[Id]()
        for request, tasks in program.follows.items():
            found = tasks | client.followed.get(request, set())
            if request in program.unanswered:
                found |= self._of_job(program.followed_jobs.get(request, ""))
                mine |= {task for task in found if task[0] == client.session}
            others |= {task for task in found if task[0] != client.session}
        return len(others - client.heard.keys()) + len(mine)

    def _of_job(self, name: str) -> set[Id]:
        """The tasks of a job, whatever the farm knows of it by now."""
        owner, _, number = name.rpartition("-")
        tasks = self._world.truth.tasks.values() if name else ()
        return {task.id for task in tasks if task.client == owner and task.job == int(number)}
