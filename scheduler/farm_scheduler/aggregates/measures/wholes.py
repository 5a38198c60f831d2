"""Columns of whole numbers summed up by group, in NumPy, exactly.

DuckDB takes several times as long for a small table: it has to read the query, and to hash groups
that are numbered already. What does not fit into 64 bits is left to it.
"""

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from farm_scheduler.aggregates.arrays import as_arrow, as_numpy, is_there
from farm_scheduler.aggregates.kinds import Columns

__all__ = ["Whole", "Wholes", "hugeint"]

BITS = 63
HUGEINT = pa.decimal128(38, 0)
"""What DuckDB's integers of 128 bits are in Arrow."""


class Whole(NamedTuple):
    """Of each group: how many numbers it has, their sum, the least and the greatest.

    ``squares`` is the number of numbers times the sum of their squares, less the square of their
    sum: as many times the sum of squared distances from the mean. None if it is too large.
    """

    n: "np.ndarray[Any, Any]"
    total: "np.ndarray[Any, Any]"
    least: "np.ndarray[Any, Any]"
    most: "np.ndarray[Any, Any]"
    squares: "np.ndarray[Any, Any] | None"

    @property
    def absent(self) -> "np.ndarray[Any, Any]":
        """Groups without any."""
        found: np.ndarray[Any, Any] = self.n == 0
        return found


class Wholes:
    """The columns of a table whose rows are in groups, numbered by its column ``g``."""

    def __init__(self, rows: pa.Table, size: int, kinds: Columns) -> None:
        self._rows = rows
        self._size = size
        self._kinds = kinds
        self._known: dict[str, Whole | None] = {}

    @cached_property
    def rows(self) -> "np.ndarray[Any, Any]":
        """How many rows each group has."""
        return np.bincount(self._g, minlength=self._size)

    def of(self, column: str) -> Whole | None:
        """What a column comes to; None unless it is of whole numbers whose sums fit."""
        if column not in self._known:
            values = self._rows.column(f"c:{column}")
            fits = self._kinds[column] == "whole" and values.type == pa.int64()
            self._known[column] = self._summed(values.combine_chunks()) if fits else None
        return self._known[column]

    @cached_property
    def _g(self) -> "np.ndarray[Any, Any]":
        return as_numpy(self._rows.column("g"))

    @cached_property
    def _order(self) -> "np.ndarray[Any, Any]":
        return np.argsort(self._g, kind="stable")

    def _summed(self, column: pa.Array) -> Whole | None:
        values, order = as_numpy(column), self._order
        count = self.rows
        if column.null_count:
            there = is_there(column)
            order, count = order[there[order]], np.bincount(self._g[there], minlength=self._size)
        if not len(order):
            return Whole(count, count, count, count, count)
        values, some = values[order], np.flatnonzero(count)
        furthest = max(-int(values.min()), int(values.max())) * int(count.max())
        if furthest.bit_length() > BITS:
            return None
        starts = (np.cumsum(count) - count)[some]
        total = self._of_each(np.add, values, starts, some)
        squares = None
        if (furthest * furthest).bit_length() <= BITS:
            squares = count * self._of_each(np.add, values * values, starts, some) - total * total
        least = self._of_each(np.minimum, values, starts, some)
        return Whole(count, total, least, self._of_each(np.maximum, values, starts, some), squares)

    def _of_each(
        self, what: np.ufunc, values: "np.ndarray[Any, Any]", starts: "np.ndarray[Any, Any]",
        some: "np.ndarray[Any, Any]",
    ) -> "np.ndarray[Any, Any]":  # fmt: skip
        """What values, in order of group, come to in each group that has some; 0 in the others."""
        found = np.zeros(self._size, np.int64)
        found[some] = what.reduceat(values, starts)
        return found


def hugeint(values: "np.ndarray[Any, Any]", absent: "np.ndarray[Any, Any]") -> pa.Array:
    """Numbers of 64 bits as 128, NULL where they are absent."""
    narrow = as_arrow(values, absent)
    wide = np.stack([values, values >> BITS], axis=1)
    return pa.Array.from_buffers(HUGEINT, len(values), [narrow.buffers()[0], pa.py_buffer(wide)])
