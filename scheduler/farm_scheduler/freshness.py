"""How fresh published aggregates are, told without loading what computes them."""

import contextlib
import sqlite3
import time
import zlib
from pathlib import Path
from typing import NamedTuple

import msgspec

__all__ = ["Freshness", "freshness"]

BUSY_SECONDS = 1.0


class Freshness(NamedTuple):
    """One aggregate: its age, and what was promised of it, in seconds."""

    name: str
    version: int
    staleness: float
    fresh_within: float | None
    failures: int

    @property
    def is_fresh(self) -> bool:
        """Whether it is as young as was promised."""
        return self.fresh_within is None or self.staleness <= self.fresh_within


class _Definition(msgspec.Struct):
    fresh_within: float | None = None


class _Manifest(msgspec.Struct):
    as_of: float
    definition: _Definition
    failures: dict[str, str]


def freshness(catalog: Path) -> list[Freshness]:
    """What is published in a catalog; nothing if it is none, or not there."""
    if not catalog.is_file():
        return []
    query = (
        "SELECT name, heads.version, checked, manifest FROM heads JOIN versions USING (name) "
        "WHERE versions.version = heads.version ORDER BY name"
    )
    try:
        with contextlib.closing(
            sqlite3.connect(f"{catalog.absolute().as_uri()}?mode=ro", BUSY_SECONDS, uri=True)
        ) as db:
            return [_of(*row) for row in db.execute(query)]
    except (sqlite3.Error, zlib.error, msgspec.MsgspecError):
        return []  # whoever opens it will say what is wrong with it


def _of(name: str, version: int, checked: float, manifest: bytes) -> Freshness:
    found = msgspec.msgpack.decode(zlib.decompress(manifest), type=_Manifest)
    age = max(time.time() - max(checked, found.as_of), 0.0)
    return Freshness(name, version, age, found.definition.fresh_within, len(found.failures))
