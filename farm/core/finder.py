"""Which outcomes of a batch are about which tasks, found without looking at all of them.

A packed task of many items that fail has an outcome for each, and readers may ask for any of them.
"""

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from farm.core.batch import Outcome

__all__ = ["Finder"]

FEW = 16
"""So many are simply looked through."""


class Finder:
    """Looks into the outcomes of one batch: no two are about one task, and more may have come."""

    __slots__ = ("_firsts", "_places")

    def __init__(self) -> None:
        self._firsts: list[int] = []  # ascending
        self._places: list[int] = []  # where those outcomes stand

    def find(self, outcomes: "list[Outcome]", first: int, stop: int) -> "list[Outcome]":
        """Those about any of the tasks ``[first, stop)``, in the order in which they came."""
        if len(outcomes) <= FEW:
            return [one for one in outcomes if one.first < stop and first < one.first + one.count]
        if len(outcomes) != len(self._places):
            self._places = sorted(range(len(outcomes)), key=lambda at: outcomes[at].first)
            self._firsts = [outcomes[at].first for at in self._places]
        lo, hi = bisect_right(self._firsts, first) - 1, bisect_left(self._firsts, stop)
        found = [outcomes[at] for at in sorted(self._places[max(lo, 0) : hi])]
        return [one for one in found if first < one.first + one.count]
