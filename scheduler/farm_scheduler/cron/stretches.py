"""Stretches of time in which a zone's clocks run evenly, found by asking the zone."""

from bisect import bisect_right
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from typing import NamedTuple

__all__ = ["Stretch", "Stretches"]

DAY = 86_400
YEARS_KEPT = 512
"""Years of zones of which the changes are remembered."""
ZONES_KEPT = 1024


class Stretch(NamedTuple):
    """Instants ``[begin, end)``, in seconds since 1970, at all of which the offset is the same.

    ``offset``: seconds that the clocks are ahead of UTC. ``shift``: by how many seconds they were
    put forward at ``begin``, negative if back; 0 if they went on.
    """

    begin: int
    end: int
    offset: int
    shift: int


class Stretches:
    """The stretches of one zone."""

    def __init__(self, zone: tzinfo) -> None:
        self.zone = zone
        self._changes = lru_cache(YEARS_KEPT)(self._changes_of)
        self._last = Stretch(0, 0, 0, 0)  # mostly it is asked for again

    @staticmethod
    @lru_cache(ZONES_KEPT)
    def of(zone: tzinfo) -> "Stretches":
        """Those of a zone; the same object each time."""
        return Stretches(zone)

    def offset(self, at: int) -> int:
        """How many seconds the clocks are ahead of UTC at an instant."""
        offset = datetime.fromtimestamp(at, UTC).astimezone(self.zone).utcoffset()
        return 0 if offset is None else int(offset.total_seconds() // 1)

    def at(self, at: int) -> Stretch:
        """The stretch of an instant; long ones are cut at the turn of a year."""
        last = self._last
        if last.begin <= at < last.end:
            return last
        year = datetime.fromtimestamp(at, UTC).year
        begin, end = _new_year(year - 1), _new_year(year + 2)
        found = [one for near in (year - 1, year, year + 1) for one in self._changes(near)]
        index = bisect_right(found, at, key=lambda change: change[0])
        shift = 0
        if index:
            begin, before, after = found[index - 1]
            shift = after - before
        if index < len(found):
            end = found[index][0]
        found_here = self._last = Stretch(begin, end, self.offset(at), shift)
        return found_here

    def _changes_of(self, year: int) -> list[tuple[int, int, int]]:
        """Instants of a year at which the offset changes, with what it was and what it is."""
        changes: list[tuple[int, int, int]] = []
        at, end = _new_year(year), _new_year(year + 1)
        before = self.offset(at - 1)
        low = at - 1
        while at < end:
            after = self.offset(at)
            if after != before:
                change = self._bisect(low, at, before)
                at, after = change, self.offset(change)
                changes.append((change, before, after))
            low, before = at, after
            at = at + DAY if at + DAY < end or at == end - 1 else end - 1
        return changes

    def _bisect(self, low: int, high: int, before: int) -> int:
        """The first instant after ``low``, at which the offset is ``before``, where it is not."""
        while high - low > 1:
            middle = (low + high) // 2
            if self.offset(middle) == before:
                low = middle
            else:
                high = middle
        return high


def _new_year(year: int) -> int:
    return int(datetime(min(max(year, 1), 9999), 1, 1, tzinfo=UTC).timestamp())
