"""What readers of others' tasks are yet to be told, beyond what waits for them in memory.

Who follows a million tasks that are over is told of them a page at a time, as it takes what it was
told before. Until then only their numbers are remembered, in runs.
"""

from collections import deque

from farm.protocol.parts import TaskRun
from farm.ranges import RangeSet

__all__ = ["Pages"]


class Pages:
    """Ended tasks of which one reader is to be told later; bounded by the tasks that it follows.

    ``absent``: of these the farm had none when it was asked; bounded by the runs that were asked.
    """

    __slots__ = ("_runs", "absent")

    def __init__(self) -> None:
        self._runs: dict[bytes, RangeSet] = {}
        self.absent: deque[TaskRun] = deque()

    def __bool__(self) -> bool:
        return bool(self._runs or self.absent)

    @property
    def has_ended(self) -> bool:
        """Whether there are any but absent ones."""
        return bool(self._runs)

    @property
    def pieces(self) -> int:
        """In how many runs they are remembered."""
        return len(self.absent) + sum(runs.pieces for runs in self._runs.values())

    def add(self, run: TaskRun) -> None:
        """Tell of these tasks, too."""
        session, first, count = run
        self._runs.setdefault(session, RangeSet()).add(first, first + count)

    def take(self, most: int) -> list[TaskRun]:
        """The next tasks to tell of: of one session, and at most so many."""
        session, runs = next(iter(self._runs.items()))
        found: list[TaskRun] = []
        for first, stop in runs:
            count = min(stop - first, most)
            found.append((session, first, count))
            most -= count
            if not most:
                break
        self._remove(session, found[0][1], found[-1][1] + found[-1][2])
        return found

    def take_on(self, session: bytes, first: int, stop: int) -> int:
        """Those of ``[first, stop)`` that follow without a gap; where these end."""
        runs = self._runs.get(session)
        found = runs.overlap(first, stop) if runs is not None else []
        if not found or found[0][0] > first:
            return first
        self._remove(session, *found[0])
        return found[0][1]

    def _remove(self, session: bytes, first: int, stop: int) -> None:
        runs = self._runs[session]
        runs.remove(first, stop)
        if not runs:
            del self._runs[session]

    def clear(self) -> None:
        """Tell of nothing any more."""
        self._runs.clear()
        self.absent.clear()
