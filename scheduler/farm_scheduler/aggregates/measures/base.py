"""What a measure is: a state for each group of rows, that merges, and a value made of it.

Rows and states are tables in which ``g`` is the number of the group. A measure is three pieces of
work: how rows become states (*lift*), how the states of a group become one (*merge*), and how
states become values (*finish*). Merging is associative and commutative, exactly unless the measure
says otherwise; a group without anything to measure has states that are NULL, and merging these
changes nothing.

A measure whose states are numbers says lifting and merging as SQL expressions, which all such
measures share a query for; of whole numbers it takes the sums that NumPy makes for all of them.
One that needs more overrides ``lift_groups`` and ``merge_groups``.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from farm.errors import ConfigError
from farm_scheduler.aggregates.arrays import as_arrow, as_numpy
from farm_scheduler.aggregates.kinds import Columns, Kind
from farm_scheduler.aggregates.measures.wholes import Wholes

__all__ = [
    "Columns",
    "Grouped",
    "Kind",
    "Measure",
    "Query",
    "Values",
    "flat",
    "given",
    "listed",
    "quoted",
    "spelled",
]

NUMBERS: tuple[Kind, ...] = ("whole", "real", "boolean", "null")


class Query(Protocol):
    """Runs SQL over tables that are given by name."""

    def __call__(self, text: str, /, **tables: pa.Table) -> pa.Table:
        """What comes out of it."""


class Grouped(NamedTuple):
    """Rows, or states, with ``g``, the number of the group of each, and how many groups there are.

    Columns of rows are called as ``given`` says; rows are in no order.
    """

    table: pa.Table
    size: int
    query: Query

    @property
    def g(self) -> "np.ndarray[Any, Any]":
        """The number of the group of each row."""
        return as_numpy(self.table.column("g"))


class Values(NamedTuple):
    """A column of values and, unless all are exact, one of errors (see the measure's own words)."""

    value: pa.Array
    error: pa.Array | None = None


def quoted(name: str) -> str:
    """A column's name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'


def given(column: str) -> str:
    """A column of the source as it is called in ``rows``, where no name of ours can meet it."""
    return quoted(f"c:{column}")


def _spelled(column: str, columns: Columns) -> str:
    """SQL for the values of a column as text, equal ones alike, whatever type a partition has."""
    name = given(column)
    if columns[column] == "real":
        real = f"{name}::DOUBLE"
        return (
            f"CASE WHEN {real} = trunc({real}) AND abs({real}) < 1e15 "
            f"THEN {real}::BIGINT::VARCHAR ELSE {real}::VARCHAR END"
        )
    return f"{name}::TIMESTAMP::VARCHAR" if columns[column] == "time" else f"{name}::VARCHAR"


def spelled(
    rows: "Grouped", column: str, columns: Columns
) -> tuple["np.ndarray[Any, Any]", pa.Array]:
    """What is not NULL in a column as text, and the group of each; equal values are equal texts."""
    values, g = rows.table.column(f"c:{column}").combine_chunks(), rows.g
    if values.null_count:
        there = values.is_valid()
        values, g = values.filter(there), g[as_numpy(there)]
    if columns[column] == "text":
        return g, values
    with contextlib.suppress(
        pa.ArrowNotImplementedError
    ):  # as for lists, which are made one by one
        values = values.dictionary_encode()
    encoded = pa.types.is_dictionary(values.type)
    different = values.dictionary if encoded else values
    text = f"SELECT {_spelled(column, columns)} AS v FROM it"  # noqa: S608
    made = rows.query(text, it=pa.table({f"c:{column}": different}))
    different = made.column(0).combine_chunks()
    return g, different.take(values.indices) if encoded else different


@dataclass(frozen=True)
class Measure:
    """One measure; see the module. ``FORMAT`` counts changes of what its states mean.

    States are columns ``s0``, ``s1`` … .
    """

    FORMAT: ClassVar[int] = 1
    NEEDS: ClassVar[str] = ""
    """``numbers`` where the column must have them."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the source that it reads."""
        column = getattr(self, "column", None)
        return () if column is None else (column,)

    def identity(self) -> list[Any]:
        """What sets its states apart from those of other measures, as plain data."""
        return [
            type(self).__name__,
            self.FORMAT,
            *(getattr(self, one.name) for one in fields(self)),
        ]

    def __str__(self) -> str:
        """As it is written: what is left out is as it would be anyway."""
        said = [(one, getattr(self, one.name)) for one in fields(self)]
        told = [
            repr(value) if one.default is MISSING else f"{one.name}={value!r}"
            for one, value in said
            if one.default is MISSING or value != one.default
        ]
        return f"{type(self).__name__}({', '.join(told)})"

    def check(self) -> None:
        """Raises ``ConfigError`` for parameters that make no sense."""
        for column in self.columns:
            if not isinstance(column, str) or not column:
                raise ConfigError(f"{self} needs the name of a column")

    def fit(self, columns: Columns) -> str:
        """What is wrong with the columns, or nothing."""
        for column in self.columns:
            if self.NEEDS == "numbers" and columns[column] not in NUMBERS:
                return f"{self} needs numbers, and column {column!r} has {columns[column]}"
        return ""

    def lift_sql(self, columns: Columns) -> Sequence[str]:
        """Expressions for the states of a group of rows; none if ``lift_groups`` does it."""
        return ()

    def lift_wholes(self, wholes: Wholes) -> Sequence[pa.Array]:
        """The states of all groups that ``lift_sql`` would give; none if it is to do it."""
        return ()

    def merge_sql(self, states: Sequence[str]) -> Sequence[str]:
        """Expressions for the one state of a group of ``states``, by the names of their columns."""
        return ()

    def lift_groups(self, rows: Grouped, columns: Columns) -> pa.Table:
        """The states of all groups, in order, of their rows."""
        raise NotImplementedError

    def merge_groups(self, states: Grouped) -> pa.Table:
        """The states of all groups, in order, of states of which each may have several."""
        raise NotImplementedError

    def finish_sql(self, states: Sequence[str], columns: Columns) -> str:
        """An expression for the value of a state; none if ``finish`` does it."""
        return ""

    def finish(self, states: pa.Table, columns: Columns) -> Values:
        """The values of states: of the columns ``s0`` … , or of what ``finish_sql`` made of them.

        Those stand in a column ``v``.
        """
        return Values(states.column("v"))


def listed(
    g: "np.ndarray[Any, Any]", values: Sequence[pa.Array | pa.ChunkedArray], count: int
) -> list[pa.Array]:
    """Values in order of their groups as a list for each group, NULL for one without any."""
    offsets = np.searchsorted(g, np.arange(count + 1)).astype(np.int32)
    empty = as_arrow(offsets[1:] == offsets[:-1])
    found = []
    for one in values:
        whole = one.combine_chunks() if isinstance(one, pa.ChunkedArray) else one
        found.append(pa.ListArray.from_arrays(as_arrow(offsets), whole, mask=empty))
    return found


def flat(states: Grouped, names: Sequence[str]) -> tuple["np.ndarray[Any, Any]", list[pa.Array]]:
    """What is in lists that are of one length in a row: the group of each value, and values."""
    lists = [states.table.column(name).combine_chunks() for name in names]
    sizes = as_numpy(pc.list_value_length(lists[0]), 0)
    return np.repeat(states.g, sizes), [one.flatten() for one in lists]
