"""The checkers of leases: what may be given to a host, in which order, and what may be noted."""

from __future__ import annotations

import math
from operator import itemgetter
from typing import TYPE_CHECKING

from farm.protocol.messages import HostHello, Report
from tests.sim.checks_queues import queue_of
from tests.sim.truth import Lease, Violation

if TYPE_CHECKING:
    from typing import Any

    from farm.core.batch import Batch
    from farm.core.ledger import Ledger
    from farm.protocol.messages import Assign, Submit
    from tests.sim.checks import Checks
    from tests.sim.network import Connection, Dealer
    from tests.sim.truth import Id, Task

__all__ = ["LeaseChecks"]

NEVER = float("inf")
NO_AGE = 50.0
"""Where it takes longer than that for a task to rise, none does in a simulated run."""
LATE = 1e-3
"""Seconds by which two clocks of the simulation may round differently."""


class LeaseChecks:
    """Watches what the coordinator and its hosts say to each other."""

    def __init__(self, checks: Checks) -> None:
        self._checks = checks
        self._truth = checks.truth
        self._reports: dict[Dealer, dict[int, Report]] = {}
        self._ready: dict[Id, Task] = {}  # new here, never leased
        self._submits = 0
        # In this turn, by the lease's number, and how many submissions had arrived by then.
        self._given: list[tuple[int, int, Task, Connection]] = []
        self._given_to: dict[Connection, None] = {}
        self._windows: dict[Dealer, int] = {}  # as the coordinator heard them last

    def restarted(self) -> None:
        """The backlog of the last process waits for recovery, in an order of its own."""
        self._reports.clear()
        self._ready.clear()
        self._given.clear()
        self._given_to.clear()

    def submitted(self, connection: Connection, message: Submit) -> None:
        """A client submits tasks: those that are not accepted yet arrive now, if they are at all.

        What is written does not say it: a submission with large payloads may be written later
        than what came after it, and clocks may say the same of both.
        """
        self._submits += 1
        coordinator, session = self._checks.world.coordinator, connection.dealer.session
        known = coordinator and coordinator.machine.ledger.sessions.get(session)
        for group in message.groups:
            for task in self._truth.run(session, group.first, group.count):
                if not known or task.id[1] not in known.accepted:
                    task.arrived = self._submits

    def admitted(self, task: Task) -> None:
        """A durable task is written, and was perhaps given to a host before."""
        waits = task.template.delay or task.template.eta or task.assigned
        if not waits and not task.runs_once:  # such a one waits for a commit
            self._ready[task.id] = task

    def over(self, task: Id) -> None:
        """A task has an outcome."""
        self._ready.pop(task, None)

    # ------------------------------------------------------------ leases given

    def assigned(self, connection: Connection, message: Assign) -> None:
        """The coordinator gives leases to a host."""
        for grant in message.grants:
            self._truth.leases[message.epoch, grant.lease] = grant.session
            tasks = self._truth.run(grant.session, grant.first, grant.count)
            if len(tasks) != grant.count or not tasks:
                raise Violation("lease", f"{connection} is given {grant.count} tasks")
            for task in tasks:
                self._leased(task, message.epoch, grant.attempt, connection.dealer)
                self._given.append((grant.lease, self._submits, task, connection))
                if not task.runs_once:  # room for such a one was taken before its commit
                    self._given_to[connection] = None

    def _leased(self, task: Task, epoch: int, attempt: int, agent: Dealer) -> None:
        if task.durable:
            self._may_be_leased(task, epoch, attempt)
            self._is_time(task)
        if task.assigned:
            before = task.assigned[-1]
            if (epoch, attempt) <= before[:2]:
                raise Violation("token", f"{task.name}: ({epoch}, {attempt}) after {before[:2]}")
            if task.durable:
                self._fenced_off(task, before)
        task.assigned.append(Lease(epoch, attempt, self._truth.process, agent))

    def _may_be_leased(self, task: Task, epoch: int, attempt: int) -> None:
        if self._truth.written[task.id].outcome is not None:
            raise Violation("ran after its outcome", f"{task.name} is leased after its outcome")
        if task.cancel_confirmed:
            raise Violation("cancelled task ran", f"{task.name} is leased after its cancel")
        if task.stop_confirmed:
            raise Violation("stopped task ran", f"{task.name} is leased after its stop")
        if self._truth.is_stale(task, epoch, attempt):
            raise Violation("stale token", f"{task.name} is leased under ({epoch}, {attempt})")
        if self._is_held_back(task):
            raise Violation("dispatched uncommitted", f"{task.name}: the disk is full")
        if task.runs_once and self._truth.committed[task.id].begun != attempt:
            raise Violation("dispatched before commit", f"{task.name}: the begin of {attempt}")

    def _is_held_back(self, task: Task) -> bool:
        """Whether a task must wait until its submission is committed: the disk is full."""
        coordinator = self._checks.world.coordinator
        if coordinator is None or not coordinator.short:
            return False
        return not self._truth.committed[task.id].accepted

    def _is_time(self, task: Task) -> None:
        """Delays, backoffs and expiries, which a restart does not change."""
        facts, template, wall = self._truth.written[task.id], task.template, self._checks.wall
        due = max(facts.due, task.starts_at(facts.at))
        if wall < due - LATE:
            raise Violation("too early", f"{task.name} is leased {due - wall} s before its time")
        waits = not task.assigned and not task.runs_once
        if waits and wall > facts.at + (template.expires or NEVER) + LATE:
            raise Violation("too late", f"{task.name} had expired when it was leased")

    def turn_over(self) -> None:
        """The coordinator has given out what it could."""
        if not self._given:
            return
        given, self._given = self._given, []
        for _, submits, task, connection in sorted(given, key=itemgetter(0)):
            self._is_its_turn(task, connection, submits)
        given_to, self._given_to = self._given_to, {}
        for connection in given_to:
            self._within_window(connection)

    def _within_window(self, connection: Connection) -> None:
        coordinator = self._checks.world.coordinator
        host = coordinator and coordinator.machine.ledger.host_of(connection.peer)
        window = self._windows[connection.dealer]
        if host and host.held > window:
            raise Violation("host window", f"{host.name} holds {host.held}, and may {window}")

    def _is_its_turn(self, task: Task, connection: Connection, submits: int) -> None:
        """Higher priorities first; within one, new tasks of a session in order of arrival.

        Among those that had come with the first ``submits`` submissions.
        """
        if self._ready.pop(task.id, None) is None:
            return
        here = [other for other in self._ready.values() if other.arrived <= submits]
        waiting = [other for other in here if self._goes_with(other, task)]
        waiting = self._for_the_slot(waiting, task, connection)
        ready = self._payloads_here(waiting)
        policy = self._checks.queues.policy(queue_of(task))
        for other in ready if policy.ageing_seconds >= NO_AGE else ():
            if other.template.priority > task.template.priority:
                raise Violation("priority", f"{task.name} goes before {other.name}")
        for other in ready:
            self._checks.queues.rises(task, other)
        for other in waiting:
            if _line(other) == _line(task) and other.arrived < task.arrived:
                raise Violation("order", f"{task.name} goes before {other.name}")

    def _for_the_slot(self, waiting: list[Task], task: Task, connection: Connection) -> list[Task]:
        """Those that a slot was for, too, which a task got: one that is lent is for the deepest.

        So is a place that is lent, in a queue in which more run than may.
        """
        coordinator = self._checks.world.coordinator
        ledger = coordinator and coordinator.machine.ledger
        host = ledger and ledger.host_of(connection.peer)
        if not ledger or not host or not (depth := _depth(ledger, task)):
            return waiting
        if not host.waiting and not _is_lent(ledger, task):
            return waiting
        return [
            other
            for other in waiting
            if _depth(ledger, other) >= depth
            and (not host.waiting or any(host.takes(batch) for batch in _batches(ledger, other)))
        ]

    def _payloads_here(self, waiting: list[Task]) -> list[Task]:
        """Those whose payloads are not being read, nor those of one before them in their line."""
        first: dict[tuple[str, int, bytes], int] = {}
        for read in self._checks.being_read():
            task = self._truth.tasks[read]
            line = (queue_of(task), *_line(task))
            first[line] = min(task.arrived, first.get(line, task.arrived))
        return [
            task
            for task in waiting
            if task.arrived < first.get((queue_of(task), *_line(task)), math.inf)
        ]

    def _goes_with(self, other: Task, task: Task) -> bool:
        """Whether two tasks wait in one queue, and the other for nothing but its turn."""
        name = queue_of(task)
        if queue_of(other) != name or self._is_held_back(other):
            return False
        if (other.template.resources, other.template.labels) != (
            task.template.resources,
            task.template.labels,
        ):
            return False  # perhaps no host has what it needs
        per_key = self._checks.queues.policy(name).max_running_per_key
        return per_key is None or not other.template.concurrency_key

    def _fenced_off(self, task: Task, before: Lease) -> None:
        """The last attempt's end is committed before the next is leased."""
        epoch, attempt, process, _ = before
        facts = self._truth.committed[task.id]
        if attempt < facts.attempt or epoch < facts.fence:
            return
        if process == self._truth.process:
            raise Violation("dispatched before commit", f"{task.name}: end of {before[:2]}")
        if task.known:
            raise Violation("dispatched before recovery", f"{task.name}: {before[:2]} may run")

    # ------------------------------------------------------------ reports

    def received(self, connection: Connection, message: Any) -> None:
        """A host says who it is, or what happened."""
        if isinstance(message, HostHello | Report):
            if connection in self._given_to:  # what was given counts by the window of before
                del self._given_to[connection]
                self._within_window(connection)
            self._windows[connection.dealer] = message.window
        if not isinstance(message, Report):
            return
        self._reports.setdefault(connection.dealer, {})[message.number] = message

    def noted(self, connection: Connection, number: int) -> None:
        """A host may forget only what is committed."""
        reports = self._reports.get(connection.dealer, {})
        for done in [n for n in reports if n <= number]:
            for ended in reports.pop(done).ended:
                session = self._truth.leases.get((ended.epoch, ended.lease), b"")
                for task in self._truth.run(session, ended.first, ended.count):
                    self._end_committed(task, ended.epoch, ended.attempt)

    def _end_committed(self, task: Task, epoch: int, attempt: int) -> None:
        facts, written = self._truth.committed[task.id], self._truth.written[task.id]
        over = facts.outcome is not None or attempt < facts.attempt or epoch < facts.fence
        if not facts.accepted:  # submitted anew, after a crash lost what this attempt was of
            over = over or epoch < written.fence
        if task.durable and written.accepted and not over:
            raise Violation("noted before commit", f"{task.name}: end of ({epoch}, {attempt})")


def _batches(ledger: Ledger, task: Task) -> list[Batch]:
    session = ledger.sessions.get(task.id[0])
    return [] if session is None else [one for one, _, _ in session.batches.overlap(task.id[1], 1)]


def _depth(ledger: Ledger, task: Task) -> int:
    """How many tasks wait for it, and for each other."""
    return max((ledger.depth(batch) for batch in _batches(ledger, task)), default=0)


def _is_lent(ledger: Ledger, task: Task) -> bool:
    """Whether more tasks of its queue or key run than may, for others wait for some of them."""
    queue, key = ledger.queues.all[queue_of(task)], task.template.concurrency_key
    most, per_key = queue.policy.max_running, queue.policy.max_running_per_key
    return (most is not None and queue.running > most) or (
        per_key is not None and queue.keys.get(key, 0) > per_key
    )


def _line(task: Task) -> tuple[int, bytes]:
    """What is served first come, first served, in one queue."""
    return task.template.priority, task.id[0]
