"""A source with fewer rows and more columns, said in SQL, than another."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from farm_scheduler.aggregates.measures import quoted
from farm_scheduler.aggregates.sources.base import (
    Opened,
    Partition,
    PartitionError,
    Source,
    check_source,
    reason_of,
)

__all__ = ["Derived"]


@dataclass(frozen=True)
class Derived:
    """The rows of ``source`` that meet ``condition``, with ``columns``: expressions by name."""

    source: Source
    condition: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)

    def check(self) -> None:
        """As the source checks itself."""
        check_source(self.source)

    @property
    def time(self) -> str:
        """See ``Source``."""
        return self.source.time

    @property
    def zone(self) -> str:
        """See ``Source``."""
        return self.source.zone

    @property
    def where(self) -> str:
        """All SQL in which columns may be named that nothing else needs."""
        own = getattr(self.source, "where", "")
        return " ".join([own, self.condition, *self.columns.values()])

    @property
    def remark(self) -> str:
        """That of the source."""
        return str(getattr(self.source, "remark", ""))

    def identity(self) -> list[Any]:
        """That of the source, and what is derived."""
        return ["derived", self.source.identity(), self.condition, sorted(self.columns.items())]

    def partitions(self) -> list[Partition]:
        """Those of the source."""
        return self.source.partitions()

    def is_settled(self, partition: Partition, now: float) -> bool:
        """As the source says."""
        return self.source.is_settled(partition, now)

    def fingerprint(self, partition: Partition) -> str:
        """That of the source."""
        return self.source.fingerprint(partition)

    def again(self, partition: Partition) -> Partition | None:
        """As the source says."""
        return self.source.again(partition)

    def open(
        self, partition: Partition, db: Any, *, wanted: Collection[str], careful: bool
    ) -> Opened:
        """A query of the source's relation."""
        opened = self.source.open(partition, db, wanted=wanted, careful=careful)
        more = "".join(f", {text} AS {quoted(name)}" for name, text in self.columns.items())
        query = f"SELECT *{more} FROM {opened.relation}"  # noqa: S608
        if self.condition:
            query += f" WHERE {self.condition}"
        try:
            found = db.execute(f"DESCRIBE {query}").fetchall()
        except Exception as error:  # whatever DuckDB says of the SQL
            opened.close()
            if opened.guessed:
                return self.open(partition, db, wanted=wanted, careful=True)
            raise PartitionError(f"{partition.name}: {reason_of(error)}") from error
        columns = {name: kind for name, kind, *_ in found}
        return opened._replace(
            relation=f"({query})",
            columns={**opened.columns, **columns},
            sniffed=opened.sniffed - self.columns.keys(),
        )
