"""What a measure is: a state for each group of rows, that merges, and a value made of it.

Rows and states are tables in DuckDB in which ``g`` is the number of the group. A measure is three
pieces of work: how rows become states (*lift*), how the states of a group become one (*merge*), and
how states become values (*finish*). Merging is associative and commutative, exactly unless the
measure says otherwise; a group without anything to measure has states that are NULL, and merging
these changes nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, NamedTuple

import pyarrow as pa

from farm.errors import ConfigError

__all__ = ["Columns", "Kind", "Measure", "Query", "Values", "given", "quoted", "spelled"]

Kind = Literal["whole", "real", "boolean", "text", "time", "other", "null"]
"""What is in a column; ``null``: nothing but NULL, which goes with every other kind."""
Columns = dict[str, Kind]
"""Which kind each column is of, by name."""
Query = Callable[[str], pa.Table]
"""Runs a query over the table ``states``, whose rows are in order of ``g``."""
NUMBERS: tuple[Kind, ...] = ("whole", "real", "boolean", "null")


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


def spelled(column: str, columns: Columns) -> str:
    """The values of a column as text, equal values alike, whatever type a partition has them in."""
    name = given(column)
    if columns[column] == "real":
        real = f"{name}::DOUBLE"
        return (
            f"CASE WHEN {real} = trunc({real}) AND abs({real}) < 1e15 "
            f"THEN {real}::BIGINT::VARCHAR ELSE {real}::VARCHAR END"
        )
    return f"{name}::TIMESTAMP::VARCHAR" if columns[column] == "time" else f"{name}::VARCHAR"


@dataclass(frozen=True)
class Measure:
    """One measure; see the module. ``FORMAT`` counts changes of what its states mean.

    States are columns ``s0``, ``s1`` … , as many as ``WIDTH`` says.
    """

    FORMAT: ClassVar[int] = 1
    WIDTH: ClassVar[int] = 1
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
        given = ", ".join(repr(getattr(self, one.name)) for one in fields(self))
        return f"{type(self).__name__}({given})"

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

    def lift_sql(self, columns: Columns) -> str | Sequence[str]:
        """Over the table ``rows``: expressions for the states of a group, which need one pass.

        Or a query for ``g`` and states. ``given`` says what columns are called in it.
        """
        raise NotImplementedError

    def merge_sql(self) -> str | Sequence[str]:
        """Over the table ``states``, where ``g`` is not unique: as for ``lift_sql``."""
        raise NotImplementedError

    def finish(self, query: Query, columns: Columns) -> Values:
        """The values of the table ``states``, in order of ``g``."""
        raise NotImplementedError
