"""Published aggregates for those who ask over HTTP: text in, plain data out.

One catalog, any thread. What is in memory is answered in microseconds; ``is_ready`` tells whether
that is so.
"""

import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from farm_scheduler.aggregates.catalog import Catalog
from farm_scheduler.aggregates.snapshot import Snapshot
from farm_scheduler.aggregates.view import UnknownAggregate, View, typed
from farm_scheduler.cron import next_fires

__all__ = ["Answer", "Library"]

DAY_SECONDS = 86_400


class Answer(NamedTuple):
    """A reading as plain data, its version, and until when it is as good as a new one.

    ``until`` is in seconds since 1970, 0 where no schedule says.
    """

    data: dict[str, Any]
    version: int
    until: float


class Library:
    """See the module. Methods raise ``UnknownAggregate``, ``VersionGone`` and ``NoSuchRead``."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._lock = threading.Lock()
        self._catalog: Catalog | None = None
        self._views: dict[str, View] = {}  # bounded by the aggregates that there are
        self._ages: dict[str, tuple[float, float]] = {}

    def _view(self, name: str) -> View:
        found = self._views.get(name)
        if found is None:
            found = self._views[name] = View(name, self._opened())
        return found

    def _opened(self) -> Catalog:
        if self._catalog is None:
            if not self._path.exists():
                raise UnknownAggregate("no aggregate was published here yet")
            self._catalog = Catalog(self._path, must_exist=True)
        return self._catalog

    def names(self) -> list[dict[str, Any]]:
        """What is published, and how old it is."""
        with self._lock:
            if self._catalog is None and not self._path.exists():
                return []
            return [self._described(name) for name in self._opened().names()]

    def describe(self, name: str) -> dict[str, Any]:
        """One of them: what it is kept by, and its versions."""
        with self._lock:
            found = self._described(name)
            view = self._view(name)
            found["versions"] = [
                {"version": one.version, "published": _iso(one.published)}
                for one in view.catalog.versions(name)
            ]
            return found

    def _described(self, name: str) -> dict[str, Any]:
        found = self._view(name).version()
        own = found.manifest
        age = time.time() - found.as_of
        promised = own.definition["fresh_within"]
        return {
            "name": name,
            "version": own.version,
            "as_of": _iso(found.as_of),
            "watermark": None if own.watermark is None else _iso(own.watermark / 1e6),
            "staleness": age,
            "fresh": promised is None or age <= promised,
            "complete": own.complete,
            "by": own.definition["by"],
            "levels": own.definition["levels"],
            "measures": own.definition["measures"],
            "failures": own.failures,
        }

    def read(
        self, name: str, where: dict[str, str], version: int | None, as_of: str | None
    ) -> Answer:
        """One group; see ``View.read``. Values of ``where`` are text."""
        with self._lock:
            view = self._view(name)
            found = view.version(version, as_of)
            reading = found.read(**typed(found.manifest, where))
        data = {
            "value": reading.value,
            "as_of": _iso(reading.as_of),
            "watermark": None if reading.watermark is None else _iso(reading.watermark),
            "staleness": reading.staleness,
            "version": reading.version,
            "complete": reading.complete,
            "exact": reading.exact,
            "error": reading.error,
        }
        pinned = version is not None or as_of is not None
        until = time.time() + DAY_SECONDS if pinned else self._until(name, found)
        return Answer(data, reading.version, until)

    def is_ready(self, name: str, where: dict[str, str]) -> bool:
        """Whether a read of the newest version would find all in memory."""
        if self._lock.locked():
            return False
        with self._lock:
            view = self._views.get(name)
            return view is not None and view.is_ready(where)

    def stamp(self, name: str) -> tuple[int, float] | None:
        """What a read of the newest version depends on; None if that cannot be told at once."""
        if self._lock.locked():
            return None
        with self._lock:
            view = self._views.get(name)
            return None if view is None else view.catalog.served(name)

    def manifest(self, name: str, version: int | None) -> tuple[int, float, bytes]:
        """A version's number, when it was last found up to date, and its manifest as it is kept."""
        with self._lock:
            found = self._view(name).version(version)
            number = found.manifest.version
            return number, found.as_of, self._view(name).catalog.manifest_bytes(name, number)

    def node(self, key: str) -> bytes:
        """A node by its key."""
        with self._lock:
            return self._opened().node(key)

    def _until(self, name: str, found: Snapshot) -> float:
        """When its schedule has it looked at again; 0 if it has none."""
        schedule = found.manifest.definition["schedule"]
        if not schedule:
            return 0.0
        now = time.time()
        since, until = self._ages.get(name, (0.0, 0.0))
        if not since <= now < until:
            after = datetime.fromtimestamp(now, UTC)
            zone = found.manifest.definition["zone"]
            fires = next_fires(schedule, zone, after, 1, name=name)
            until = fires[0].timestamp() if fires else now
            self._ages[name] = (now, until)
        return until


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
