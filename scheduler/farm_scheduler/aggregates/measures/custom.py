"""Measures in Python, for what the others cannot say."""

import json
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from farm.errors import ConfigError
from farm_scheduler.aggregates.arrays import as_numpy
from farm_scheduler.aggregates.code import code_hash
from farm_scheduler.aggregates.measures.base import (
    Columns,
    Grouped,
    Measure,
    Values,
    given,
)

__all__ = ["Custom"]


@dataclass(frozen=True)
class Custom(Measure):
    """A measure of your own: derive from it as a frozen dataclass, and give it a ``version``.

    ``lift`` is called once for a group of a partition, with a table of the ``columns``; ``merge``
    must be associative and commutative, with ``zero()`` as its identity. ``verify`` checks that on
    real data. States are plain data; for others define ``encode`` and ``decode`` as well. Raise
    ``version`` when the meaning changes in a way that the source text of the class does not show; a
    change of the text alone, comments and formatting apart, does it by itself.
    """

    version: ClassVar[int] = 1

    @abstractmethod
    def zero(self) -> Any:
        """The state of no rows."""

    @abstractmethod
    def lift(self, rows: pa.Table) -> Any:
        """The state of some rows."""

    @abstractmethod
    def merge(self, one: Any, other: Any) -> Any:
        """The state of the rows of both."""

    @abstractmethod
    def finalize(self, state: Any) -> Any:
        """The value: a number, text, list or dict, of the same kind for every state."""

    def encode(self, state: Any) -> bytes:
        """The state as bytes, equal ones for equal states; JSON unless you say otherwise."""
        return json.dumps(state, sort_keys=True).encode()

    def decode(self, data: bytes) -> Any:
        """The state of bytes that ``encode`` made."""
        return json.loads(data)

    def identity(self) -> list[Any]:
        """By the text of the class and its version."""
        return [*super().identity(), self.version, code_hash(type(self))]

    def check(self) -> None:
        """It must name the columns that it reads, and have both ways of its bytes or neither."""
        if not self.columns:
            raise ConfigError(f"{self}: columns must be the names of the columns that it reads")
        own = [getattr(type(self), name) is not getattr(Custom, name) for name in PAIR]
        if any(own) and not all(own):
            lacks = PAIR[own.index(False)]
            raise ConfigError(f"{self} defines one of encode and decode; define {lacks} too")
        try:
            self.decode(self.encode(self.zero()))
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"{self}: its zero() cannot be made bytes of and read again ({error}); define "
                "encode and decode"
            ) from error

    def lift_groups(self, rows: Grouped, columns: Columns) -> pa.Table:
        """See ``Measure``; the rows of a group are in an order of their own."""
        taken = ", ".join(["g", *map(given, self.columns)])
        query = f"SELECT {taken} FROM rows ORDER BY ALL"  # noqa: S608
        numbers, *values = rows.query(query, rows=rows.table).columns
        table, groups = pa.Table.from_arrays(values, names=list(self.columns)), as_numpy(numbers)
        found, at = [], 0
        while at < len(groups):
            end = int(groups.searchsorted(groups[at], "right"))
            found.append(self.encode(self.lift(table.slice(at, end - at))))
            at = end
        return pa.table({"s0": pa.array(found, pa.binary())})

    def merge_groups(self, states: Grouped) -> pa.Table:
        """See ``Measure``."""
        found = [self.zero() for _ in range(states.size)]
        groups = states.g.tolist()
        for data, group in zip(states.table.column("s0").to_pylist(), groups, strict=True):
            if data is not None:
                with self._named("merge"):
                    found[group] = self.merge(found[group], self.decode(data))
        with self._named("encode"):
            encoded = [self.encode(one) for one in found]
        return pa.table({"s0": pa.array(encoded, pa.binary())})

    def finish(self, states: pa.Table, columns: Columns) -> Values:
        """Every state finalized."""
        every = states.column("s0").to_pylist()
        with self._named("finalize"):
            made = [self.finalize(self.zero() if s is None else self.decode(s)) for s in every]
            return Values(pa.array(made))

    @contextmanager
    def _named(self, what: str) -> Iterator[None]:
        """Says whose code it was that failed, where no partition does."""
        try:
            yield
        except Exception as error:  # of the user's own code, or Arrow's about what that gives
            reason = f"{type(error).__name__}: {error}"
            raise ConfigError(f"{self}: its {what} failed: {reason}") from error


PAIR = ("encode", "decode")
