"""Quantiles of a column, by a summary that is thinned out when it grows.

A state is a sorted list of values with weights. As long as a group has few different values it is
exact. Past ``keep`` of them it is collapsed to ``keep`` points of equal weight, at the middles of
equal shares of the ranks, as in G. Manku, S. Rajagopalan and B. Lindsay, "Approximate medians and
other quantiles in one pass and with limited memory" (1998). Each collapse moves a rank by half a
share at most; the state has the sum of that, so every answer says how wrong its rank may be.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa

from farm.errors import ConfigError
from farm_scheduler.aggregates.arrays import as_arrow, as_numpy, is_there
from farm_scheduler.aggregates.measures.base import (
    Columns,
    Grouped,
    Measure,
    Values,
)
from farm_scheduler.aggregates.measures.counted import Counted, counted, merged

__all__ = ["Quantiles"]


@dataclass(frozen=True)
class Quantiles(Measure):
    """Quantiles of a column of numbers, ``at=(0.5, 0.9, 0.99)``; NULL and NaN are left out.

    A value is ``{"p50": …, "p90": …, "p99": …}``, each a number that is in the column. The error is
    that of the rank, as a share of all: 0 while a group has at most ``keep`` different values, and
    then at most ``1 / (2 * keep)`` for each level of the tree that merged. The collapse depends on
    how the rows are split; the tree of an aggregate is fixed, and so are its answers.
    """

    column: str
    at: tuple[float, ...] = (0.5, 0.9, 0.99)
    keep: int = 512
    FORMAT: ClassVar[int] = 2
    NEEDS: ClassVar[str] = "numbers"

    def check(self) -> None:
        """Shares are 0 to 1, and at least 16 points are kept."""
        super().check()
        if not self.at or not all(0 <= one <= 1 for one in self.at):
            raise ConfigError(f"{self}: at must be numbers from 0 to 1, as in at=(0.5, 0.99)")
        if not isinstance(self.keep, int) or self.keep < 16:  # noqa: PLR2004
            raise ConfigError(f"{self}: keep must be at least 16")

    def identity(self) -> list[object]:
        """Which quantiles are asked for makes no difference to the states."""
        return ["Quantiles", self.FORMAT, self.column, self.keep]

    def lift_groups(self, rows: Grouped, columns: Columns) -> pa.Table:
        """Different values and how often each is there."""
        values = rows.table.column(f"c:{self.column}").cast(pa.float64())
        numbers = as_numpy(values, math.nan) + 0.0  # 0 for -0, which is equal to it
        there = ~np.isnan(numbers)
        g, ones = rows.g[there], np.ones(int(there.sum()))
        return self._thinned(counted(g, as_arrow(numbers[there]), ones, rows.size))

    def merge_groups(self, states: Grouped) -> pa.Table:
        """All points together."""
        return self._thinned(merged(states))

    def _thinned(self, found: Counted) -> pa.Table:
        """Of groups with too many points, only those at the middles of equal shares."""
        sizes, keep = found.sizes, self.keep
        many = np.flatnonzero(sizes > keep)
        if not len(many):
            return found.states()
        kept, counts, stops = np.ones(len(found.g), bool), found.counts, np.cumsum(sizes)
        for group in many.tolist():
            own = slice(stops[group] - sizes[group], stops[group])
            upto = np.cumsum(counts[own])
            total = upto[-1]
            share = np.diff(np.floor(np.append(0.0, upto) * keep / total + 0.5))
            kept[own], counts[own] = share > 0, share * total / keep
            found.errors[group] += total / (2 * keep)
        return found.taken(np.flatnonzero(kept)).states()

    def finish(self, states: pa.Table, columns: Columns) -> Values:
        """A struct of the quantiles, and the error of the rank as a share."""
        values, weights, errors = (
            one.combine_chunks() for one in states.select(["s0", "s1", "s2"]).columns
        )
        present = is_there(values)
        sizes = (
            np.where(present, np.diff(as_numpy(values.offsets)), 0)
            if len(values)
            else np.zeros(0, np.int64)
        )
        stop = np.cumsum(sizes, dtype=np.int64)
        start = stop - sizes
        flat = as_numpy(values.flatten())
        weight = np.concatenate([[0.0], np.cumsum(as_numpy(weights.flatten()))])
        total = weight[stop] - weight[start]
        names, found = [], []
        for share in self.at:
            # The least value with at least this share of the weight at or below it.
            rank = weight[start] + share * total
            at = np.searchsorted(weight[1:], rank - 1e-9 * np.maximum(total, 1.0))
            at = np.clip(at, start, np.maximum(stop - 1, start))
            picked = (
                flat[np.minimum(at, max(len(flat) - 1, 0))] if len(flat) else np.zeros(len(values))
            )
            names.append(f"p{share * 100:g}")
            found.append(as_arrow(picked, ~present))
        wrong = as_numpy(errors, 0.0) / np.maximum(total, 1.0)
        value = pa.StructArray.from_arrays(found, names, mask=as_arrow(~present))
        return Values(value, as_arrow(wrong))
