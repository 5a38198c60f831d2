"""The checkers of recalls: no slot is idle while work waits elsewhere, and nothing goes in vain.

What a host has is looked up in its machine, after each of its turns: that is the truth.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tests.sim.checks_queues import queue_of
from tests.sim.truth import Violation

if TYPE_CHECKING:
    from farm.core import Core
    from farm.core.hosts import Host
    from farm.protocol.messages import Recall
    from tests.sim.checks import Checks
    from tests.sim.host import HostProcess
    from tests.sim.network import Connection
    from tests.sim.truth import Task

__all__ = ["RecallChecks"]

EARLY = 1e-3
"""Times that are written are of another clock than those that are reckoned with."""
ROUND_TRIPS = 10
"""As the coordinator has it: so many of its host's, a task may wait there for being young."""
DELAYS, COMMITS, SLACK = 30, 4, 0.1
"""And what it takes to ask, to give back, to commit that, and to hand out again."""

Waiting = tuple[str, tuple[int, int], int]
"""A host, a lease, the counter of a task of it."""
Run = tuple[int, int, int, int]
"""Epoch and number of a lease, the first of its tasks, and how many."""


class RecallChecks:
    """Watches hosts with nothing to do, and tasks that wait on others."""

    def __init__(self, checks: Checks) -> None:
        self._checks = checks
        self._world = checks.world
        self._is_calm = checks.world.plan.is_calm
        self._idle: dict[str, float] = {}  # since when, without a pause
        self._waits: dict[Waiting, float] = {}
        self._said: dict[Connection, object] = {}  # of what was asked for, the last that was said
        self._told: dict[Connection, dict[tuple[int, int, int], float]] = {}  # of stops: the grace

    @property
    def _machine(self) -> Core | None:
        coordinator = self._world.coordinator
        return coordinator and coordinator.machine

    # ------------------------------------------------------------ nothing is asked for in vain

    def sent(self, connection: Connection, message: Recall) -> None:
        """What is neither stopped nor cancelled is asked back only if others have room for it."""
        if message.grace is not None:
            self._is_news(connection, message.runs, message.grace)
            return
        machine = self._machine
        assert machine is not None
        runs = [self._named(run) for run in message.runs]
        if not self._is_for_others(machine, connection, message):
            self._is_cancelled(connection, runs)
            return
        self._world.stats["recalls"] += len(runs)
        tasks = sum(1 if run[0].packed else len(run) for run in runs)
        hosts = machine.ledger.hosts.all.values()
        room = sum(h.room for h in hosts if h.held < h.slots and h.peer != connection.peer)
        if tasks > room:
            text = f"{connection} is asked for {tasks} tasks, and there is room for {room}"
            raise Violation("recall", text)

    def _is_news(self, connection: Connection, runs: list[Run], grace: float) -> None:
        """A stop: no host is told once more, unless it is to end something sooner."""
        told = self._told.setdefault(connection, {})
        for epoch, lease, first, count in runs:
            for counter in range(first, first + count):
                at = epoch, lease, counter
                if grace >= told.get(at, math.inf):
                    text = f"{connection} is told again to stop {counter} of lease {at[:2]}"
                    raise Violation("recall", text)
                told[at] = grace

    def _named(self, run: Run) -> list[Task]:
        """The tasks of a run; none before the host hears of it, as those that run once."""
        epoch, number, first, count = run
        session = self._checks.truth.leases.get((epoch, number), b"")
        return self._checks.truth.run(session, first, count)

    def _is_for_others(self, machine: Core, connection: Connection, message: Recall) -> bool:
        """Whether it is the one message that says what has just been asked for idle hosts."""
        host = machine.ledger.host_of(connection.peer)
        asked = machine.recalls.asked.get(host) if host is not None else None
        if host is None or asked is None or asked is self._said.get(connection):
            return False
        named = [
            (*key, host.leases[key].batch.first + lo, hi - lo)
            for key, (lo, hi) in asked.runs.items()
            if key in host.leases
        ]
        if named != message.runs:
            return False
        self._said[connection] = asked
        return True

    def _is_cancelled(self, connection: Connection, runs: list[list[Task]]) -> None:
        for task in (task for run in runs for task in run):
            if not (task.cancel_asked or self._has_expired(task)):
                text = f"{connection} is asked for {task.name}, which nobody cancels"
                raise Violation("recall", text)

    def _has_expired(self, task: Task) -> bool:
        """Whether its time to begin is over."""
        expires, at = task.template.expires, self._checks.truth.written[task.id].at
        return expires is not None and self._checks.wall > at + expires - EARLY

    # ------------------------------------------------------------ nothing waits in vain

    def look(self) -> None:
        """A machine has had its turn. Where something goes wrong, waits have other reasons."""
        if not self._is_calm:
            return
        machine = self._machine
        if machine is None or machine.ledger.recovering:  # whoever waits, waits for that
            self._idle, self._waits = {}, {}
            return
        now = self._world.clock.now
        idle, waits = set[str](), set[Waiting]()
        for process in self._world.hosts:
            host = process and machine.ledger.hosts.all.get(process.name)
            if process is None or host is None or not process.machine.connected:
                continue
            if host.free and any(slot.idle for slot in process.machine._work.roster.slots):
                idle.add(process.name)
            waits |= self._waiting(machine, process, host)
        self._idle = {one: self._idle.get(one, now) for one in sorted(idle)}
        self._waits = {one: self._waits.get(one, now) for one in sorted(waits)}
        if self._idle and self._waits:
            self._compare(now, machine)

    def _waiting(self, machine: Core, process: HostProcess, host: Host) -> set[Waiting]:
        """What waits on a host that holds more than it can run at once."""
        if host.surplus <= 0 or host.draining:
            return set()
        found = set[Waiting]()
        for key, lease in process.machine._work.backlog.leases.items():
            for first, stop in lease.waiting:
                for task in self._checks.truth.run(lease.grant.session, first, stop - first):
                    if machine.ledger.queues.all[queue_of(task)].plain:
                        found.add((process.name, key, task.id[1]))
        return found

    def _compare(self, now: float, machine: Core) -> None:
        plan, settings = self._world.plan, machine.ledger.settings
        since = min(self._idle.values())
        for (name, key, counter), at in self._waits.items():
            load = machine.ledger.hosts.all[name].load
            bound = max(settings.recall_seconds, ROUND_TRIPS * load.get("round_trip", 0.0))
            bound += DELAYS * plan.delay + COMMITS * plan.commit_seconds + SLACK
            if now - max(since, at) > bound:
                idle = min(self._idle, key=self._idle.__getitem__)
                text = f"{idle} is idle, and {counter} of lease {key} waits on {name}"
                raise Violation("idle host", f"{text} for {now - at:.2f} s")
