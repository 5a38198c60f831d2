"""What measures share whose states are different values and how often each is there."""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from farm_scheduler.aggregates.arrays import as_arrow, as_numpy
from farm_scheduler.aggregates.grouping import places
from farm_scheduler.aggregates.measures.base import Grouped, flat, listed

__all__ = ["Counted", "counted", "merged"]


class Counted(NamedTuple):
    """Different values of groups and how often each is there, in order of group.

    ``rows`` are where in ``values`` each is; numbers are in order within a group, texts are not.
    ``errors`` are those of each group so far.
    """

    g: "np.ndarray[Any, Any]"
    values: pa.Array
    rows: "np.ndarray[Any, Any]"
    counts: "np.ndarray[Any, Any]"
    errors: "np.ndarray[Any, Any]"

    @property
    def sizes(self) -> "np.ndarray[Any, Any]":
        """How many values each group has."""
        return np.bincount(self.g, minlength=len(self.errors))

    def taken(self, which: "np.ndarray[Any, Any]") -> "Counted":
        """These of the values, in this order."""
        return Counted(
            self.g[which], self.values, self.rows[which], self.counts[which], self.errors
        )

    def states(self) -> pa.Table:
        """Two lists and an error for each group; NULL for one without any."""
        found = self.values.take(as_arrow(self.rows))
        values, counts = listed(self.g, [found, as_arrow(self.counts)], len(self.errors))
        errors = as_arrow(self.errors, self.sizes == 0)
        return pa.table({"s0": values, "s1": counts, "s2": errors})


def counted(
    g: "np.ndarray[Any, Any]", values: pa.Array, counts: "np.ndarray[Any, Any]", count: int
) -> Counted:
    """Values of ``count`` groups, each at one place, with their counts added."""
    own, size = places(values, sort=not _is_text(values.type))
    keys = g * size + own
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    first = np.append(True, keys[1:] != keys[:-1])[: len(keys)]
    rows = order[first]
    total = np.zeros(len(rows), counts.dtype)
    np.add.at(total, np.cumsum(first) - 1, counts[order])
    return Counted(g[rows], values, rows, total, np.zeros(count, counts.dtype))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def merged(states: Grouped) -> Counted:
    """The counts and the errors of states added."""
    g, (values, counts) = flat(states, ["s0", "s1"])
    found = counted(g, values, as_numpy(counts), states.size)
    errors = as_numpy(states.table.column("s2"), 0)
    np.add.at(found.errors, states.g, errors)
    return found
