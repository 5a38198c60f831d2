"""The checkers of losses: a lease lasts its time, and only a real loss is paid for."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from farm.protocol.messages import HostHello
from tests.sim.truth import Violation, ids

if TYPE_CHECKING:
    from typing import Any

    from farm.protocol.messages import Failure
    from farm.protocol.records import Begun
    from tests.sim.checks import Checks
    from tests.sim.coordinator import CoordinatorProcess
    from tests.sim.network import Connection
    from tests.sim.truth import Id, Lease, Task

__all__ = ["LossChecks"]

SLACK = 0.05
"""Seconds by which a lease may be short: what the coordinator's loop does between two looks."""


class Hello(NamedTuple):
    """An agent came back: to which coordinator process, and when."""

    to: int
    at: float
    connection: int


class LossChecks:
    """Watches when hosts are heard, and what their silence costs."""

    def __init__(self, checks: Checks) -> None:
        self._checks = checks
        self._truth = checks.truth
        self._heard: dict[str, tuple[float, float]] = {}  # when, and how long it had slept by then
        self._back: dict[object, list[Hello]] = {}  # an agent's HELLOs
        self._ended: dict[tuple[bytes, int, int], tuple[int, float]] = {}  # ends of attempts
        self._instances: dict[bytes, object] = {}
        self._begun: dict[Id, tuple[int, bytes]] = {}  # by whom written, and of which host
        self._over: dict[Id, tuple[int, float]] = {}  # who wrote the outcome, and when

    def restarted(self) -> None:
        """A new coordinator has heard nobody."""
        self._heard.clear()

    def restored(self) -> None:
        """A copy is in the place of the store: what had begun by then may have ended since."""
        self._begun.clear()

    def received(self, connection: Connection, message: Any) -> None:
        """The coordinator hears a host."""
        name, coordinator = connection.dealer.name, self._checks.world.coordinator
        if coordinator is not None and not _is_another(coordinator, name, message):
            self._heard[name] = (self._checks.wall, coordinator.asleep)
        if isinstance(message, HostHello):
            hello = Hello(self._truth.process, self._checks.wall, message.connection)
            before = self._back.setdefault(connection.dealer, [])
            # An older one may arrive late, and is refused.
            if all(one.connection < hello.connection for one in before):
                before.append(hello)
            self._instances[message.instance] = connection.dealer

    def welcomed(self, connection: Connection) -> None:
        """An agent is back: whatever it cost was given back."""
        instance = next(i for i, one in self._instances.items() if one is connection.dealer)
        for task in self._truth.committed.open:
            facts = self._truth.committed[task]
            if instance in facts.charged:
                raise Violation("losses", f"{connection.dealer.name} is back: {task[1]} {facts}")

    def ended(self, session: bytes, first: int, count: int, attempt: int) -> None:
        """The attempts before this one are over."""
        for task in ids(session, first, count):
            key = (*task, attempt - 1)
            self._ended.setdefault(key, (self._truth.process, self._checks.wall))

    def failed(self, failure: Failure | None) -> None:
        """Why an attempt is over: a host's silence counts while the coordinator listens."""
        coordinator, settings = self._checks.world.coordinator, self._checks.settings
        if failure is None or failure.cause != "host_lost" or "silent" not in failure.message:
            return
        if coordinator is None or failure.host not in self._heard:
            return
        when, asleep = self._heard[failure.host]
        silent = self._checks.wall - when - (coordinator.asleep - asleep)
        # A sleep of less than two beats is not noticed, and the lease is shorter by that.
        if silent < settings.lease_seconds - 2 * settings.beat_seconds - SLACK:
            raise Violation("lease cut short", f"{failure.host} was silent for {silent:.2f} s")

    def begin(self, record: Begun) -> None:
        """Tasks that must not run twice are about to begin."""
        for task in ids(record.session, record.first, record.count):
            self._begun[task] = (self._truth.process, record.host)

    def over(self, task: Id) -> None:
        """A task has an outcome."""
        self._over.setdefault(task, (self._truth.process, self._checks.wall))

    def lost(self, task: Task) -> None:
        """A task is dead: it has more real losses than it may have."""
        facts = self._truth.committed[task.id]
        if not task.durable:
            return
        if task.runs_once and task.forgotten:
            return  # what was written of it may be forgotten, too
        if task.id not in self._over:  # it may have ended as the one that has its key
            raise Violation("losses", f"{task.name} is lost, and has no outcome of its own")
        if task.runs_once and facts.begun:
            if self._never_began(task):
                raise Violation("losses", f"{task.name} is lost and never began: {task}")
            return  # it may have run, and nobody knows
        losses = sum(self._is_real(task, lease) for lease in task.assigned) - facts.retries
        if losses <= task.template.max_losses:
            raise Violation("losses", f"{task.name} is lost after {losses} losses: {task}")

    def _never_began(self, task: Task) -> bool:
        """Whether the coordinator that buried a task had to know that it never began."""
        buried_by, buried_at = self._over[task.id]
        if task.id not in self._begun:
            return False  # nothing was to be known of it
        written_by, instance = self._begun[task.id]
        attempt = self._truth.committed[task.id].begun
        if any(execution.attempt == attempt for execution in task.executions):
            return False
        sent = [lease for lease in task.assigned if lease.attempt == attempt]
        back = self._back.get(self._instances[instance], ())
        came_back = any(hello.to == buried_by and hello.at < buried_at for hello in back)
        return not sent and (written_by == buried_by or came_back)

    def _is_real(self, task: Task, lease: Lease) -> bool:
        """Whether an attempt may have been lost; not if the coordinator heard of its agent after.

        That may be another one than ended the attempt: what is charged to whom is durable.
        """
        mine = [e for e in task.executions if (e.epoch, e.attempt) == lease[:2]]
        if not lease.agent.alive or any(one.ended in {"died", "raised"} for one in mine):
            return True  # of those that raised, retries are taken off above
        ended = self._ended.get((*task.id, lease.attempt))
        buried_by, buried_at = self._over[task.id]
        return ended is None or not any(
            hello.to == buried_by and ended[1] < hello.at < buried_at
            for hello in self._back.get(lease.agent, ())
        )


def _is_another(coordinator: CoordinatorProcess, name: str, message: Any) -> bool:
    """Whether a HELLO is that of a new agent, while the one that has the name may be alive."""
    host = coordinator.machine.ledger.hosts.all.get(name)
    is_known = host is not None and isinstance(message, HostHello)
    return is_known and host.instance != message.instance
