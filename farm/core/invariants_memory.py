"""What must hold of the payloads and results that a core has in memory, whatever happens."""

from typing import TYPE_CHECKING

from farm.core.batch import Batch, Outcome
from farm.core.ledger import Ledger
from farm.core.stored import Stored, inline_bytes
from farm.model import Blob

if TYPE_CHECKING:
    from farm.core.sessions import Delivery, Session

__all__ = ["check_readers", "check_residence"]


def _require(*, holds: bool, message: str) -> None:
    if not holds:
        raise AssertionError(message)


def check_residence(ledger: Ledger, batches: list[Batch], *, settled: bool) -> None:
    """Payloads are counted exactly, and those over the budget are in the store.

    ``settled``: a turn is over, in which what could be dropped was.
    """
    residence = ledger.residence
    resident = [batch for batch in batches if batch.open and not batch.stored]
    absent = [batch for batch in batches if batch.stored]
    for batch in batches:
        name = f"batch {batch.first}+{batch.count}"
        inline = inline_bytes(batch.payloads)
        _require(holds=batch.inline == inline, message=f"{name} has {inline} bytes in memory")
        for one in batch.payloads:
            here = not one or isinstance(one, Blob) or isinstance(one, Stored) is batch.stored
            _require(holds=here, message=f"{name} has a payload where it should have none")
    for batch in absent:
        committed = batch.row is not None and batch.row.ref <= ledger.committed
        text = f"batch {batch.first} is nowhere but in a record that is not committed"
        _require(holds=bool(batch.open) and committed, message=text)
    counts = residence.bytes, residence.stored_bytes, residence.stored
    found = sum(b.inline for b in resident), sum(b.inline for b in absent), len(absent)
    _require(holds=counts == found, message=f"payloads in memory: {counts}, not {found}")
    pinned = sum(batch.inline for batch in resident if batch.pinned)
    text = f"{residence.pinned_bytes} bytes of payloads have to be in memory, not {pinned}"
    _require(holds=residence.pinned_bytes == pinned, message=text)
    for batch in resident:
        committed = batch.row is not None and batch.row.since <= ledger.committed
        text = f"batch {batch.first} may be dropped, and is not committed"
        sure = batch.pinned or committed or not batch.inline or residence.budget is None
        _require(holds=sure, message=text)
    if residence.budget is None:
        _require(holds=not absent, message="payloads were dropped, and no store has them")
    elif settled and residence.bytes - residence.pinned_bytes > residence.budget:
        over = [batch for batch in resident if residence.may_drop(batch) and batch.inline]
        text = f"{residence.bytes} bytes of payloads are in memory, {residence.budget} may be"
        _require(holds=not over, message=text)
    if residence.budget is not None and not residence.read_back:
        limit = ledger.settings.far_seconds
        late = [b for b in resident if b.inline and b.starts_at - b.at > limit and not b.pinned]
        text = "what starts much later is in memory, and was not read back"
        _require(holds=not any(map(residence.may_drop, late)), message=text)
    near = [batch.inline for batch in resident if batch in residence.near]
    text = f"{near} bytes wait near their turn, and the window is {residence.window}"
    bounded = len(near) < 2 or sum(near) <= residence.window  # noqa: PLR2004 - a large one alone
    _require(holds=bounded or not settled, message=text)


def check_readers(ledger: Ledger) -> None:
    """Results that wait in memory are counted exactly, and bounded in all and for each reader."""
    settings, over, sent = ledger.settings, 0, 0
    outcomes: dict[Outcome, list[Delivery]] = {}
    for session in ledger.sessions.values():
        sent += session.inflight_bytes
        held = [delivery for delivery in session.outbox if delivery.holds]
        on_the_way = [d for _, _, deliveries in session.inflight for d in deliveries if d.holds]
        for delivery in (*held, *on_the_way):
            outcomes.setdefault(delivery.outcome, []).append(delivery)
        own = sum(delivery.held for delivery in held)
        name = f"session {session.id.hex()[:8]}"
        _check_pages(ledger, session, name)
        text = f"{own} bytes of results wait for {name}, not {session.resident_bytes}"
        _require(holds=session.resident_bytes == own, message=text)
        # The next may always be in memory, and what is in no record has to be.
        over += max((delivery.held for delivery in held if delivery.outcome.ref), default=0)
    for outcome, deliveries in outcomes.items():
        text = f"the outcome of {outcome.first} counts {outcome.holders}, not {len(deliveries)}"
        _require(holds=outcome.holders == len(deliveries), message=text)
        text = f"the outcome of {outcome.first} is held, and not in memory"
        _require(holds=outcome.result is not None, message=text)
    kept = sum(outcome.inline_bytes for outcome in outcomes)
    over += sum(outcome.inline_bytes for outcome in outcomes if not outcome.ref)
    counts = (ledger.held_bytes, ledger.inflight_bytes)
    found = (kept, sent)
    _require(holds=counts == found, message=f"{counts} bytes of results are counted, not {found}")
    bounded = kept <= settings.resident_result_bytes + over
    _require(holds=bounded, message=f"{kept} bytes of results are kept in memory for readers")


def _check_pages(ledger: Ledger, session: "Session", name: str) -> None:
    """What a reader follows of others waits for it up to a bound; the rest is remembered."""
    batches = [delivery.outcome.batch for delivery in session.outbox]
    others = sum(batch is not None and batch.session is not session for batch in batches)
    text = f"{others} outcomes of others wait for {name}"
    _require(holds=others <= ledger.settings.session_outcomes, message=text)
    known = not session.pages or (session in ledger.paged and session.peer is not None)
    _require(holds=known, message=f"{name} will never be told of {session.pages.pieces} runs")
