"""How tasks leave an attempt: with an outcome, or back to wait.

The parts of the core that end attempts gather what happened during one event here; ``flush``
then writes one record of outcomes and one of attempts, whatever the number of tasks. Outcomes
are offered to their readers, and tasks are dispatched again, only after the commit.
"""

from copy import copy
from functools import partial

from farm.core.accounts import Accounts, Freed
from farm.core.batch import Batch, Outcome
from farm.core.dead import DeadTasks
from farm.core.delivery import Deliveries
from farm.core.duplicates import Duplicates
from farm.core.evidence import ATTEMPTS_MAX
from farm.core.ledger import Ledger
from farm.core.states import Event
from farm.model import BLOB_BYTES, Ending, State
from farm.protocol.parts import Failure, Group, Payload, Result
from farm.protocol.records import AttemptEnd, AttemptsEnded, Finished

__all__ = ["Endings"]

STOPPED = "it was cancelled when one of its attempts may have begun already"
ENDED = "it was stopped while it ran"
COUNTED = {ending: ending.name.lower() for ending in Ending}
"""The names of their counters."""
PAYLOAD_LOST = "its arguments are lost: the store has its record no more"
BACKOFF_DOUBLINGS_MAX = 32
CHARGED_TO_MAX = 8
"""Hosts that are remembered to have cost one task a loss; those before are not given back."""
Requeued = tuple[Batch, int, int, float | None]


