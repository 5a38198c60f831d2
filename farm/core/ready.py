"""What waits: runs of queued tasks by priority, and runs that become due at a time.

Both hold ``(batch, lo, hi)`` runs, one entry for a whole submitted group as a rule, and are
bounded by admission. A task that is cancelled or expires leaves a stale entry behind, which is
skipped when it comes up; when stale tasks outnumber the others, entries are sorted out.
"""

from bisect import insort
from collections import deque
from collections.abc import Iterator
from heapq import heapify, heappop, heappush

from farm.core.batch import Batch
from farm.model import State

__all__ = ["Delays", "ReadyQueue"]

Entry = tuple[Batch, int, int]
STALE_MIN = 4096
STALE_ENTRIES_MIN = 64


class ReadyQueue:
    """Queued tasks: higher priorities first, first come first served within one."""

    def __init__(self) -> None:
        self._lanes: dict[int, deque[Entry]] = {}
        self._order: list[int] = []  # negated priorities of the lanes, ascending
        self._stale = 0
        self._size = 0
        self._aside: list[Entry] = []

    def push(self, batch: Batch, lo: int, hi: int, *, front: bool = False) -> None:
        """Add the queued tasks ``[lo, hi)``; those given back go to the front."""
        priority = batch.template.priority
        lane = self._lanes.get(priority)
        if lane is None:
            # One entry per submitted group or returned run: bounded by admission.
            lane = self._lanes[priority] = deque()
            insort(self._order, -priority)
        if front:
            lane.appendleft((batch, lo, hi))
        else:
            lane.append((batch, lo, hi))
        self._size += hi - lo

    def head(self) -> Entry | None:
        """The next run that is really queued, or None."""
        while self._order:
            lane = self._lanes[-self._order[0]]
            while lane:
                batch, lo, hi = lane[0]
                run = next(batch.runs(lo, hi, State.QUEUED), None)
                if run is None:
                    lane.popleft()
                    self._drop_stale(hi - lo)
                    continue
                if run[0] > lo:
                    lane[0] = (batch, run[0], hi)
                    self._drop_stale(run[0] - lo)
                return batch, run[0], run[1]
            del self._lanes[-self._order.pop(0)]
        return None

    def ahead(self, batch: Batch, index: int, entries_max: int) -> int | None:
        """How many queued tasks go before this one; None if it is in no lane.

        Counts no further than ``entries_max`` entries.
        """
        found = entries = 0
        for priority in self._order:
            for other, lo, hi in self._lanes[-priority]:
                if other is batch and lo <= index < hi:
                    return found + batch.states.count(State.QUEUED, lo, index)
                found += other.states.count(State.QUEUED, lo, hi)
                entries += 1
                if entries >= entries_max:
                    return found
        return None

    def take(self, count: int) -> None:
        """Remove the first ``count`` tasks of the run that ``head`` returned."""
        lane = self._lanes[-self._order[0]]
        batch, lo, hi = lane.popleft()
        if lo + count < hi:
            lane.appendleft((batch, lo + count, hi))
        self._size -= count

    def set_aside(self, count: int) -> None:
        """Let the first ``count`` tasks of the run that ``head`` returned wait until ``resume``."""
        batch, lo, _ = self._lanes[-self._order[0]][0]
        self.take(count)
        self._aside.append((batch, lo, lo + count))

    def resume(self) -> None:
        """What was set aside waits where it did."""
        aside, self._aside = self._aside, []
        for batch, lo, hi in reversed(aside):
            self.push(batch, lo, hi, front=True)

    def note_stale(self, count: int) -> None:
        """``count`` queued tasks ended while they waited."""
        self._stale += count
        if self._stale > STALE_MIN and self._stale * 2 > self._size:
            self._sort_out()

    def _drop_stale(self, count: int) -> None:
        self._size -= count
        self._stale = max(0, self._stale - count)

    def _sort_out(self) -> None:
        self._size = self._stale = 0
        for priority, lane in self._lanes.items():
            kept = [
                (batch, a, b) for batch, lo, hi in lane for a, b in batch.runs(lo, hi, State.QUEUED)
            ]
            self._lanes[priority] = deque(kept)  # fewer entries than before
            self._size += sum(hi - lo for _, lo, hi in kept)

    def snapshot(self) -> list[Entry]:
        """Every entry, stale ones too, in no order."""
        found = list(self._aside)
        for lane in self._lanes.values():
            found += lane
        return found

    def __iter__(self) -> Iterator[Entry]:
        """Every run that is really queued, in order; those set aside come first."""
        for entries in (self._aside, *(self._lanes[-negated] for negated in self._order)):
            for batch, lo, hi in entries:
                for a, b in batch.runs(lo, hi, State.QUEUED):
                    yield batch, a, b


class Delays:
    """Runs of tasks by the time at which something is to happen to them.

    That is, to those in one of ``states``: an entry without any is stale.
    """

    def __init__(self, *states: State) -> None:
        self._states = states
        self._heap: list[tuple[float, int, Batch, int, int]] = []
        self._pushed = 0
        self._stale = 0

    def push(self, due: float, batch: Batch, lo: int, hi: int) -> None:
        """Remember ``[lo, hi)`` until ``due``."""
        self._pushed += 1  # a tie-breaker: batches do not compare
        heappush(self._heap, (due, self._pushed, batch, lo, hi))

    def next_due(self) -> float | None:
        """When the earliest entry is due."""
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now: float) -> list[Entry]:
        """Remove and give the runs that are due, in order."""
        due: list[Entry] = []
        while self._heap and self._heap[0][0] <= now:
            due.append(heappop(self._heap)[2:])
        return due

    def note_stale(self, count: int) -> None:
        """``count`` entries may be stale; sorts out the heap when that is most of it."""
        self._stale += count
        if self._stale > STALE_ENTRIES_MIN and 2 * self._stale > len(self._heap):
            self._heap = [
                entry
                for entry in self._heap
                if any(entry[2].states.count(s, entry[3], entry[4]) for s in self._states)
            ]
            heapify(self._heap)
            self._stale = 0

    def snapshot(self) -> Iterator[Entry]:
        """Every entry as of now, in no order."""
        heap = self._heap.copy()
        return ((batch, lo, hi) for _, _, batch, lo, hi in heap)

    def __iter__(self) -> Iterator[tuple[float, Batch, int, int]]:
        """Every entry, in no order."""
        return ((due, batch, lo, hi) for due, _, batch, lo, hi in self._heap)
