"""Measures whose state is a few numbers.

Whole numbers are added exactly, so that any split of the rows in any order gives the same bytes.
Other numbers are added with compensation (Kahan, as DuckDB's ``fsum`` does): the order of addition
is fixed by the tree of an aggregate, and another order differs in the last bits at most.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from farm_scheduler.aggregates.arrays import as_arrow, as_numpy
from farm_scheduler.aggregates.measures.base import (
    Columns,
    Grouped,
    Measure,
    Values,
    given,
)
from farm_scheduler.aggregates.measures.wholes import Whole, Wholes, hugeint

__all__ = ["Count", "Max", "Mean", "Min", "Sum", "Variance"]


@dataclass(frozen=True)
class Count(Measure):
    """How many rows; with a column, those in which it is not NULL."""

    column: str | None = None

    def lift_sql(self, columns: Columns) -> Sequence[str]:
        """Of the rows."""
        return [f"count({'*' if self.column is None else given(self.column)})"]

    def lift_wholes(self, wholes: Wholes) -> Sequence[pa.Array]:
        """The same."""
        if self.column is None:
            return [as_arrow(wholes.rows)]
        x = wholes.of(self.column)
        return [] if x is None else [as_arrow(x.n)]

    def merge_sql(self, states: Sequence[str]) -> Sequence[str]:
        """Added."""
        return [f"sum({states[0]})::BIGINT"]

    def finish_sql(self, states: Sequence[str], columns: Columns) -> str:
        """Whole numbers."""
        return f"coalesce({states[0]}, 0)"


def _sums(column: str, columns: Columns) -> tuple[str, str]:
    """The sum of a column of whole numbers, and that of one of others, NULL if it is not one."""
    if columns[column] in ("whole", "boolean"):
        return f"sum({given(column)})::HUGEINT", "NULL::DOUBLE"
    return "NULL::HUGEINT", f"fsum({given(column)}::DOUBLE)"


def _whole_sums(x: Whole) -> list[pa.Array]:
    return [hugeint(x.total, x.absent), pa.nulls(len(x.n), pa.float64())]


def _sums_merged(states: Sequence[str]) -> list[str]:
    return [f"sum({states[0]})::HUGEINT", f"fsum({states[1]})"]


def _total(states: Sequence[str]) -> str:
    return f"(coalesce({states[0]}, 0)::DOUBLE + coalesce({states[1]}, 0))"


GREATEST = "1e150"
"""Numbers whose squares can be added."""


@dataclass(frozen=True)
class Sum(Measure):
    """The sum of a column, 0 if there is nothing to add; whole where the column is."""

    column: str
    NEEDS: ClassVar[str] = "numbers"

    def lift_sql(self, columns: Columns) -> Sequence[str]:
        """Of the rows."""
        return _sums(self.column, columns)

    def lift_wholes(self, wholes: Wholes) -> Sequence[pa.Array]:
        """The same."""
        x = wholes.of(self.column)
        return [] if x is None else _whole_sums(x)

    def merge_sql(self, states: Sequence[str]) -> Sequence[str]:
        """Added."""
        return _sums_merged(states)

    def finish_sql(self, states: Sequence[str], columns: Columns) -> str:
        """Whole or real numbers, as the column has."""
        real = columns[self.column] == "real"
        return _total(states) if real else f"coalesce({states[0]}, 0)"

    def finish(self, states: pa.Table, columns: Columns) -> Values:
        """Of 64 bits where these are enough."""
        found = states.column("v")
        if columns[self.column] != "real":
            with contextlib.suppress(pa.ArrowInvalid):
                found = found.cast(pa.int64())
        return Values(found)


@dataclass(frozen=True)
class Mean(Measure):
    """The mean of what is not NULL in a column; NULL if nothing is. Never a mean of means."""

    column: str
    NEEDS: ClassVar[str] = "numbers"

    def lift_sql(self, columns: Columns) -> Sequence[str]:
        """Of the rows."""
        return [*_sums(self.column, columns), f"count({given(self.column)})"]

    def lift_wholes(self, wholes: Wholes) -> Sequence[pa.Array]:
        """The same."""
        x = wholes.of(self.column)
        return [] if x is None else [*_whole_sums(x), as_arrow(x.n)]

    def merge_sql(self, states: Sequence[str]) -> Sequence[str]:
        """Added."""
        return [*_sums_merged(states), f"sum({states[2]})::BIGINT"]

    def finish_sql(self, states: Sequence[str], columns: Columns) -> str:
        """Real numbers."""
        return f"CASE WHEN {states[2]} > 0 THEN {_total(states)} / {states[2]} END"


def _ordered(column: str, columns: Columns) -> str:
    """A column as one type for all partitions; 0 for -0, which is equal to it."""
    name = given(column)
    cast = {"real": f"{name}::DOUBLE + 0.0", "time": f"{name}::TIMESTAMP"}
    return cast.get(columns[column], name)


@dataclass(frozen=True)
class Min(Measure):
    """The least of a column, of any kind that has an order; NULL if there is nothing."""

    column: str

    def lift_sql(self, columns: Columns) -> Sequence[str]:
        """Of the rows."""
        return [f"min({_ordered(self.column, columns)})"]

    def lift_wholes(self, wholes: Wholes) -> Sequence[pa.Array]:
        """The same."""
        x = wholes.of(self.column)
        return [] if x is None else [as_arrow(x.least, x.absent)]

    def merge_sql(self, states: Sequence[str]) -> Sequence[str]:
        """The least of them."""
        return [f"min({states[0]})"]

    def finish_sql(self, states: Sequence[str], columns: Columns) -> str:
        """Of the column's kind."""
        return states[0]