class Endings:
    """Gathers the ends of attempts of one event."""

    def __init__(
        self, ledger: Ledger, deliveries: Deliveries, dead: DeadTasks, duplicates: Duplicates
    ) -> None:
        self._ledger = ledger
        self._deliveries = deliveries
        self._duplicates = duplicates
        self._dead = dead
        self.accounts = Accounts(ledger)
        self._finished: list[Freed] = []
        self._results: list[Result] = []  # of these, as the journal has them
        self._buried: list[tuple[Batch, Group, list[Failure]]] = []
        self._ended: list[tuple[Batch, AttemptEnd]] = []
        self._requeued: list[Requeued] = []
        self._volatile: list[Freed] = []
        self.ran = ("", 0.0)  # on which host, and for how long each: what is being reported
        self._blobs: set[str] = set()

    def finish(  # noqa: PLR0913 - an outcome has that many sides
        self,
        batch: Batch,
        lo: int,
        hi: int,
        event: Event,
        ending: Ending,
        *,
        payloads: list[Payload] | None = None,
        size: int = 0,
        packed: bool = False,
        failure: Failure | None = None,
        seconds: float = 0.0,
        output: bytes = b"",
    ) -> None:
        """The tasks ``[lo, hi)``, all in one state, have this outcome."""
        attempts: list[Failure] = []
        waited, attempt, stored = batch.states[lo], 1, batch.stored
        if batch.diverged:
            attempts, attempt = self._attempts(batch, lo, hi), batch.attempt(lo)
        units, freed, inline = batch.units, batch.size, batch.size
        blobs: list[str] = []
        if hi - lo < batch.count or freed >= BLOB_BYTES:  # else it is all of them, as a rule
            units, freed = batch.units_of(lo, hi), batch.bytes_of(lo, hi)
            blobs, inline = batch.blobs_of(lo, hi), batch.inline_of(lo, hi, freed)
        batch.move(lo, hi, event)
        self._ledger.residence.free(batch, inline)
        if stored or waited != State.LEASED:
            self._note_waited(batch, hi - lo, waited, stored=stored)
        result = Result(
            batch.session.id,
            batch.first + lo,
            hi - lo,
            ending,
            payloads or [],
            size,
            packed,
            failure.brief() if failure else None,
            seconds,
            output=output or (failure.output if failure else b""),
        )
        outcome = Outcome(batch, result, 0, 0)
        if outcome.blobs:
            self._blobs.update(outcome.blobs)
        outcome.host, each = self.ran
        outcome.seconds, outcome.attempt = each * (hi - lo), attempt
        if batch.keys:
            self._duplicates.ended(batch, outcome)
        elif batch.same is not None:
            self._duplicates.left(batch)
        if not batch.durable:
            self._volatile.append(Freed(batch, outcome, units, freed, blobs))
            return
        self._finished.append(Freed(batch, outcome, units, freed, blobs))
        if attempts or (failure and failure is not result.failure):
            result = copy(result)
            result.failure, result.attempts, result.output = failure, attempts, output
        self._results.append(result)

    def _note_waited(self, batch: Batch, count: int, waited: int, *, stored: bool) -> None:
        """Tasks have ended that did not run, or whose payloads are in the store alone."""
        ledger = self._ledger
        if stored and State.QUEUED not in batch.states:  # who waits behind it need not any more
            ledger.queues.arrived(batch)
        if waited == State.QUEUED:
            batch.queue.ready.note_stale(count)
            if batch.needs is not None:  # it is found only if it comes up
                ledger.queues.unblock(batch.needs)
        elif waited == State.SCHEDULED:
            ledger.delays.note_stale(1)

    def take_blobs(self) -> set[str]:
        """The blobs that became part of outcomes since the last call."""
        taken, self._blobs = self._blobs, set()
        return taken

    def _attempts(self, batch: Batch, lo: int, hi: int) -> list[Failure]:
        """What the attempts of a task have left so far, which from now on only the journal has."""
        found: list[Failure] = []
        for index in range(lo, hi):
            own = batch.diverged.get(index)
            if own is not None and own.attempts:
                if hi == lo + 1:
                    found = [copy(failure) for failure in own.attempts]
                self._ledger.evidence.release(own.attempts)
        return found

    def cancel(self, batch: Batch, lo: int, hi: int) -> list[tuple[int, int, bool]]:
        """The tasks ``[lo, hi)`` that do not run are cancelled.

        Returns their runs, and of each whether an attempt may have begun before: such tasks were
        stopped, and their outcome says so.
        """
        runs = batch.tried_runs(lo, hi)
        for a, b, tried in runs:
            failure = Failure("stopped", STOPPED) if tried else None
            self.finish(batch, a, b, Event.CANCEL, Ending.CANCELLED, failure=failure)
            if tried:
                batch.stopped.update(dict.fromkeys(range(a, b)))
        return runs

    def stop(self, batch: Batch, lo: int, hi: int, failure: Failure | None = None) -> None:
        """Tasks that were to be stopped, and may have begun, run no more: they are cancelled.

        ``failure``: the evidence of how their attempt ended, which nobody pays for.
        """
        evidence = _stopped(failure)
        step = 1 if batch.diverged else hi - lo  # each may have attempts of its own to tell of
        for a in range(lo, hi, step):
            b = min(a + step, hi)
            self.finish(batch, a, b, Event.CANCEL, Ending.CANCELLED, failure=evidence)
        batch.stopped.update(dict.fromkeys(range(lo, hi)))

    def give_back(self, batch: Batch, lo: int, hi: int, *, tried: bool = False) -> None:
        """Leased tasks wait again and nobody pays; ``tried``: they may have begun."""
        for a, b, grace in batch.stopping_runs(lo, hi):
            if grace is None:
                self._end_attempts(batch, a, b, Event.RETURN, None, tried=tried)
            elif tried:
                self.stop(batch, a, b)
            else:
                self.cancel(batch, a, b)

    def lose(self, batch: Batch, lo: int, hi: int, failure: Failure, instance: bytes = b"") -> None:
        """The worker or host died under these tasks: each spends a loss, or is buried.

        ``instance``: of the host that is lost with them, if it is.
        """
        for index in range(lo, hi):
            if index in batch.stopping:
                self.stop(batch, index, index + 1, failure)
                continue
            losses = batch.diverge(index).losses + 1
            if losses > batch.template.max_losses:
                self._bury(batch, index, losses, failure)
            else:
                own = batch.diverged[index]
                own.losses = losses
                if instance:
                    own.charged = [*own.charged, instance][-CHARGED_TO_MAX:]
                    self._ledger.charges.add(instance, batch, index)
                self._end_attempts(batch, index, index + 1, Event.LOSE, failure)

    def _bury(self, batch: Batch, index: int, losses: int, failure: Failure) -> None:
        evidence = copy(failure)
        evidence.losses = losses
        if batch.durable:
            if batch.stored:  # adopted after a restart, as a rule: its host had them
                self._ledger.residence.read_now(batch)
                self._ledger.queues.arrived(batch)
            before = [copy(one) for one in batch.diverge(index).attempts]
            attempts = [*before, evidence][-ATTEMPTS_MAX:]
            self._buried.append((batch, batch.group(index, index + 1), attempts))
        self.finish(batch, index, index + 1, Event.BURY, Ending.LOST, failure=evidence)

    def lose_payloads(self, now: float) -> None:
        """Tasks without an attempt whose arguments the store has lost can never run."""
        residence = self._ledger.residence
        lost, residence.lost = residence.lost, []
        for batch in lost:
            for state, event in ((State.SCHEDULED, Event.DUE), (State.QUEUED, Event.LEASE)):
                for lo, hi in list(batch.runs(0, batch.count, state)):
                    if state == State.QUEUED:
                        batch.queue.ready.note_stale(hi - lo)
                    batch.move(lo, hi, event)
                    if state == State.QUEUED:
                        failure = Failure("payload_lost", PAYLOAD_LOST)
                        self.finish(batch, lo, hi, Event.FAIL, Ending.UNKNOWN, failure=failure)
        self._ledger.port.warn(f"{PAYLOAD_LOST}; look into it with `farm store check`")
        self.flush(now)

    def retry(self, batch: Batch, index: int, failure: Failure | None, now: float) -> None:
        """A failed task waits, with exponential backoff and full jitter, and runs again.

        Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
        """
        diverged = batch.diverge(index)
        doublings = min(diverged.retries, BACKOFF_DOUBLINGS_MAX)
        bound = min(
            self._ledger.settings.backoff_seconds_max, batch.template.backoff * 2.0**doublings
        )
        diverged.retries += 1
        diverged.due = now + bound * self._ledger.chance()
        self._end_attempts(batch, index, index + 1, Event.RETRY, failure)

    def _end_attempts(
        self,
        batch: Batch,
        lo: int,
        hi: int,
        event: Event,
        failure: Failure | None,
        *,
        tried: bool = True,
    ) -> None:
        batch.move(lo, hi, event)
        for a, b, diverged in batch.diverge_runs(lo, hi):
            diverged.attempt += 1
            if failure is not None:  # then it is of one task
                diverged.failure = failure.brief()
                self._ledger.evidence.add(diverged, failure)
            diverged.tried = diverged.tried or tried
            if event is not Event.RETRY:
                diverged.due = None
            if batch.durable:
                self._ended.append((batch, self._ledger.attempt_end(batch, a, b, failure)))
        self._requeued.append((batch, lo, hi, batch.diverged[lo].due))

    def restore_loss(self, batch: Batch, index: int, instance: bytes) -> None:
        """A loss is given back: the host was cut off, not dead."""
        diverged = batch.diverged.get(index)
        if diverged is None or instance not in diverged.charged:
            return
        diverged = batch.diverge(index)
        diverged.losses -= 1
        diverged.charged = [one for one in diverged.charged if one != instance]
        if batch.durable:
            self._ended.append((batch, self._ledger.attempt_end(batch, index, index + 1)))

    def flush(self, now: float) -> None:
        """Persist what was gathered; the rest happens when that is durable."""
        ledger = self._ledger
        if self._ended:
            self._flush_ended(now)
        if self._buried:
            buried, self._buried = self._buried, []
            self._dead.bury(buried, now)
        if self._finished:
            finished, self._finished = self._finished, []
            results, self._results = self._results, []
            if ledger.drafts:
                ledger.write_drafts(ledger.drafts.take(batch for batch, *_ in finished))
            spans = [(f[1].host, f[1].seconds) for f in finished]
            ref = ledger.persist(Finished(ledger.wall(now), results, spans))
            for entry, (batch, outcome, *_) in enumerate(finished):
                outcome.ref, outcome.entry = ref, entry
                if batch.row is not None:
                    ledger.rows.mention(batch.row, ref)
            ledger.after_commit(partial(self._publish, finished), now)
        if self._requeued:
            requeued, self._requeued = self._requeued, []
            ledger.after_commit(partial(self._requeue, requeued), now)
        if self._volatile:
            volatile, self._volatile = self._volatile, []
            self._publish(volatile, now)

    def _flush_ended(self, now: float) -> None:
        ledger = self._ledger
        ended, self._ended = self._ended, []
        ref = ledger.persist(AttemptsEnded(ledger.wall(now), _merged([end for _, end in ended])))
        for batch, end in ended:
            if batch.row is not None:
                ledger.rows.mention_attempts(batch.row, ref)
            diverged = batch.diverged.get(end.first - batch.first)
            if diverged is not None:
                diverged.ref = ref

    def _requeue(self, requeued: list[Requeued], now: float) -> None:
        for batch, lo, hi, due in requeued:
            if batch.expires_at is not None and batch.expires_at <= now:  # while it was leased
                self._ledger.expiries.push(now, batch, lo, hi)
            if due is None:
                self._ledger.queue(batch, lo, hi, front=True)
            elif batch.states[lo] == State.SCHEDULED:
                self._ledger.delays.push(due, batch, lo, hi)

    def _publish(self, finished: list[Freed], now: float) -> None:
        ledger = self._ledger
        self.accounts.published(finished, now)
        for batch, outcome, units, freed, blobs in finished:
            ledger.close(batch, units, freed)
            ledger.counters[COUNTED[outcome.ending]] += outcome.count
            batch.outcomes.append(outcome)
            outcome.at = now
            ledger.keep_result(batch, outcome.size)
            if not batch.open:
                batch.finished_at = now
                if batch.expires_at is not None:
                    ledger.expiries.note_stale(1)
            self._deliveries.offer(outcome)
            if batch.keys:
                self._duplicates.published(batch, outcome, now)
            if blobs:  # a restart would find the outcome, and not run the tasks again
                ledger.release(blobs)


def _stopped(failure: Failure | None) -> Failure:
    """The evidence of an attempt of a task that was stopped: whatever ended it, that was why."""
    if failure is None:
        return Failure("stopped", ENDED)
    if failure.cause == "stopped":
        return failure
    evidence = copy(failure)
    evidence.cause = "stopped"
    evidence.message = f"{ENDED}: {failure.message or failure.cause}"
    return evidence


def _merged(ends: list[AttemptEnd]) -> list[AttemptEnd]:
    """Adjacent ends that are alike, as one entry."""
    merged: list[AttemptEnd] = []
    for end in ends:
        last = merged[-1] if merged else None
        if last is not None and _continues(last, end):
            last.count += end.count
        else:
            merged.append(copy(end))
    return merged


def _continues(last: AttemptEnd, end: AttemptEnd) -> bool:
    return (
        last.session == end.session
        and last.first + last.count == end.first
        and (last.attempt, last.retries, last.losses, last.due, last.fence)
        == (end.attempt, end.retries, end.losses, end.due, end.fence)
        and last.failure is end.failure
        and (last.charged, last.tried) == (end.charged, end.tried)
    )
