"""The checkers of the whole, when everything has come to rest, and when everybody has left."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from tests.sim.checks_work import left_behind
from tests.sim.truth import Violation

if TYPE_CHECKING:
    from tests.sim.client import ClientProcess
    from tests.sim.truth import Task
    from tests.sim.world import World

__all__ = ["check_rest", "check_void", "unrest"]


def unrest(world: World) -> list[str]:
    """What is still to happen before the farm is at rest; the first few things are enough."""
    if world.coordinator is None:
        return ["the coordinator to start"]
    if any(host is None for host in world.hosts):
        return ["a host to start"]
    for client in (*world.clients, *world.nested):
        if client.alive and (waits := client.program.waits_for):
            return [f"{client.name} waits for:", *waits]
    if world.truth.committed.open:
        task = world.truth.tasks[next(iter(world.truth.committed.open))]
        return [f"{task.name} of {task.client} to end"]
    ledger = world.coordinator.machine.ledger
    if ledger.open_tasks or not world.coordinator.journal.idle:
        return [f"{ledger.open_tasks} tasks open in the coordinator, or its journal busy"]
    held = [f"{host.name} holds {host.holds}" for host in world.hosts if host and host.holds]
    return held + [f"the last words of {name} to arrive" for name in world.network.late]


def check_rest(world: World) -> None:
    """Nothing is on its way: every task is where it belongs."""
    clients = (*world.clients, *world.nested)
    living = {client.session: client for client in clients if client.alive}
    for client in living.values():
        _check_session(client)
    for task in world.truth.tasks.values():
        facts = world.truth.committed[task.id]
        if task.durable and world.disk.durable and task.acknowledged and facts.outcome is None:
            raise Violation("lost", f"{task.name} was acknowledged and has no outcome")
        if task.id[0] in living and task.settled is None and not task.refused:
            raise Violation("lost", f"{task.name} was never settled")
        # What a drain ends when its grace is over runs again, and nobody pays; so do neighbours of
        # what is stopped.
        steered = world.plan.stops or world.stats["asked drains"] or not world.budget.patient
        if world.plan.is_calm and not world.plan.deaths and not steered:
            _check_calm(task)


def _check_session(client: ClientProcess) -> None:
    """A session whose tasks are all over keeps nothing of them."""
    session = client.machine
    kept = {
        "open": len(session.open),
        "unacknowledged": session.unacknowledged,
        "retained": session._outbox.retained.tasks,
        "cancels": len(session._cancels._waiting),
        "queries": len(session._queries),
        "jobs": len(session.jobs.unsealed),
    }
    left = {name: count for name, count in kept.items() if count}
    if left:
        raise Violation("left behind", f"the session of {client.name} has {left}")


def _check_calm(task: Task) -> None:
    """Where nothing went wrong, nothing runs twice."""
    bound = 1
    if task.work.startswith(b"raise"):
        bound += task.template.retries
    if len(task.executions) > bound:
        raise Violation("ran too often", f"{task.name}: {len(task.executions)} times, not {bound}")


def check_void(world: World) -> None:
    """Everybody left long ago."""
    left = list(islice(left_behind(world), 12))
    if left:
        raise Violation("left behind", ", ".join(left))
