"""Outcomes as the journal has them: of the tasks that a record names, and of duplicates."""

from farm.core.batch import SETTLED, Batch, Outcome
from farm.core.blobs import names_in
from farm.core.duplicates import Waiting, as_duplicate
from farm.core.ledger import Ledger
from farm.errors import ProtocolError
from farm.model import BLOB_BYTES, Blob, Ending, State
from farm.protocol.parts import Payload, Result
from farm.protocol.records import Finished

__all__ = ["OutcomeLoading", "lighten"]

FINAL = {
    Ending.OK: State.SUCCEEDED,
    Ending.LOST: State.DEAD,
    Ending.CANCELLED: State.CANCELLED,
    Ending.EXPIRED: State.EXPIRED,
}
ENDED = (*(state for state in State if state.is_final), SETTLED)


class OutcomeLoading:
    """Gives tasks their outcomes again. ``duplicates`` are those that end as others do."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.duplicates = Waiting()

    def restore(self, ref: int, record: Finished, now: float) -> None:
        """A stored record of outcomes; what contradicts others raises ``ProtocolError``."""
        at = min(now, self._ledger.monotonic(record.at))
        for entry, result in enumerate(record.entries):
            span = record.spans[entry] if entry < len(record.spans) else ("", 0.0)
            self._restore_run((ref, entry), result, at, span)

    def _restore_run(
        self, place: tuple[int, int], result: Result, at: float, span: tuple[str, float]
    ) -> None:
        session = self._ledger.sessions.get(result.session)
        found = [] if session is None else session.batches.overlap(result.first, result.count)
        attempt, (host, seconds) = 1, span
        for batch, lo, hi in list(found):
            if any(batch.states.count(state, lo, hi) for state in ENDED):
                raise ProtocolError(f"record {place[0]} ends tasks that had ended before")
            outcome = Outcome(batch, result, *place)
            if outcome.blobs and not result.packed:
                skipped = batch.first - result.first
                outcome.blobs = names_in(result.payloads[skipped + lo : skipped + hi])
            outcome.attempt = attempt = batch.attempt(lo)
            self._end(outcome, batch, lo, hi, at, span)
        for batch, lo, hi in self.duplicates.find(result):
            own = as_duplicate(result, batch, batch.first + lo, hi - lo)
            own.size = result.size * own.count // result.count
            outcome = Outcome(batch, own, *place)
            outcome.blobs = names_in(own.payloads)
            outcome.attempt = attempt
            self._end(outcome, batch, lo, hi, at, (host, seconds * own.count / result.count))

    def _end(
        self,
        outcome: Outcome,
        batch: Batch,
        lo: int,
        hi: int,
        at: float,
        span: tuple[str, float],
    ) -> None:
        """The tasks ``[lo, hi)`` of a batch have an outcome."""
        ledger = self._ledger
        units, freed = batch.units_of(lo, hi), batch.bytes_of(lo, hi)
        inline = batch.inline_of(lo, hi, freed)
        for index in range(lo, hi) if batch.diverged else ():
            if (own := batch.diverged.get(index)) is not None:
                ledger.evidence.release(own.attempts)
        batch.restore_final(lo, hi, FINAL.get(outcome.ending, State.FAILED))
        ledger.close(batch, units, freed)  # only now: it may have been the last of them
        ledger.residence.free(batch, inline)
        outcome.result = None
        outcome.at = at
        outcome.host, outcome.seconds = span
        batch.outcomes.append(outcome)
        if outcome.ending is Ending.CANCELLED and outcome.failure is not None:
            batch.stopped.update(dict.fromkeys(range(lo, hi)))
        ledger.keep_result(batch, outcome.size)
        if not batch.open:
            batch.finished_at = at
        if batch.row is not None:
            ledger.rows.mention(batch.row, outcome.ref)


def lighten(record: Finished) -> None:
    """Forget what is read back when somebody wants it; but of blobs the names are needed."""
    for entry in record.entries:
        blobs = entry.size >= BLOB_BYTES and names_in(entry.payloads)
        entry.payloads = _without_bytes(entry.payloads) if blobs else []
        entry.size += len(entry.printed)
        entry.attempts, entry.output = [], b""
        entry.failure = entry.failure.brief() if entry.failure else None


def _without_bytes(payloads: list[Payload]) -> list[Payload]:
    return [payload if isinstance(payload, Blob) else b"" for payload in payloads]
