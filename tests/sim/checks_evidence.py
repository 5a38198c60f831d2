"""The checkers of evidence: a dead task is kept, with what each of its attempts has left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from farm.core.evidence import ATTEMPTS_MAX
from farm.protocol.records import Arguments, Buried
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
        own = self._work(record)
        if own != task.work or group.function != task.function:
            raise Violation("evidence", f"{task.name} is kept as {group}")
        facts = self._truth.written[task.id]
        expected = min(ATTEMPTS_MAX, facts.losses + 1)
        if len(record.attempts) < expected or not all(one.cause for one in record.attempts):
            raise Violation("evidence", f"{task.name} after {facts.losses}: {record.attempts}")

    def _work(self, record: Buried) -> bytes:
        """What a dead task was to do."""
        group = called = record.group
        if record.arguments:
            common = self._truth.written.records[record.arguments]
            if not isinstance(common, Arguments) or common.session != record.session:
                raise Violation("evidence", f"{group} has its arguments in {common}")
            called = common.group
        payload = work.content(called.payloads[0])
        at = group.first - called.first
        return work.split(payload)[called.start + at] if called.packed else payload

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
            if isinstance(record, Arguments):
                self._unneeded(ref, refs)
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

    def _unneeded(self, ref: int, refs: list[int]) -> None:
        """Arguments go with the last of the dead tasks that have them, not before."""
        for number, record in self._truth.written.records.items():
            if isinstance(record, Buried) and record.arguments == ref and number not in refs:
                raise Violation("evidence", f"{record.group.first} loses its arguments")
