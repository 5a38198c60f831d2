"""Partitions by any two functions: one lists them, the other reads one."""

import hashlib
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from farm.errors import ConfigError
from farm_scheduler.aggregates.code import code_hash
from farm_scheduler.aggregates.sources.base import Opened, Partition, PartitionError
from farm_scheduler.aggregates.sources.tables import opened_table

if TYPE_CHECKING:
    import builtins

__all__ = ["Partitions"]


@dataclass(frozen=True)
class Partitions:
    """Partitions that Python knows: ``list()`` gives pairs of a name and a fingerprint.

    A fingerprint is text that changes if and only if the rows do: a version, a hash, a time of
    change. ``read(name)`` gives the rows of one, as an Arrow table, a pandas or Polars frame, or
    dicts; it runs on workers. A change of its source text, or of ``version``, reads all again.
    """

    list: Callable[[], Iterable[tuple[str, str]]]
    read: Callable[[str], Any]
    time: str
    zone: str = "UTC"
    version: int = 1

    def identity(self) -> "builtins.list[Any]":
        """The code that reads."""
        return ["partitions", self.time, self.zone, self.version, code_hash(self.read)]

    def partitions(self) -> "builtins.list[Partition]":
        """What ``list`` says now."""
        found: dict[str, Partition] = {}
        for pair in self.list():
            try:
                name, mark = map(str, pair)
            except (TypeError, ValueError):
                raise ConfigError(
                    f"Partitions(list=…) gave {pair!r}; it must give pairs of a name and a "
                    "fingerprint"
                ) from None
            if name in found:
                raise ConfigError(f"Partitions(list=…) gave {name!r} twice")
            found[name] = Partition(name, mark, {})
        if not found:
            raise ConfigError("Partitions(list=…) gave none")
        return sorted(found.values())

    def is_settled(self, partition: Partition, now: float) -> bool:
        """Fingerprints are taken at their word."""
        return True

    def fingerprint(self, partition: Partition) -> str:
        """Of what ``list`` said of it."""
        return hashlib.blake2b(
            f"{partition.name}\0{partition.mark}".encode(), digest_size=16
        ).hexdigest()

    def again(self, partition: Partition) -> Partition | None:
        """As it was listed: what changes later is listed with another fingerprint."""
        return partition

    def open(
        self, partition: Partition, db: Any, *, wanted: Collection[str], careful: bool
    ) -> Opened:
        """The rows as a table of DuckDB."""
        try:
            rows = self.read(partition.name)
            return opened_table(db, _table(rows), wanted)
        except Exception as error:  # the user's own code
            raise PartitionError(
                f"{partition.name} cannot be read: {type(error).__name__}: {error}"
            ) from error


def _table(rows: Any) -> pa.Table:
    """Rows in whatever form as Arrow."""
    if isinstance(rows, pa.Table):
        return rows
    if hasattr(rows, "collect_schema") and hasattr(rows, "collect"):  # lazy ones of Polars
        rows = rows.collect()
    if hasattr(rows, "__arrow_c_stream__"):  # Polars, DuckDB, new pandas, record batches
        return pa.table(rows)
    if hasattr(rows, "iloc"):
        return pa.Table.from_pandas(rows, preserve_index=False)
    return pa.Table.from_pylist([dict(one) for one in rows])
