"""Tasks that were submitted with the key of another: each ends as that does.

A *duplicate* is accepted and written like any task, and has an id, a job and an owner of its own,
but no arguments; it is never queued. Its state becomes final in the moment in which that of the
*first*, which has the key, does. Its outcome is published with the first's, or, if the first had
ended before, when it is itself committed. The record of the first's outcome is that of the
duplicate, too: it is kept until both are over.
"""

from collections.abc import Callable, Iterator
from functools import partial

from farm.core.batch import Batch, Outcome
from farm.core.ledger import Ledger
from farm.core.states import Event
from farm.model import Ending, State
from farm.protocol.parts import Group, Result
from farm.ranges import RangeSet

__all__ = ["Duplicates", "Waiting", "as_duplicate", "duplicate_of", "duplicates_of"]

EVENTS = {
    Ending.OK: Event.SUCCEED,
    Ending.LOST: Event.BURY,
    Ending.CANCELLED: Event.CANCEL,
    Ending.EXPIRED: Event.EXPIRE,
}
PAGE = 512
Ended = tuple[Batch, int, int]


class Duplicates:
    """Ends duplicates; ``offer`` tells the readers of an outcome that they may have it."""

    def __init__(self, ledger: Ledger, offer: Callable[[Outcome], None]) -> None:
        self._ledger = ledger
        self._offer = offer
        # Outcomes of tasks with keys that are not published yet, with the duplicates that they end.
        self._unpublished: dict[Batch, dict[Outcome, list[Ended]]] = {}

    def follow(self, batch: Batch, now: float) -> None:
        """A batch of duplicates is accepted: what has ended of the first ends it, the rest will."""
        firsts = self._firsts(batch)
        for first in firsts:
            for outcome in first.outcomes:
                for run in self._end(batch, outcome):
                    self._settle(run, outcome, now)
            for outcome, found in self._unpublished.get(first, {}).items():
                found.extend(self._end(batch, outcome))
        self._watch(batch, firsts)

    def _firsts(self, batch: Batch) -> list[Batch]:
        """The batches of the tasks that have the keys of these."""
        if batch.same is None:
            return []
        session = self._ledger.sessions.get(batch.same[0])
        if session is None:
            return []
        return [first for first, _, _ in session.batches.overlap(batch.same[1], batch.count)]

    def _watch(self, batch: Batch, firsts: list[Batch]) -> None:
        for first in firsts:
            if first.open and batch.open:
                self._ledger.keys.followers.setdefault(first, {})[batch] = None

    # ------------------------------------------------------------ the end of the first

    def ended(self, batch: Batch, outcome: Outcome) -> None:
        """Tasks with keys have come to a final state, and so do their duplicates."""
        lo = outcome.first - batch.first
        followers = self._ledger.keys.followers.get(batch, ())
        found = [one for follower in followers for one in self._end(follower, outcome)]
        self._unpublished.setdefault(batch, {})[outcome] = found
        self._ledger.keys.ended(batch, lo, lo + outcome.count)
        if not batch.open:
            self._ledger.keys.followers.pop(batch, None)

    def _end(self, batch: Batch, outcome: Outcome) -> list[Ended]:
        """Move those duplicates of a batch that wait for this outcome."""
        found = waiting_for(batch, outcome.first, outcome.count)
        for lo, hi in found:
            batch.move(lo, hi, EVENTS.get(outcome.ending, Event.FAIL))
        return [(batch, lo, hi) for lo, hi in found]

    def published(self, batch: Batch, outcome: Outcome, now: float) -> None:
        """An outcome of tasks with keys is published; now those of their duplicates are."""
        unpublished = self._unpublished[batch]
        for run in unpublished.pop(outcome):
            self._settle(run, outcome, now)
        if not unpublished:
            del self._unpublished[batch]

    def _settle(self, run: Ended, first: Outcome, now: float) -> None:
        """Keep what an outcome needs for these duplicates, too, and publish theirs when durable."""
        batch, lo, hi = run
        outcome = _outcome(batch, lo, hi, first)
        self._ledger.share(outcome.blobs)
        if batch.row is not None:
            self._ledger.rows.mention(batch.row, outcome.ref)
        if self._ledger.is_committed(batch):
            self._publish(batch, outcome, now)
        else:
            self._ledger.after_commit(partial(self._publish, batch, outcome), now)

    def _publish(self, batch: Batch, outcome: Outcome, now: float) -> None:
        ledger = self._ledger
        ledger.close(batch, outcome.count, 0)
        batch.queue.meter.end(outcome.count, now - batch.at, now)
        ledger.counters[outcome.ending.name.lower()] += outcome.count
        batch.outcomes.append(outcome)
        if outcome.ending is Ending.CANCELLED and outcome.failure is not None:
            lo = outcome.first - batch.first
            batch.stopped.update(dict.fromkeys(range(lo, lo + outcome.count)))
        ledger.keep_result(batch, outcome.size)
        if not batch.open:
            batch.finished_at = now
        self._offer(outcome)

    def left(self, batch: Batch) -> None:
        """Duplicates were cancelled: if that was all of a batch, it waits for nobody any more."""
        if batch.open:
            return
        followers = self._ledger.keys.followers
        for first in self._firsts(batch):
            if batch in followers.get(first, ()):
                del followers[first][batch]
                if not followers[first]:
                    del followers[first]

    # ------------------------------------------------------------ after loading

    def restore(self, now: float) -> list[Ended]:
        """Everything is loaded: who has which key, who waits for whom, and for whom nobody does."""
        ledger = self._ledger
        batches = [batch for session in ledger.sessions.values() for batch in session.batches]
        keyed = [batch for batch in batches if batch.keys]
        keyed.sort(key=lambda batch: (batch.at, 0 if batch.row is None else batch.row.since))
        ledger.keys.restore(keyed, now)
        orphans: list[Ended] = []
        for batch in batches:
            if batch.same is None or not batch.open:
                continue
            firsts = [first for first in self._firsts(batch) if first.open]
            self._watch(batch, firsts)
            for lo, hi in batch.runs(0, batch.count, State.SCHEDULED):
                orphans += [(batch, a, b) for a, b in _gaps(batch, lo, hi, firsts)]
        return orphans


