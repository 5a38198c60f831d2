"""The checkers of tasks that wait for others: what may run in their place, and that it does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.sim.truth import Violation

if TYPE_CHECKING:
    from tests.sim.host import HostProcess
    from tests.sim.world import World

__all__ = ["may_begin", "starving"]


def may_begin(host: HostProcess) -> None:
    """A worker has begun something: no more have than slots there are, and such as may be lent."""
    busy = sum(worker.running is not None for worker in host.workers.values() if worker.alive)
    most = host.slots + host.world.plan.max_lent
    if busy > most:
        raise Violation("lent too much", f"{host.name} has {busy} tasks at a time, {most} allowed")


def starving(world: World) -> list[str]:
    """Of a farm that does not get on: parents of which no child has a worker."""
    tasks = world.truth.tasks
    at_work = {
        (part.session, counter)
        for host in world.hosts
        if host is not None
        for worker in host.workers.values()
        if worker.running is not None
        for part, counter, _ in (worker.running,)
    }
    found = []
    for host in world.hosts:
        for worker in host.workers.values() if host is not None else ():
            if worker.waits.execution is None or worker.running is None:
                continue
            left = [one for one in worker.waits.below if tasks[one].settled is None]
            if left and at_work.isdisjoint(left):
                found.append(f"{tasks[left[0]].name}, for which {host.name}.{worker.slot} waits")
    return found
