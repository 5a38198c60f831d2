"""The checkers of evidence: a dead task is kept, with what each of its attempts has left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from farm.core.evidence import ATTEMPTS_MAX
from farm.protocol.records import Buried
from tests.sim import work
from tests.sim.truth import Violation

if TYPE_CHECKING:
    from tests.sim.checks import Checks
    from tests.sim.truth import Id

__all__ = ["EvidenceChecks"]


class EvidenceChecks:
    """Watches what becomes of dead tasks."""

    def __init__(self, checks: Checks) -> None:
        self._checks = checks
        self._truth = checks.truth

    def buried(self, record: Buried) -> None:
        """The coordinator keeps a dead task."""
        group = record.group
        task = self._truth.tasks[record.session, group.first]
        payload = work.content(group.payloads[0])
        own = work.split(payload)[group.start] if group.packed else payload
        if own != task.work or group.function != task.function:
            raise Violation("evidence", f"{task.name} is kept as {group}")
        facts = self._truth.written[task.id]
        expected = min(ATTEMPTS_MAX, facts.losses + 1)
        if len(record.attempts) < expected or not all(one.cause for one in record.attempts):
            raise Violation("evidence", f"{task.name} after {facts.losses}: {record.attempts}")

    def dead(self, task: Id) -> None:
        """A task ends as dead: its record has come before, unless there are too many."""
        if not self._truth.tasks[task].durable or self._checks.settings.dead_tasks == 1:
            return
        if not any(
            isinstance(record, Buried) and (record.session, record.group.first) == task
            for record in self._truth.written.records.values()
        ):
            raise Violation("evidence", f"{self._truth.tasks[task].name} is dead and not kept")

    def pruned(self, refs: list[int]) -> None:
        """Records of dead tasks go when their time is over, or there are too many."""
        settings = self._checks.settings
        for ref in refs:
            record = self._truth.written.records.get(ref)
            if not isinstance(record, Buried) or settings.dead_tasks == 1:
                continue
            task = (record.session, record.group.first)
            old = self._checks.wall - record.at >= settings.result_ttl - 1e-3
            if not old and self._truth.written[task].outcome is not None:
                again = any(
                    isinstance(other, Buried) and (other.session, other.group.first) == task
                    for number, other in self._truth.written.records.items()
                    if number != ref
                )
                if not again:
                    raise Violation("evidence", f"{task[1]} is forgotten too early")
