"""Sets of integers kept as disjoint half-open ranges, for counters that come in runs."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

__all__ = ["RangeSet"]


class RangeSet:
    """A set of integers stored as sorted, disjoint, non-adjacent ranges ``[start, stop)``.

    Adding to the end, the common case, is constant time; other changes cost the number of
    ranges, which is the number of holes, not of members.
    """

    __slots__ = ("_size", "_starts", "_stops")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        self._size = 0
        for start, stop in ranges:
            self.add(start, stop)

    def __len__(self) -> int:
        return self._size

    def __bool__(self) -> bool:
        return self._size > 0

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(list(zip(self._starts, self._stops, strict=True)))

    def __contains__(self, value: int) -> bool:
        at = bisect_right(self._starts, value) - 1
        return at >= 0 and value < self._stops[at]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RangeSet) and list(self) == list(other)

    def __hash__(self) -> int:
        raise TypeError("a RangeSet is mutable and cannot be hashed")

    def __repr__(self) -> str:
        return f"RangeSet({list(self)})"

    @property
    def head(self) -> tuple[int, int]:
        """The first range; there must be one."""
        return self._starts[0], self._stops[0]

    @property
    def pieces(self) -> int:
        """How many ranges it has."""
        return len(self._starts)

    def runs(self) -> list[tuple[int, int]]:
        """The ranges as ``(start, count)``."""
        return [(a, b - a) for a, b in zip(self._starts, self._stops, strict=True)]

    def add(self, start: int, stop: int) -> None:
        """Add every integer of ``[start, stop)``."""
        if start >= stop:
            return
        if not self._starts or start > self._stops[-1]:
            self._starts.append(start)
            self._stops.append(stop)
            self._size += stop - start
            return
        if start >= self._starts[-1]:  # the last range may grow, and nothing else
            if stop > self._stops[-1]:
                self._size += stop - self._stops[-1]
                self._stops[-1] = stop
            return
        first = bisect_left(self._stops, start)
        last = bisect_right(self._starts, stop)
        if first < last:
            covered = sum(self._stops[i] - self._starts[i] for i in range(first, last))
            start = min(start, self._starts[first])
            stop = max(stop, self._stops[last - 1])
        else:
            covered = 0
        self._starts[first:last] = [start]
        self._stops[first:last] = [stop]
        self._size += stop - start - covered

    def remove(self, start: int, stop: int) -> None:
        """Remove every integer of ``[start, stop)``; those that are not members are ignored."""
        if not self._stops or start >= self._stops[-1]:
            return
        if len(self._stops) == 1 and start <= self._starts[0] and stop >= self._stops[0]:
            self._starts, self._stops, self._size = [], [], 0  # all there is, as very often
            return
        first = bisect_right(self._stops, start)
        last = bisect_left(self._starts, stop)
        if start >= stop or first >= last:
            return
        if last - first == 1 and start <= self._starts[first] and stop >= self._stops[first]:
            self._size -= self._stops.pop(first) - self._starts.pop(first)  # as nearly always
            return
        covered = sum(self._stops[i] - self._starts[i] for i in range(first, last))
        left = (self._starts[first], start)
        right = (stop, self._stops[last - 1])
        kept = [(a, b) for a, b in (left, right) if a < b]
        self._starts[first:last] = [a for a, _ in kept]
        self._stops[first:last] = [b for _, b in kept]
        self._size += sum(b - a for a, b in kept) - covered

    def covers(self, start: int, stop: int) -> bool:
        """Whether all of ``[start, stop)``, which is not empty, are members."""
        at = bisect_right(self._starts, start) - 1
        return at >= 0 and stop <= self._stops[at]

    def overlap(self, start: int, stop: int) -> list[tuple[int, int]]:
        """The parts of ``[start, stop)`` that are members, in order."""
        if start >= stop or not self._stops or start >= self._stops[-1]:
            return []
        first = bisect_right(self._stops, start)
        last = bisect_left(self._starts, stop)
        return [
            (max(start, self._starts[i]), min(stop, self._stops[i])) for i in range(first, last)
        ]

    def gaps(self, start: int, stop: int) -> list[tuple[int, int]]:
        """The parts of ``[start, stop)`` that are not members, in order."""
        found: list[tuple[int, int]] = []
        for a, b in self.overlap(start, stop):
            if start < a:
                found.append((start, a))
            start = b
        if start < stop:
            found.append((start, stop))
        return found
