"""Builds aggregates in this process, of small files that a test writes."""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from farm_scheduler.aggregates import Built, Catalog, Snapshot, build


class Inline:
    """Does the work of workers here, and counts it by what is done."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def map(self, fn: Callable[[Any], Any], iterable: Iterable[Any]) -> Iterator[Any]:
        for one in iterable:
            self.done.append(getattr(fn, "func", fn).__name__)
            yield fn(one)


class Desk:
    """A catalog and what is built on it."""

    def __init__(self, folder: Path) -> None:
        self.catalog = Catalog(folder / "aggregates.db")
        self.workers = Inline()

    def build(self, aggregate) -> Built:
        self.workers.done.clear()
        with self.catalog.writing():
            return build(aggregate, self.catalog, self.workers)

    def snapshot(self, name: str, version: int = 0) -> Snapshot:
        manifest = self.catalog.manifest(name, version)
        assert manifest is not None
        return Snapshot(manifest, self.catalog.node)


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """A file of JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
