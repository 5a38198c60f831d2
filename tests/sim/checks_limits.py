"""The checkers of limits: who passes one is ended, and nobody else. And of replaced workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from farm.model import Ending, is_final
from tests.sim import work
from tests.sim.truth import Violation

if TYPE_CHECKING:
    from farm.protocol.messages import Ended, Recall
    from farm_workers.host_slices import Slice
    from tests.sim.host import HostProcess
    from tests.sim.truth import Execution, Outcome, Task
    from tests.sim.worker import Worker

__all__ = ["ERROR_NAMES", "WorkerLimits", "check_burst", "check_limited", "is_final_for"]

ERROR_NAMES = ("ValueError", "Exception", "BaseException")
"""The types of what simulated tasks raise."""
SLACK = 0.1
"""Seconds that messages, late timers and the end of a process may take."""
SAMPLE_SECONDS = 0.1
SHORT = 0.05
"""Seconds by which a time limit may seem to be short: from the hand-over to the beginning."""
_LIMITS = {
    Ending.TIME_LIMIT: "farm.errors.TimeLimitExceeded",
    Ending.MEMORY_LIMIT: "farm.errors.MemoryLimitExceeded",
}
BY_LIMITS = frozenset({Ending.MEMORY_LIMIT, Ending.TIME_LIMIT, Ending.CANCELLED})
"""How a task may end whose worker is ended: the first limit counts, or a stop."""


class WorkerLimits:
    """Watches one worker."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._host: HostProcess = worker.host
        self._tasks = 0
        self._asleep = 0.0

    def given(self, part: Slice) -> None:
        """A slice comes out of its pipe."""
        self._tasks += 1 if part.packed else part.count
        most = self._host.world.plan.max_tasks_per_worker
        if most and self._tasks > most:
            raise Violation("recycling", f"{self._host.name} gives a worker {self._tasks} tasks")

    def told(self, message: Recall) -> None:
        """Its host is told to stop tasks, perhaps the one that it is at."""
        running, grace = self._worker.running, message.grace
        if running is None or grace is None:
            return
        part, counter, execution = running
        for epoch, lease, first, count in message.runs:
            if part.key == (epoch, lease) and first <= counter < first + count:
                by = self._host.world.clock.now + grace
                execution.stop_by = min(execution.stop_by, by)

    def begins(self) -> None:
        """An item begins."""
        self._asleep = self._host.asleep

    def ends(self, part: Slice, execution: Execution) -> None:
        """An item comes to its own end, with nobody having ended it before."""
        if self._host.paused or self._host.asleep != self._asleep or not self._host.alive:
            return
        ran = self._host.world.clock.now - execution.began
        grace = self._host.world.plan.kill_seconds + SLACK
        if part.time_limit is not None and ran > part.time_limit + grace:
            raise Violation("limits", f"an item ran {ran:.2f} s, its limit is {part.time_limit}")
        limit = part.memory_limit
        late = self._host.world.clock.now - execution.stop_by
        if late > grace:
            raise Violation("stop", f"an item ran for {late:.2f} s after the grace of its stop")
        large = limit is not None and self._worker.memory > limit
        if large and ran > SAMPLE_SECONDS + grace:
            raise Violation("limits", f"an item was too large for {ran:.2f} s")


def is_final_for(task: Task, ending: Ending) -> bool:
    """Whether a task's options forbid another attempt after such an end."""
    name = _LIMITS.get(ending)
    names = ERROR_NAMES if name is None else (name, "farm.errors.FarmError", *ERROR_NAMES[1:])
    return is_final(names, task.template.retry_on, task.template.never_on)


def check_limited(task: Task, outcome: Outcome, *, stands_still: bool) -> None:
    """A task was ended by a limit: it must have passed it.

    Time goes on for it while its host ``stands_still``, as some do.
    """
    does = work.parse(task.work)
    limit = task.template.time_limit
    early = limit is None or (does.seconds < limit - SHORT and not stands_still)
    if outcome.ending is Ending.TIME_LIMIT and early:
        raise Violation("limits", f"{task.name} takes {does.seconds} s, its limit is {limit}")
    large = task.template.memory_limit is not None and does.kind == "hog"
    if outcome.ending is Ending.MEMORY_LIMIT and not large:
        raise Violation("limits", f"{task.name} has not used too much memory: {does}")


def check_burst(host: HostProcess, end: Ended) -> None:
    """An attempt for which the kernel ended something has passed a limit, whatever it came to."""
    grant = host.machine._work.backlog.leases[end.epoch, end.lease].grant
    drained = end.failure is not None and end.failure.cause == "drained"
    if end.ending in BY_LIMITS or drained:
        return
    for task in host.world.truth.run(grant.session, end.first, end.count):
        for one in task.executions:
            here = (one.host, one.epoch, one.attempt) == (host.name, end.epoch, grant.attempt)
            if one.burst and here:
                raise Violation("limits", f"{task.name} was too large, and ends as {end.ending!r}")
