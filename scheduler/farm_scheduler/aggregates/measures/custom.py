"""Measures in Python, for what the others cannot say."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from farm.errors import ConfigError
from farm_scheduler.aggregates.code import code_hash
from farm_scheduler.aggregates.measures.base import Columns, Measure, Query, Values

__all__ = ["Custom"]


@dataclass(frozen=True)
class Custom(Measure):
    """A measure of your own: derive from it as a frozen dataclass, and give it a ``version``.

    ``lift`` is called once for a group of a partition, with a table of the ``columns``; ``merge``
    must be associative and commutative, with ``zero()`` as its identity. ``verify`` checks that on
    real data. Raise ``version`` when the meaning changes in a way that the source text of the class
    does not show; a change of the text alone, comments and formatting apart, does it by itself.
    """

    version: ClassVar[int] = 1
    NEEDS: ClassVar[str] = ""

    @abstractmethod
    def zero(self) -> Any:
        """The state of no rows."""

    @abstractmethod
    def lift_rows(self, rows: pa.Table) -> Any:
        """The state of some rows."""

    @abstractmethod
    def merge_states(self, one: Any, other: Any) -> Any:
        """The state of the rows of both."""

    @abstractmethod
    def finalize(self, state: Any) -> Any:
        """The value: a number, text, list or dict, of the same kind for every state."""

    @abstractmethod
    def encode(self, state: Any) -> bytes:
        """The state as bytes; equal states give equal bytes."""

    @abstractmethod
    def decode(self, data: bytes) -> Any:
        """The state of these bytes."""

    def identity(self) -> list[Any]:
        """By the text of the class and its version."""
        return [*super().identity(), self.version, code_hash(type(self))]

    def check(self) -> None:
        """It must name the columns that it reads."""
        if not self.columns:
            raise ConfigError(f"{self}: columns must be the names of the columns that it reads")

    def lift_groups(self, rows: pa.Table) -> Sequence[bytes]:
        """States of groups; ``rows`` has a column ``g`` that counts them from 0, in order."""
        groups = rows.column("g").to_numpy()
        table = rows.select(list(self.columns))
        found, at = [], 0
        while at < len(groups):
            end = int(groups.searchsorted(groups[at], "right"))
            found.append(self.encode(self.lift_rows(table.slice(at, end - at))))
            at = end
        return found

    def merge_groups(self, states: Sequence[bytes | None], groups: Sequence[int]) -> list[bytes]:
        """One state for each group, of which those at the same place are; groups count from 0."""
        found: list[Any] = []
        for data, group in zip(states, groups, strict=True):
            while len(found) <= group:
                found.append(self.zero())
            if data is not None:
                found[group] = self.merge_states(found[group], self.decode(data))
        return [self.encode(one) for one in found]

    def finish(self, query: Query, columns: Columns) -> Values:
        """Every state finalized."""
        states = query("SELECT s0 FROM states ORDER BY g").column(0).to_pylist()
        return Values(
            pa.array([self.finalize(self.zero() if s is None else self.decode(s)) for s in states])
        )
