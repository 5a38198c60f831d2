"""The checkers of the journal and of what the coordinator says: at every step.

They watch from outside: records and messages as they pass the coordinator's port, compared with
the truth. What a machine holds inside is checked by ``farm.core.invariants``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from farm.model import Ending, State
from farm.protocol.messages import (
    Accepted,
    Assign,
    CancelReply,
    HostWelcome,
    Noted,
    Recall,
    Refused,
    Submit,
)
from farm.protocol.records import (
    AttemptEnd,
    AttemptsEnded,
    Begun,
    Buried,
    Finished,
    Submitted,
    encode_record,
)
from tests.sim import work
from tests.sim.checks_evidence import EvidenceChecks
from tests.sim.checks_keys import KeyChecks
from tests.sim.checks_leases import LeaseChecks
from tests.sim.checks_losses import LossChecks
from tests.sim.checks_owners import OwnerChecks
from tests.sim.checks_queues import QueueChecks
from tests.sim.checks_readers import ReaderChecks
from tests.sim.checks_recalls import RecallChecks
from tests.sim.checks_resources import ResourceChecks
from tests.sim.checks_results import ResultChecks
from tests.sim.checks_work import cancelled, still_stopped
from tests.sim.journal import Append, Delete, Release
from tests.sim.truth import Violation, ids, named, outcomes

if TYPE_CHECKING:
    from typing import Any

    from farm.core import CoreSettings
    from farm.protocol.records import Record
    from tests.sim.journal import Change, Disk
    from tests.sim.network import Connection
    from tests.sim.truth import Id, Outcome, Task, Truth
    from tests.sim.world import World

__all__ = ["Checks"]

NO_OUTCOME = (Ending.UNKNOWN, Ending.DELIVERED)


class Checks:
    """Watches one coordinator after the other, and the one disk."""

    def __init__(self, world: World, settings: CoreSettings) -> None:
        self.world = world
        self.truth: Truth = world.truth
        self.settings = settings
        self.leases = LeaseChecks(self)
        self.losses = LossChecks(self)
        self.readers = ReaderChecks(self)
        self.evidence = EvidenceChecks(self)
        self.results = ResultChecks(self)
        self.queues = QueueChecks(self)
        self.keys = KeyChecks(self)
        self.recalls = RecallChecks(self)
        self.resources = ResourceChecks(self)
        self.owners = OwnerChecks(self)

    @property
    def disk(self) -> Disk:
        return self.world.disk

    @property
    def wall(self) -> float:
        return self.world.wall

    def restarted(self, epoch: int) -> None:
        """A new coordinator process, which knows what is committed."""
        if epoch <= self.truth.epoch and self.disk.durable:
            raise Violation("epoch", f"{epoch} comes after {self.truth.epoch}")
        self.truth.process += 1
        self.truth.epoch = epoch
        self.leases.restarted()
        self.losses.restarted()
        self.readers.restarted()
        self.queues.restarted()
        self.resources.restarted()
        for task in self.truth.tasks.values():
            facts = self.truth.committed[task.id]
            task.known = facts.accepted
            if not (task.durable and self.disk.durable):  # forgotten with the coordinator
                task.stop_confirmed = False

    def being_read(self) -> set[Id]:
        """The queued tasks whose payloads are on their way back from the store."""
        coordinator = self.world.coordinator
        if coordinator is None:
            return set()
        ledger = coordinator.machine.ledger
        return {
            (session.id, batch.first + index)
            for session in ledger.sessions.values()
            for batch in session.batches
            if ledger.residence.is_sent_for(batch)
            for lo, hi in batch.runs(0, batch.count, State.QUEUED)
            for index in range(lo, hi)
        }

    # ------------------------------------------------------------ the journal

    def persisted(self, ref: int, record: Record) -> None:
        """The coordinator hands a record over."""
        if ref <= next(reversed(self.truth.written.records), 0) or ref <= self.disk.commit:
            raise Violation("journal", f"record {ref} comes after a greater one")
        match record:
            case Finished():
                self._finished(record)
            case AttemptsEnded():
                for entry in record.entries:
                    self._attempts_ended(entry)
            case Begun():
                self.losses.begin(record)
            case Buried():
                self.evidence.buried(record)
            case Submitted():
                self._submitted(record)
        self.results.persisted(record)
        self.truth.written.apply(ref, record)
        if isinstance(record, Submitted):
            self.within_bounds()
            self.queues.within_bounds()

    def _submitted(self, record: Submitted) -> None:
        self.keys.submitted(record)
        self.owners.submitted(record)
        for group in record.groups:
            for task in ids(record.session, group.first, group.count):
                self._admitted(self.truth.tasks[task], waits=group.same is None)

    def is_copy(self, record: Submitted) -> bool:
        """Whether a record copies out the living tasks of another."""
        return all(self.truth.written[task].accepted for task in named(record))

    def _attempts_ended(self, entry: AttemptEnd) -> None:
        self.losses.ended(entry.session, entry.first, entry.count, entry.attempt)
        if entry.failure != self.truth.written[entry.session, entry.first].failure:  # news
            self.losses.failed(entry.failure)
            spent = self.truth.written[entry.session, entry.first].retries
            if entry.failure is not None and entry.failure.final and entry.retries > spent:
                raise Violation("retries", f"{entry.first} is tried again after {entry.failure}")
        for task in ids(entry.session, entry.first, entry.count):
            if entry.attempt < self.truth.written[task].attempt:
                raise Violation("token", f"{task[1]} goes back to {entry.attempt}")
            if entry.retries > self.truth.written[task].retries:
                self.truth.tasks[task].retried.add(entry.attempt - 1)

    def _admitted(self, task: Task, *, waits: bool) -> None:
        facts = self.truth.written[task.id]
        if facts.outcome is not None and not facts.finished and not facts.taken:
            raise Violation("accepted twice", f"{task.name} was over and is accepted again")
        if not facts.accepted and waits:
            self.leases.admitted(task)

    def within_bounds(self) -> None:
        """Admission is exact: never more open tasks than the settings allow."""
        units = {
            (task.id[0], task.group if task.packed else task.id[1])
            for task in self.truth.open_tasks
        }
        if len(units) > self.settings.max_tasks:
            raise Violation("admission", f"{len(units)} tasks, {self.settings.max_tasks} allowed")

    def _finished(self, record: Finished) -> None:
        for entry in record.entries:
            self.losses.failed(entry.failure)
            for task, outcome in outcomes(entry):
                self._ends(task, outcome)
                still_stopped(self.truth.tasks[task], outcome)
                self.losses.over(task)
                self.leases.over(task)
                if outcome.ending is Ending.LOST:
                    self.evidence.dead(task)

    def _ends(self, task: Id, outcome: Outcome) -> None:
        facts = self.truth.written[task]
        if facts.outcome is not None and facts.outcome != outcome:
            raise Violation("two outcomes", f"{task[1]}: {facts.outcome} and {outcome}")
        if facts.outcome is None:
            self.token_counts(self.truth.tasks[task], outcome)

    def token_counts(self, task: Task, outcome: Outcome) -> None:
        """The attempt that made an outcome was not fenced off."""
        token = work.made_by(outcome.payload, task.id)
        if token and self.truth.is_stale(task, *token):
            raise Violation("stale token", f"{task.name}: outcome of {token} accepted")

    def pruned(self, refs: list[int]) -> None:
        """The coordinator asks for records to be deleted."""
        self.evidence.pruned(refs)
        self.truth.written.delete(refs)

    def committing(self, changes: list[Change]) -> None:
        """One transaction; what is committed must be enough to start again from, at any time."""
        book = self.truth.committed
        touched: set[Id] = set()
        for change in changes:
            if isinstance(change, Append):
                if encode_record(change.record) != change.data:
                    raise Violation("journal", f"record {change.ref} changed after hand-over")
                book.apply(change.ref, change.record)
                self.readers.committed(change.record)
            elif isinstance(change, Delete):
                touched |= book.delete(change.refs)
            elif isinstance(change, Release):
                self.world.files.release(change.blobs)
        for task in sorted(touched):
            self._enough_left(self.truth.tasks[task])

    def _enough_left(self, task: Task) -> None:
        facts = self.truth.committed[task.id]
        if facts.outcome is None:
            if facts.accepted and not facts.submitted:
                raise Violation("pruned early", f"{task.name} has no outcome and no record")
            return
        if facts.submitted and not facts.finished and not facts.taken:
            raise Violation("pruned early", f"{task.name} is over and would run again")
        if not facts.finished and not self.may_forget(task):
            raise Violation("pruned early", f"the outcome of {task.name} is still wanted")
        if not facts.submitted:
            accepted = self.truth.committed.marks.get(task.id[0], ())
            if not any(first <= task.id[1] < first + count for first, count in accepted):
                raise Violation("id forgotten", f"{task.name} could be accepted again")

    def may_forget(self, task: Task) -> bool:
        """Whether the owner has the outcome, or its time is over, or there was no room for it."""
        if self.keys.keeps(task):
            return False
        if task.id in self.results.dropped:
            return True
        ttl = task.template.result_ttl
        if task.settled is None:
            kept = self.settings.result_ttl if task.job and ttl is None else ttl
            ttl = max(kept or 0.0, self.settings.unclaimed_ttl)
        if ttl is None and task.job:
            ttl = self.settings.result_ttl
        if ttl is None:
            return task.settled is not None
        return self.wall - self.truth.committed[task.id].finished_at >= ttl - 1e-3

    # ------------------------------------------------------------ messages

    def sent(self, connection: Connection, message: Any) -> None:
        """The coordinator says something."""
        commit = getattr(message, "commit", 0)
        if commit > self.disk.commit:
            raise Violation("commit number", f"{commit} was said, {self.disk.commit} is committed")
        if connection.dealer.side == "client":
            self.owners.sent(connection, message)
        match message:
            case Accepted():
                self._accepted(connection, message)
            case CancelReply():
                self._cancelled(message)
            case Assign():
                self.leases.assigned(connection, message)
                self.queues.assigned(message)
            case HostWelcome():
                self.losses.welcomed(connection)
            case Refused() if message.reason in {"key", "keys"}:
                self.keys.refuses(connection, message)
            case Noted():
                self.leases.noted(connection, message.number)
            case Recall():
                self.recalls.sent(connection, message)
            case _:
                self.readers.sent(connection, message)

    def received(self, connection: Connection, message: Any) -> None:
        """The coordinator hears something."""
        if connection.dealer.side == "client":
            self.readers.received(connection, message)
            self.owners.received(connection, message)
            if isinstance(message, Submit):
                self.leases.submitted(connection, message)
                self.results.submitted(connection, message)
            return
        self.losses.received(connection, message)
        self.leases.received(connection, message)

    def _accepted(self, connection: Connection, message: Accepted) -> None:
        for first, count in message.runs:
            for task in self.truth.run(connection.dealer.session, first, count):
                if task.durable and not self.truth.committed[task.id].accepted:
                    raise Violation("acknowledged before commit", task.name)

    def _cancelled(self, message: CancelReply) -> None:
        for run in (*message.cancelled, *message.stopped):
            for task in self.truth.run(*run):
                if task.durable and self.truth.committed[task.id].outcome is None:
                    raise Violation("acknowledged before commit", f"the cancel of {task.name}")
                if run in message.cancelled:
                    cancelled(task)
        for run in message.stopping:
            for task in self.truth.run(*run):
                facts = self.truth.committed[task.id]
                if task.durable and not facts.stopping and facts.outcome is None:
                    raise Violation("acknowledged before commit", f"the stop of {task.name}")
                task.stop_confirmed = True
                self.world.stats["stopped while leased"] += 1
