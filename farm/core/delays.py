"""What becomes due at a time: runs of tasks, bounded by admission."""

from collections.abc import Iterator
from heapq import heapify, heappop, heappush

from farm.core.batch import Batch
from farm.core.ready import Entry
from farm.model import State

__all__ = ["Delays"]

STALE_ENTRIES_MIN = 64
NEVER = float("inf")


class Delays:
    """Runs of tasks by the time at which something is to happen to them.

    That is, to those in one of ``states``: an entry without any is stale. ``due`` is when the
    earliest is; endless if there is none.
    """

    def __init__(self, *states: State) -> None:
        self._states = states
        self._heap: list[tuple[float, int, Batch, int, int]] = []
        self._pushed = 0
        self._stale = 0
        self.due = NEVER

    def push(self, due: float, batch: Batch, lo: int, hi: int) -> None:
        """Remember ``[lo, hi)`` until ``due``."""
        self._pushed += 1  # a tie-breaker: batches do not compare
        heappush(self._heap, (due, self._pushed, batch, lo, hi))
        self.due = self._heap[0][0]

    def pop_due(self, now: float) -> list[Entry]:
        """Remove and give the runs that are due, in order."""
        due: list[Entry] = []
        while self._heap and self._heap[0][0] <= now:
            due.append(heappop(self._heap)[2:])
        self._look()
        return due

    def _look(self) -> None:
        self.due = self._heap[0][0] if self._heap else NEVER

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
            self._look()
            self._stale = 0

    def snapshot(self) -> Iterator[Entry]:
        """Every entry as of now, in no order."""
        heap = self._heap.copy()
        return ((batch, lo, hi) for _, _, batch, lo, hi in heap)

    def __iter__(self) -> Iterator[tuple[float, Batch, int, int]]:
        """Every entry, in no order."""
        return ((due, batch, lo, hi) for due, _, batch, lo, hi in self._heap)
