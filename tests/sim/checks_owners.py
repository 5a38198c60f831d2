"""The checkers of keys: nobody hears of another's task, and who is revoked has nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from farm.identity import Role
from farm.model import Ending, TaskId
from farm.protocol.messages import Answer, CancelReply, JobInfo, Progress, Query, Results
from tests.sim.truth import Violation, ids

if TYPE_CHECKING:
    from collections.abc import Iterator

    from farm.core import Core
    from farm.protocol.parts import TaskRun
    from farm.protocol.records import Submitted
    from tests.sim.checks import Checks
    from tests.sim.network import Connection

__all__ = ["OwnerChecks"]

ORDERS = ("pause_queue", "resume_queue", "purge_queue", "set_queue")


class OwnerChecks:
    """Watches what clients are told, where keys are in use."""

    def __init__(self, checks: Checks) -> None:
        self._checks = checks
        self._asked: dict[tuple[Connection, int], str] = {}

    def submitted(self, record: Submitted) -> None:
        """Tasks are accepted, or copied out: it is written whose they are."""
        owners = self._checks.world.owners
        if not owners.many:
            return
        for group in record.groups:
            for task in self._checks.truth.run(record.session, group.first, group.count):
                owner = record.owner or owners.name_of(task.client)
                if owner not in owners.of(task):
                    raise Violation("wrong owner", f"{task.name} is said to be {owner}'s")
                task.owner = owner

    def received(self, connection: Connection, message: Any) -> None:
        """The coordinator hears a client."""
        if isinstance(message, Query):
            self._asked[connection, message.request] = message.what

    def sent(self, connection: Connection, message: Any) -> None:
        """The coordinator tells a client something."""
        who = connection.dealer.who
        if who.sees_all:
            return
        for run in _named(message):
            self._may_hear(connection, run)
        if isinstance(message, Answer):
            self._answer(connection, message)

    def _answer(self, connection: Connection, message: Answer) -> None:
        what = self._asked.pop((connection, message.request), "drain")
        order = what in ORDERS or what == "drain"
        if order and connection.dealer.who.role is not Role.ADMIN:
            if "only an admin may" not in message.error:
                raise Violation("order of a stranger", f"{connection}: {what} {message}")
            self._checks.world.stats["orders of strangers"] += 1
        world, name = self._checks.world, connection.dealer.who.name
        for text in _texts(message.data):
            if text in world.job_names and world.owners.name_of(text.rpartition("-")[0]) != name:
                raise Violation("another's task", f"{connection} is told of job {text}")
            try:
                task = TaskId.parse(text)
            except ValueError:
                continue
            self._may_hear(connection, (*task, 1))

    def _may_hear(self, connection: Connection, run: TaskRun) -> None:
        """These tasks are named to a client."""
        world, client = self._checks.world, connection.dealer
        for task in ids(*run):
            known = self._checks.truth.tasks.get(task)
            if known is not None and not world.owners.may_see(client, known):
                raise Violation("another's task", f"{connection} is told of {known.name}")

    def turn_over(self, core: Core, revoked: set[str]) -> None:
        """What a host had whose key was revoked goes elsewhere, and nobody else with it is here."""
        if not revoked:
            return
        for host in core.ledger.hosts.all.values():
            if host.key in revoked:
                raise Violation("revoked", f"host {host.name} has {list(host.leases)}")
        for peer, who in core.ledger.peers.items():
            key = getattr(who, "identity", who).key
            if key in revoked:
                raise Violation("revoked", f"{peer} is connected with {key}")


def _named(message: Any) -> Iterator[TaskRun]:
    """The tasks of which a message says more than that there are none."""
    match message:
        case Results():
            for entry in message.entries:
                if entry.ending is not Ending.UNKNOWN or entry.failure is not None:
                    yield entry.session, entry.first, entry.count
        case CancelReply():
            yield from (*message.cancelled, *message.stopped, *message.stopping)
        case JobInfo() if message.session:
            yield from message.tasks
        case Progress():
            yield from ((session, counter, 1) for session, counter, *_ in message.notes)


def _texts(data: Any) -> Iterator[str]:
    """All texts in an answer."""
    match data:
        case str():
            yield data
        case dict():
            for key, value in data.items():
                yield from _texts(key)
                yield from _texts(value)
        case list() | tuple():
            for value in data:
                yield from _texts(value)
