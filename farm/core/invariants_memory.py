"""What must hold of the payloads and results that a core has in memory, whatever happens."""

from collections.abc import Iterable

from farm.core.batch import Batch, Outcome
from farm.core.ledger import Ledger
from farm.core.sessions import Delivery, Session
from farm.core.stored import Stored
from farm.model import Blob, State

__all__ = ["check_readers", "check_residence"]


def check_residence(ledger: Ledger, batches: list[Batch], *, settled: bool) -> None:
    """Payloads are counted exactly, and those over the budget are in the store.

    ``settled``: a turn is over, in which what could be dropped was.
    """
    residence, resident, absent = ledger.residence, list[Batch](), list[Batch]()
    for batch in batches:
        if batch.payloads or batch.inline:
            _check_payloads(batch)
        if batch.stored:
            absent.append(batch)
        elif batch.open:
            resident.append(batch)
    for batch in absent:
        if not batch.open or batch.row is None or batch.row.ref > ledger.committed:
            text = f"batch {batch.first} is nowhere but in a record that is not committed"
            raise AssertionError(text)
    _check_counts(ledger, resident, absent)
    if residence.budget is not None:
        _check_budget(ledger, resident, residence.budget, settled=settled)
    elif absent:
        raise AssertionError("payloads were dropped, and no store has them")
    near = [batch.inline for batch in resident if batch in residence.near]
    if settled and len(near) > 1 and sum(near) > residence.window:  # a large one alone may be
        text = f"{near} bytes wait near their turn, and the window is {residence.window}"
        raise AssertionError(text)


def _check_counts(ledger: Ledger, resident: list[Batch], absent: list[Batch]) -> None:
    residence = ledger.residence
    counts = residence.bytes, residence.stored_bytes, residence.stored
    found = sum(b.inline for b in resident), sum(b.inline for b in absent), len(absent)
    if counts != found:
        raise AssertionError(f"payloads in memory: {counts}, not {found}")
    pinned = sum(batch.inline for batch in resident if batch.pinned)
    if residence.pinned_bytes != pinned:
        text = f"{residence.pinned_bytes} bytes of payloads have to be in memory, not {pinned}"
        raise AssertionError(text)


def _check_payloads(batch: Batch) -> None:
    """Its payloads are all here, or all in the store, but for those in files."""
    inline, absent = 0, batch.stored
    for one in batch.payloads:
        if type(one) is Blob:
            continue
        inline += len(one)
        if (type(one) is Stored) is not absent and one:
            raise AssertionError(f"batch {batch.first} has a payload where it should have none")
    if batch.inline != inline:
        raise AssertionError(f"batch {batch.first} has {inline} bytes in memory")


def _check_budget(ledger: Ledger, resident: list[Batch], budget: int, *, settled: bool) -> None:
    """What the store has leaves memory: what is over the budget, and what starts much later."""
    residence = ledger.residence
    for batch in resident:
        committed = batch.row is not None and batch.row.since <= ledger.committed
        if batch.inline and not (batch.pinned or committed):
            raise AssertionError(f"batch {batch.first} may be dropped, and is not committed")
    if settled and residence.bytes - residence.pinned_bytes > budget:
        for batch in resident:
            if batch.inline and residence.may_drop(batch):
                text = f"{residence.bytes} bytes of payloads are in memory, {budget} may be"
                raise AssertionError(text)
    if residence.read_back:
        return
    limit = ledger.settings.far_seconds
    for batch in resident:
        late = batch.starts_at - batch.at > limit and not batch.pinned
        if not (late and batch.inline and residence.may_drop(batch)):
            continue
        # It may have been committed when its turn had come, and be tried again since.
        waiting = (i for a, b in batch.runs(0, batch.count, State.SCHEDULED) for i in range(a, b))
        if any(index not in batch.diverged for index in waiting):
            raise AssertionError("what starts much later is in memory, and was not read back")


def check_readers(ledger: Ledger) -> None:
    """Results that wait in memory are counted exactly, and bounded in all and for each reader."""
    over = sent = 0
    holders: dict[Outcome, int] = {}  # for how many deliveries each is kept
    for session in ledger.sessions.values():
        sent += session.inflight_bytes
        for _, _, deliveries in session.inflight:
            _count(deliveries, holders)
        if session.outbox or session.resident_bytes or session.pages:
            over += _check_outbox(ledger, session, holders)
    kept = _kept(holders)
    over += sum(outcome.inline_bytes for outcome in holders if not outcome.ref)
    counts = (ledger.held_bytes, ledger.inflight_bytes)
    if counts != (kept, sent):
        raise AssertionError(f"{counts} bytes of results are counted, not {(kept, sent)}")
    if kept > ledger.settings.resident_result_bytes + over:
        raise AssertionError(f"{kept} bytes of results are kept in memory for readers")


def _count(deliveries: Iterable[Delivery], holders: dict[Outcome, int]) -> None:
    for delivery in deliveries:
        if delivery.holds:
            holders[delivery.outcome] = holders.get(delivery.outcome, 0) + 1


def _check_outbox(ledger: Ledger, session: Session, holders: dict[Outcome, int]) -> int:
    """What a reader follows of others waits for it up to a bound; the rest is remembered.

    The next may always be in memory, and what is in no record has to be: so large is that one.
    """
    name = f"session {session.id.hex()[:8]}"
    _count(session.outbox, holders)
    own = largest = others = 0
    for delivery in session.outbox:
        outcome = delivery.outcome
        others += outcome.batch is not None and outcome.batch.session is not session
        if delivery.holds:
            own += outcome.inline_bytes
            largest = max(largest, outcome.inline_bytes if outcome.ref else 0)
    if session.resident_bytes != own:
        raise AssertionError(f"{own} bytes wait for {name}, not {session.resident_bytes}")
    if others > ledger.settings.session_outcomes:
        raise AssertionError(f"{others} outcomes of others wait for {name}")
    if session.pages and not (session in ledger.paged and session.peer is not None):
        raise AssertionError(f"{name} will never be told of {session.pages.pieces} runs")
    return largest


def _kept(holders: dict[Outcome, int]) -> int:
    """How many bytes of results are kept in memory for deliveries."""
    kept = 0
    for outcome, count in holders.items():
        if outcome.holders != count:
            text = f"the outcome of {outcome.first} counts {outcome.holders}, not {count}"
            raise AssertionError(text)
        if outcome.result is None:
            raise AssertionError(f"the outcome of {outcome.first} is held, and not in memory")
        kept += outcome.inline_bytes
    return kept
