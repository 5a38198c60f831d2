"""The checkers of results that are kept: what is dropped for room, and when nothing is admitted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from farm.model import BLOB_BYTES
from farm.protocol.records import Finished, SessionMark, Submitted
from tests.sim.truth import Violation, ids, named

if TYPE_CHECKING:
    from farm.protocol.messages import Result, Submit
    from farm.protocol.records import Record
    from tests.sim.checks import Checks
    from tests.sim.network import Connection
    from tests.sim.truth import Id

__all__ = ["ResultChecks"]

VOLATILE_BYTES = 160
"""At most so large is an outcome that is in no journal."""


class ResultChecks:
    """Watches the room for results."""

    def __init__(self, checks: Checks) -> None:
        self._checks = checks
        self._records = 0  # of outcomes
        self._ended: dict[Id, int] = {}  # in which of them a task's outcome is
        self._full = 0  # with which of them there was no room for all
        self.dropped: set[Id] = set()
        self._unread: dict[Id, int] = {}  # the bytes that were when a task arrived

    def submitted(self, connection: Connection, message: Submit) -> None:
        """A client submits tasks; they may be written later than results that come after them."""
        coordinator, session = self._checks.world.coordinator, connection.dealer.session
        if coordinator is None:
            return
        ledger = coordinator.machine.ledger
        known = ledger.sessions.get(session)
        for group in message.groups:
            for task in ids(session, group.first, group.count):
                if known is None or task[1] not in known.accepted:
                    self._unread[task] = ledger.unread_bytes

    def persisted(self, record: Record) -> None:
        """The coordinator hands a record over."""
        match record:
            case Finished():
                self._finished(record)
            case SessionMark():
                self._marked(record)
            case Submitted():
                self._submitted(record)

    def _finished(self, record: Finished) -> None:
        self._records += 1
        for entry in record.entries:
            for task in ids(entry.session, entry.first, entry.count):
                self._ended[task] = self._records
        if self._kept() + sum(map(_size, record.entries)) > self._checks.settings.max_result_bytes:
            self._full = self._records

    def _kept(self) -> int:
        truth = self._checks.truth
        records = truth.written.records.values()
        kept = sum(_size(e) for r in records if isinstance(r, Finished) for e in r.entries)
        volatile = sum(not t.durable and bool(t.executions) for t in truth.tasks.values())
        each = VOLATILE_BYTES + (BLOB_BYTES if self._checks.world.plan.blobs else 0)
        return kept + volatile * each

    def _marked(self, record: SessionMark) -> None:
        """Only what its owner has is dropped, and only for room.

        It is said of a result long after it was dropped if others of its record live on.
        """
        dropped = {t for first, count in record.dropped for t in ids(record.session, first, count)}
        bound = self._checks.settings.max_result_bytes
        for task in sorted(dropped - self.dropped):
            known = self._checks.truth.tasks[task]
            if known.durable and not self._checks.truth.written[task].delivered:
                raise Violation("dropped unread", f"the result of {task[1]}")
            if self._full < self._ended.get(task, 0) and self._kept() <= bound:
                raise Violation("dropped", f"the result of {task[1]}: there was room since it came")
            self._checks.world.stats["dropped"] += 1
        self.dropped |= dropped

    def _submitted(self, record: Submitted) -> None:
        """Nothing is admitted while unread results fill the room."""
        if self._checks.is_copy(record):
            return
        bound = self._checks.settings.max_result_bytes
        unread = max(self._unread.get(task, 0) for task in named(record))
        if unread > bound:
            raise Violation("unread results", f"a submission is taken, {unread} bytes are unread")


def _size(entry: Result) -> int:
    """What an outcome takes of the room for results."""
    return entry.size + len(entry.printed)
