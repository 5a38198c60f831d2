"""What readers open: an aggregate by name, its newest version or one of the past.

A view of this machine's catalog asks it at each read which version is served; its snapshot does
not, and is pinned: what it has is not collected while it is open.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq

from farm.errors import UnknownTask
from farm_scheduler.aggregates.catalog import Catalog
from farm_scheduler.aggregates.manifest import Manifest
from farm_scheduler.aggregates.planning import kinds_of
from farm_scheduler.aggregates.snapshot import Reading, Snapshot
from farm_scheduler.aggregates.windows import instant

__all__ = ["UnknownAggregate", "View", "export_table", "typed"]

SNAPSHOTS_MAX = 8
"""The most versions that a view has in memory at once."""


class UnknownAggregate(UnknownTask):
    """There is no aggregate of this name, or nothing of it was published yet."""


class View:
    """An aggregate in a catalog. Raises ``UnknownAggregate`` naming the nearest."""

    def __init__(self, name: str, catalog: Catalog) -> None:
        self.name = name
        self.catalog = catalog
        self._snapshots: dict[int, Snapshot] = {}
        self._newest()

    # ------------------------------------------------------------ versions

    def _newest(self) -> Snapshot:
        version, checked = self.catalog.served(self.name)
        if not version:
            raise UnknownAggregate(_unknown(self.name, self.catalog.names()))
        found = self._snapshots.get(version) or self._load(version)
        found.as_of = max(found.as_of, checked)
        return found

    def _load(self, version: int) -> Snapshot:
        manifest = self.catalog.manifest(self.name, version)
        assert manifest is not None  # noqa: S101 - or it is gone, which is an error of its own
        while len(self._snapshots) >= SNAPSHOTS_MAX:
            del self._snapshots[next(iter(self._snapshots))]
        found = self._snapshots[version] = Snapshot(manifest, self.catalog.node)
        return found

    def version(self, version: int | None = None, as_of: str | float | None = None) -> Snapshot:
        """A version, that which was served at a time, or the newest. Raises ``VersionGone``."""
        if as_of is not None:
            zone = ZoneInfo(self._newest().manifest.definition["zone"])
            at = instant(as_of, zone) / 1e6 if isinstance(as_of, str) else float(as_of)
            version = self.catalog.version_as_of(self.name, at)
        if version is None:
            return self._newest()
        return self._snapshots.get(version) or self._load(version)

    @contextmanager
    def snapshot(self, version: int | None = None) -> Iterator[Snapshot]:
        """A version that stays while this lasts: reads of it ask nothing and nobody."""
        found = self.version(version)
        pin = self.catalog.pin(self.name, found.manifest.version)
        try:
            yield found
        finally:
            pin.close()

    @property
    def manifest(self) -> Manifest:
        """What the version that is served is made of."""
        return self._newest().manifest

    def is_ready(self, where: dict[str, str]) -> bool:
        """Whether a read of the newest version has to fetch nothing."""
        version, _ = self.catalog.served(self.name)
        found = self._snapshots.get(version)
        return found is not None and found.is_ready(typed(found.manifest, where))

    # ------------------------------------------------------------ reading

    def read(
        self, /, *, as_of: str | float | None = None, version: int | None = None, **where: Any
    ) -> Reading:
        """One group: ``read(channel="#en", hour="2015-09-12T13")``; see ``Snapshot.read``.

        ``as_of`` reads what was served at a time (ISO, or seconds since 1970), ``version`` a
        version by its number.
        """
        if as_of is None and version is None:
            return self._newest().read(**where)
        return self.version(version, as_of).read(**where)

    def table(
        self, level: str | None = None, *, version: int | None = None, errors: bool = False
    ) -> pa.Table:
        """All groups of a level, the coarsest by default; see ``Snapshot.table``.

        ``.to_pandas()`` and ``polars.from_arrow()`` make it what they are for.
        """
        return self.version(version).table(level, errors=errors)

    def export(
        self, path: str | Path, level: str | None = None, *, version: int | None = None
    ) -> int:
        """Write a level as Parquet, whole or not at all; returns how many rows."""
        return export_table(self.table(level, version=version, errors=True), Path(path))


def typed(manifest: Manifest, where: dict[str, str]) -> dict[str, Any]:
    """What was asked for as text, with values of the kinds of their columns."""
    kinds = kinds_of(manifest.partitions)
    found: dict[str, Any] = {}
    for name, text in where.items():
        kind = kinds.get(name) if name in manifest.definition["by"] else None
        try:
            found[name] = READERS.get(kind or "", str)(text)
        except (ValueError, OverflowError):
            found[name] = text  # there is no such group
    return found


def _moment(text: str) -> datetime:
    """A time as keys have it: in UTC, without saying so."""
    found = datetime.fromisoformat(text)
    return found.astimezone(UTC).replace(tzinfo=None) if found.tzinfo else found


def _truth(text: str) -> bool:
    """A truth as JSON or Python writes it."""
    if text.lower() not in {"true", "false"}:
        raise ValueError(text)
    return text.lower() == "true"


READERS: dict[str, Callable[[str], Any]] = {
    "whole": int, "real": float, "time": _moment, "boolean": _truth,
}  # fmt: skip
"""By kinds of columns, what makes a value of a text."""


def export_table(table: pa.Table, path: Path) -> int:
    """Write a table as Parquet, under another name first."""
    draft = path.with_name(f".{path.name}.part")
    try:
        pq.write_table(table, draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return int(table.num_rows)


def _unknown(name: str, names: list[str]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 - for the message only

    near = get_close_matches(name, names, 1)
    if near:
        return f"there is no aggregate {name!r}; did you mean {near[0]!r}?"
    has = f"there are {', '.join(names)}" if names else "nothing was published yet"
    return f"there is no aggregate {name!r}: {has}; `farm aggregates run {name}` publishes it"