class Waiting:
    """Batches of duplicates by what they wait for, while the journal is loaded."""

    def __init__(self) -> None:
        self._found: dict[tuple[bytes, int], list[Batch]] = {}  # by session and page of counters

    def add(self, batch: Batch) -> None:
        """A batch of duplicates."""
        if batch.same is not None:
            session, first = batch.same
            for page in _pages(first, batch.count):
                self._found.setdefault((session, page), []).append(batch)

    def find(self, result: Result) -> list[Ended]:
        """Those that wait for these tasks."""
        if not self._found:
            return []
        found: dict[Batch, None] = {}
        for page in _pages(result.first, result.count):
            found.update(dict.fromkeys(self._found.get((result.session, page), ())))
        runs = ((batch, waiting_for(batch, result.first, result.count)) for batch in found)
        return [(batch, lo, hi) for batch, waiting in runs for lo, hi in waiting]


def _pages(first: int, count: int) -> range:
    return range(first // PAGE, (first + count - 1) // PAGE + 1)


def _gaps(batch: Batch, lo: int, hi: int, firsts: list[Batch]) -> list[tuple[int, int]]:
    """Those of ``[lo, hi)`` of which no first is there."""
    found = RangeSet()
    start = 0 if batch.same is None else batch.same[1]
    for first in firsts:
        found.add(max(lo, first.first - start), min(hi, first.stop - start))
    return found.gaps(lo, hi)


def waiting_for(batch: Batch, first: int, count: int) -> list[tuple[int, int]]:
    """The runs of a batch of duplicates that wait for the tasks ``[first, first + count)``."""
    start = 0 if batch.same is None else batch.same[1]
    lo, hi = max(first - start, 0), min(first + count - start, batch.count)
    return list(batch.runs(lo, hi, State.SCHEDULED)) if lo < hi else []


def duplicates_of(batch: Batch, lo: int, hi: int, ledger: Ledger) -> Iterator[Ended]:
    """The duplicates that wait for the tasks ``[lo, hi)`` of a batch."""
    for follower in ledger.keys.followers.get(batch, ()):
        for a, b in waiting_for(follower, batch.first + lo, hi - lo):
            yield follower, a, b


def _outcome(batch: Batch, lo: int, hi: int, first: Outcome) -> Outcome:
    """The outcome of the duplicates ``[lo, hi)``, in the same record as that of the first.

    What it takes of the room for results is not known exactly when its payloads are in the store.
    """
    count = hi - lo
    size = first.size * count // first.count
    result = Result(batch.session.id, batch.first + lo, count, first.ending, [], size)
    result.failure = first.failure
    mine = Outcome(batch, result, first.ref, first.entry)
    mine.result = None
    if first.result is not None:
        mine.result = as_duplicate(first.result, batch, batch.first + lo, count)
    mine.inline_bytes = first.inline_bytes * count // first.count
    mine.blobs = list(first.blobs)
    mine.host, mine.at, mine.attempt, mine.error = first.host, first.at, first.attempt, first.error
    mine.seconds = first.seconds * count / first.count
    return mine


def as_duplicate(result: Result, batch: Batch, first: int, count: int) -> Result:
    """The result of the first as that of its duplicates ``[first, first + count)``."""
    start = 0 if batch.same is None else batch.same[1]
    at = first - batch.first + start - result.first
    payloads, ending, whole = result.payloads, result.ending, count == result.count
    if result.packed and not whole:  # no host of ours packs what was not packed
        payloads, ending = [], Ending.UNKNOWN
    elif not whole:
        payloads = payloads[at : at + count]
    return Result(
        batch.session.id, first, count, ending, payloads, sum(map(len, payloads)),
        result.packed and whole,
        result.failure, result.seconds * count / result.count, result.attempts, result.output,
    )  # fmt: skip


def duplicate_of(group: Group, same: tuple[bytes, int]) -> Group:
    """A submitted group of which other tasks have the keys, as it is accepted."""
    return Group(
        group.first,
        group.count,
        group.function,
        [b""] * group.count,
        0,
        job=group.job,
        template=group.template,
        tried=group.tried,
        same=same,
    )
