"""The checkers of keys: one task a key, as long as it is held; and who is its duplicate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.sim.truth import Violation, ids

if TYPE_CHECKING:
    from collections.abc import Iterator

    from farm.protocol.messages import Refused
    from farm.protocol.records import Submitted
    from tests.sim.checks import Checks
    from tests.sim.network import Connection
    from tests.sim.truth import Id, Task

__all__ = ["KeyChecks"]

EPSILON = 1e-3
FEW = 100


class KeyChecks:
    """Watches who is accepted with which key."""

    def __init__(self, checks: Checks) -> None:
        self._checks = checks
        self._truth = checks.truth
        self._refused: set[Id] = set()

    def submitted(self, record: Submitted) -> None:
        """Tasks are accepted, or copied out."""
        fresh: dict[Id, Task] = {}
        for group in record.groups:
            for i, task in enumerate(ids(record.session, group.first, group.count)):
                known = self._truth.tasks[task]
                if self._truth.written[task].accepted or known.key is None:
                    continue
                if group.same is None:
                    self._alone(known, fresh)
                    fresh[task] = known
                else:
                    self._same(known, (group.same[0], group.same[1] + i), fresh)

    def _alone(self, task: Task, fresh: dict[Id, Task]) -> None:
        for other in [*self._with(task), *fresh.values()]:
            if self._is_alike(other, task) and (other.id in fresh or self._holds(other, -EPSILON)):
                raise Violation("one task a key", f"{task.name} is accepted beside {other.name}")

    def _same(self, task: Task, first: Id, fresh: dict[Id, Task]) -> None:
        other = self._truth.tasks[first]
        task.firsts.append(first)
        self._checks.world.stats["duplicates"] += 1
        owner = self._checks.world.owners.name_of
        if other.key != task.key or owner(other.client) != owner(task.client):
            raise Violation("wrong duplicate", f"{task.name} of {other.name}, with another body")
        if first not in fresh and not self._holds(other, EPSILON):
            raise Violation("wrong duplicate", f"{task.name} of {other.name}, which has no key")

    def _with(self, one: Task) -> Iterator[Task]:
        """All tasks with the key of one, whatever their body."""
        return (task for task in self._truth.tasks.values() if self._is_alike(task, one))

    def _is_alike(self, task: Task, other: Task) -> bool:
        """Whether two tasks have the same key, of the same owner."""
        owner = self._checks.world.owners.name_of
        return bool(
            task.key
            and other.key
            and task.key_name == other.key_name
            and owner(task.client) == owner(other.client)
        )

    def _holds(self, task: Task, slack: float) -> bool:
        """Whether a task has its key: it is pending, or its time is not over."""
        facts = self._truth.written[task.id]
        if not facts.accepted or facts.same is not None or task.key is None:
            return False
        return facts.outcome is None or (not task.key.unique and self._is_young(task, slack))

    def _is_young(self, task: Task, slack: float) -> bool:
        at = self._truth.written[task.id].at
        return self._checks.wall - at < self._checks.settings.key_ttl + slack

    def keeps(self, task: Task) -> bool:
        """Whether the outcome of a task has to be there because of its key."""
        return task.key is not None and not task.key.unique and self._holds(task, -EPSILON)

    # ------------------------------------------------------------ what is refused

    def refuses(self, connection: Connection, message: Refused) -> None:
        """The coordinator refuses tasks for good."""
        run = (connection.dealer.session, message.first, message.count)
        for task in self._truth.run(*run):
            others = [one for one in self._with(task) if one.key != task.key]
            few = self._checks.settings.max_keys < FEW
            if not {"key": bool(others), "keys": few}.get(message.reason):
                raise Violation("refused", f"{task.name}: {message}")
            self._refused.add(task.id)
            self._checks.world.stats[f"refused for {message.reason}"] += 1

    def refused(self, task: Task, message: Refused) -> None:
        """A client is told so."""
        if task.id not in self._refused:
            raise Violation("refused", f"{task.name}: {message}")
        task.refused = True
