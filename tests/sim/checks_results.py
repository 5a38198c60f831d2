"""The checkers of results that are kept: what is dropped for room, and when nothing is admitted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from farm.model import BLOB_BYTES
from farm.protocol.records import Finished, SessionMark, Submitted
from tests.sim.truth import Violation, ids

if TYPE_CHECKING:
    from farm.protocol.messages import Result
    from farm.protocol.records import Record
    from tests.sim.checks import Checks
    from tests.sim.truth import Id

__all__ = ["ResultChecks"]

VOLATILE_BYTES = 160
"""At most so large is an outcome that is in no journal."""


class ResultChecks:
    """Watches the room for results."""

    def __init__(self, checks: Checks) -> None:
        self._checks = checks
        self._most = 0  # bytes of outcomes in the journal, at most, since the last were dropped
        self._told = False  # which were dropped, since then
        self.dropped: set[Id] = set()

    def persisted(self, record: Record) -> None:
        """The coordinator hands a record over."""
        match record:
            case Finished():
                if self._told:  # one turn may drop results of many sessions
                    self._most, self._told = self._kept(), False
                self._most = max(self._most, self._kept() + sum(map(_size, record.entries)))
            case SessionMark():
                self._marked(record)
            case Submitted():
                self._submitted(record)

    def _kept(self) -> int:
        truth = self._checks.truth
        records = truth.written.records.values()
        kept = sum(_size(e) for r in records if isinstance(r, Finished) for e in r.entries)
        volatile = sum(not t.durable and bool(t.executions) for t in truth.tasks.values())
        each = VOLATILE_BYTES + (BLOB_BYTES if self._checks.world.plan.blobs else 0)
        return kept + volatile * each

    def _marked(self, record: SessionMark) -> None:
        """Only what its owner has is dropped, and only for room."""
        dropped = {t for first, count in record.dropped for t in ids(record.session, first, count)}
        most = max(self._most, self._kept())
        for task in sorted(dropped - self.dropped):
            known = self._checks.truth.tasks[task]
            if known.durable and not self._checks.truth.written[task].delivered:
                raise Violation("dropped unread", f"the result of {task[1]}")
            if most <= self._checks.settings.max_result_bytes:
                raise Violation("dropped", f"the result of {task[1]}: {most} bytes are kept")
            self._checks.world.stats["dropped"] += 1
        if dropped - self.dropped:
            self.dropped |= dropped
            self._told = True

    def _submitted(self, record: Submitted) -> None:
        """Nothing is admitted while unread results fill the room."""
        coordinator, bound = self._checks.world.coordinator, self._checks.settings.max_result_bytes
        if coordinator is None or self._checks.is_copy(record):
            return
        unread = coordinator.machine.ledger.unread_bytes
        if unread > bound:
            raise Violation("unread results", f"a submission is taken, {unread} bytes are unread")


def _size(entry: Result) -> int:
    """What an outcome takes of the room for results."""
    return entry.size + len(entry.printed)
