"""The checkers of workers, outcomes as their owners see them, and what is left at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from farm.core import invariants
from farm.model import Ending
from farm.protocol.records import ClockRead
from tests.sim import work
from tests.sim.checks_limits import check_limited, is_final_for
from tests.sim.checks_queues import queue_of
from tests.sim.truth import Violation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sim.coordinator import CoordinatorProcess
    from tests.sim.truth import Execution, Outcome, Task
    from tests.sim.world import World

__all__ = ["began", "cancelled", "inside", "left_behind", "settled", "still_stopped"]


def began(world: World, task: Task, execution: Execution) -> None:
    """A worker begins a task."""
    # A store in memory forgets with its coordinator which hosts hold what.
    known = world.disk.durable or execution.epoch == world.truth.epoch
    if task.cancel_confirmed and task.durable and known:
        raise Violation("cancelled task ran", f"{task.name}: {execution}")
    if world.truth.is_stale(task, execution.epoch, execution.attempt):
        world.stats["stale executions"] += 1
    world.checks.queues.began(task, execution)
    # What its store says of retries does not count: a copy may be older than what a host does yet.
    once = task.runs_once and world.disk.durable and not task.forgotten
    if once and len(task.executions) - 1 > len(task.retried):
        raise Violation("ran twice", f"{task.name}, {task.retried} failed: {task.executions}")


def cancelled(task: Task) -> None:
    """Somebody is told that a task is cancelled: it never ran, anywhere, and never will."""
    task.cancel_confirmed = True
    if task.executions:
        raise Violation("cancelled task ran", f"{task.name}: {task.executions}")


def still_stopped(task: Task, outcome: Outcome) -> None:
    """A task has an outcome: after the answer to a stop it is no success, and no failure."""
    promised = task.stop_confirmed or task.stop_promised
    if promised and outcome.ending not in (Ending.CANCELLED, Ending.EXPIRED):
        raise Violation("stopped task ended otherwise", f"{task.name}: {outcome}")


def settled(world: World, task: Task) -> None:
    """Its owner has a task's outcome: it must be one that the work could have."""
    outcome = task.settled
    assert outcome is not None
    if outcome not in task.undone:  # or it was on its way when its store was replaced
        still_stopped(task, outcome)
    errors: list[Violation] = []
    for first in world.truth.made_as(task, outcome):
        try:
            _ended(world, first, outcome, asked=task.cancel_asked)
            return
        except Violation as error:
            errors.append(error)
    raise errors[-1]


def _ended(world: World, task: Task, outcome: Outcome, *, asked: bool) -> None:
    """A task, or one that has its key, has an outcome that it could have."""
    match outcome.ending:
        case Ending.OK:
            _made_by_an_execution(task, outcome)
        case Ending.EXCEPTION:
            _made_by_an_execution(task, outcome)
            _retries_spent(task, outcome)
        case Ending.TIME_LIMIT | Ending.MEMORY_LIMIT:
            check_limited(task, outcome, stands_still="pause host" in world.plan.faults)
            _retries_spent(task, outcome)
        case Ending.LOST:
            world.checks.losses.lost(task)
    may = {
        Ending.TIME_LIMIT: task.template.time_limit is not None,
        Ending.MEMORY_LIMIT: task.template.memory_limit is not None,
        Ending.CANCELLED: asked or _is_cancelled(world, task),
        Ending.EXPIRED: task.template.expires is not None,
        Ending.BROKEN: world.plan.initializer,  # and its workers died before they did anything
    }
    if not may.get(outcome.ending, outcome.ending <= Ending.LOST):
        raise Violation("endings", f"{task.name} ends as {outcome.ending.name}")


def _is_cancelled(world: World, task: Task | None) -> bool:
    """Whether somebody wanted a task to end, or one above it."""
    while task is not None:
        if task.cancel_asked or queue_of(task) in world.checks.queues.purged:
            return True
        parent = task.template.parent
        task = world.truth.tasks.get(parent) if parent is not None else None
    return False


def _made_by_an_execution(task: Task, outcome: Outcome) -> None:
    token = work.made_by(outcome.payload, task.id)
    how = "ok" if outcome.ending is Ending.OK else "raised"
    if not any((e.epoch, e.attempt) == token and e.ended == how for e in task.executions):
        raise Violation("endings", f"{task.name}: no execution made {outcome}")


def _retries_spent(task: Task, outcome: Outcome) -> None:
    if is_final_for(task, outcome.ending):
        return
    template = task.template
    limited = not (template.time_limit is template.memory_limit is None)
    failures = {"raised", "died"} if limited else {"raised"}
    failed = sum(execution.ended in failures for execution in task.executions)
    if failed <= task.template.retries:
        raise Violation("retries", f"{task.name} failed after {failed} attempts")


def inside(coordinator: CoordinatorProcess | None) -> None:
    """The core's own invariants."""
    if coordinator is not None:
        try:
            invariants.check(coordinator.machine)
        except AssertionError as error:
            raise Violation("invariants", str(error)) from error


def left_behind(world: World) -> Iterator[str]:
    """What is still kept when everybody has left."""
    for ref, record in world.truth.committed.records.items():
        if not isinstance(record, ClockRead):
            yield f"record {ref}: {record}"
    if world.coordinator is not None:
        ledger = world.coordinator.machine.ledger
        yield from (f"session {session.id.hex()[:4]}" for session in ledger.sessions.values())
        yield from (f"host {name}" for name in ledger.hosts.all)
        yield from (f"job {job}" for job in ledger.jobs.all)
        if ledger.open_tasks or ledger.open_bytes:
            yield f"{ledger.open_tasks} open tasks and {ledger.open_bytes} open bytes"
    yield from (f"blob {name}" for name in sorted(world.files.there))
    yield from (f"function {key.hex()[:4]}" for key in world.disk.functions)