@dataclass(frozen=True)
class Max(Measure):
    """The greatest of a column; see ``Min``."""

    column: str

    def lift_sql(self, columns: Columns) -> Sequence[str]:
        """Of the rows."""
        return [f"max({_ordered(self.column, columns)})"]

    def lift_wholes(self, wholes: Wholes) -> Sequence[pa.Array]:
        """The same."""
        x = wholes.of(self.column)
        return [] if x is None else [as_arrow(x.most, x.absent)]

    def merge_sql(self, states: Sequence[str]) -> Sequence[str]:
        """The greatest of them."""
        return [f"max({states[0]})"]

    def finish_sql(self, states: Sequence[str], columns: Columns) -> str:
        """Of the column's kind."""
        return states[0]


@dataclass(frozen=True)
class Variance(Measure):
    """The variance of a column: of a sample (n - 1), or of a population with ``sample=False``.

    NaN if the column has NaN, an infinity or a number beyond 1e150, whose square is none.

    The state is count, mean and sum of squared distances from the mean, merged as by Chan, Golub
    and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances" (1979).
    """

    column: str
    sample: bool = True
    FORMAT: ClassVar[int] = 3
    NEEDS: ClassVar[str] = "numbers"

    def identity(self) -> list[object]:
        """Both variances have the same states."""
        return ["Variance", self.FORMAT, self.column]

    def lift_sql(self, columns: Columns) -> Sequence[str]:
        """Of the rows."""
        name = given(self.column)
        real, n = f"{name}::DOUBLE", f"count({name})"
        fits = f"coalesce(abs({real}) < {GREATEST}, true)"  # NaN is greater than all numbers
        spread = f"(var_pop({real}) FILTER ({fits})) * {n}"
        other = f"CASE WHEN {n} > 0 THEN 'nan'::DOUBLE END"
        return [n, f"avg({real})", f"CASE WHEN bool_and({fits}) THEN {spread} ELSE {other} END"]

    def lift_wholes(self, wholes: Wholes) -> Sequence[pa.Array]:
        """The same, rounded once."""
        x = wholes.of(self.column)
        if x is None or x.squares is None:
            return []
        n = np.maximum(x.n, 1)
        return [as_arrow(x.n), *(as_arrow(one / n, x.absent) for one in (x.total, x.squares))]

    def merge_groups(self, states: Grouped) -> pa.Table:
        """The mean of all, and the distances from it."""
        columns = [states.table.column(name) for name in ("s0", "s1", "s2")]
        n, mean, spread = (as_numpy(one, 0) for one in columns)
        g, count = states.g, states.size

        def total(of: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
            return np.bincount(g, weights=of, minlength=count)

        every = np.zeros(count, np.int64)
        np.add.at(every, g, n)
        with np.errstate(invalid="ignore", over="ignore"):  # NaN and infinity are answers
            middle = total(n * mean) / np.maximum(every, 1)
            apart = mean - middle[g]
            whole = total(spread + n * apart * apart)
        nothing = every == 0
        return pa.table(
            {
                "s0": as_arrow(every),
                "s1": as_arrow(middle, nothing),
                "s2": as_arrow(whole, nothing),
            }
        )

    def finish_sql(self, states: Sequence[str], columns: Columns) -> str:
        """Real numbers; NULL for fewer rows than it takes."""
        least, less = (1, 1) if self.sample else (0, 0)
        return f"CASE WHEN {states[0]} > {least} THEN {states[2]} / ({states[0]} - {less}) END"
