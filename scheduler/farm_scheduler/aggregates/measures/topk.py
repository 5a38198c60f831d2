"""The values that occur most often.

A state is the ``keep`` commonest values with their counts, and how often a value that is not among
them may have occurred. Merging adds counts, as for mergeable summaries of J. Misra and D. Gries
(P. Agarwal and others, "Mergeable summaries", 2012).
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from farm.errors import ConfigError
from farm_scheduler.aggregates.arrays import as_arrow, as_numpy
from farm_scheduler.aggregates.measures.base import (
    Columns,
    Grouped,
    Measure,
    Values,
    spelled,
)
from farm_scheduler.aggregates.measures.counted import Counted, counted, merged
from farm_scheduler.aggregates.texts import order_within

__all__ = ["TopK"]


@dataclass(frozen=True)
class TopK(Measure):
    """The ``k`` commonest values of a column with their counts, the commonest first.

    A value is a list of ``{"value": …, "count": …}``; equal counts are in order of value. The error
    is how many more occurrences any value may have had than is said, or than the last one has: 0
    while no group has more than ``keep`` different values.
    """

    column: str
    k: int = 10
    keep: int = 10_000
    FORMAT: ClassVar[int] = 2

    def check(self) -> None:
        """K is at least 1, and at least as many are kept."""
        super().check()
        if not isinstance(self.k, int) or self.k < 1:
            raise ConfigError(f"{self}: k must be at least 1")
        if not isinstance(self.keep, int) or self.keep < self.k:
            raise ConfigError(f"{self}: keep must be at least k, {self.k}")

    def identity(self) -> list[object]:
        """How many are shown makes no difference to the states."""
        return ["TopK", self.FORMAT, self.column, self.keep]

    def lift_groups(self, rows: Grouped, columns: Columns) -> pa.Table:
        """Counts of all values."""
        g, values = spelled(rows, self.column, columns)
        return self._cut(counted(g, values, np.ones(len(g), np.int64), rows.size))

    def merge_groups(self, states: Grouped) -> pa.Table:
        """Counts added."""
        return self._cut(merged(states))

    def _cut(self, found: Counted) -> pa.Table:
        """The commonest of each group; the count of the first that is left out is the error."""
        found = found.taken(np.lexsort((-found.counts, found.g)))
        g, counts = found.g, found.counts
        other = np.append(False, (g[1:] != g[:-1]) | (counts[1:] != counts[:-1]))[: len(g)]
        found = found.taken(order_within(np.cumsum(other), found.values, found.rows))
        sizes = found.sizes
        if sizes.max(initial=0) > self.keep:
            place = np.arange(len(found.g)) - (np.cumsum(sizes) - sizes)[found.g]
            out = place == self.keep
            found.errors[found.g[out]] += found.counts[out]
            found = found.taken(np.flatnonzero(place < self.keep))
        return found.states()

    def finish(self, states: pa.Table, columns: Columns) -> Values:
        """Lists of structs, and the error of the counts."""
        values, counts = (states.column(name).combine_chunks() for name in ("s0", "s1"))
        sizes = as_numpy(pc.list_value_length(values), 0)
        shown = np.minimum(sizes, self.k)
        ends = np.cumsum(shown)
        g = np.repeat(np.arange(len(sizes)), shown)
        taken = as_arrow((np.cumsum(sizes) - sizes - ends + shown)[g] + np.arange(len(g)))
        every = pa.StructArray.from_arrays(
            [one.flatten().take(taken) for one in (values, counts)], ["value", "count"]
        )
        offsets = as_arrow(np.append(0, ends).astype(np.int32))
        return Values(
            pa.ListArray.from_arrays(offsets, every), as_arrow(as_numpy(states.column("s2"), 0))
        )
