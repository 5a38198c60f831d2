"""An aggregate from anywhere: versions come from a gateway, are kept here, and are read here."""

import json
import os
import re
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from http.client import HTTPException
from pathlib import Path
from typing import Any

from farm.errors import ConfigError
from farm_scheduler.aggregates.catalog import Catalog, Pin, Published, VersionGone
from farm_scheduler.aggregates.code import hash_of
from farm_scheduler.aggregates.manifest import Manifest, decode_manifest
from farm_scheduler.aggregates.place import catalog_path
from farm_scheduler.aggregates.view import UnknownAggregate, View

__all__ = ["RemoteCatalog", "open_aggregate"]

GATEWAY = "FARM_GATEWAY"
TOKEN = "FARM_HTTP_TOKEN"  # noqa: S105 - the name of a variable
LOOK_SECONDS = 1.0
"""How often the gateway is asked whether there is a newer version."""
TIMEOUT_SECONDS = 30.0
KNOWN_SECONDS = 2.0
"""How long it may take to say what is newest, if there is something here that can be read, and to
say anything after it did not answer just now."""
AWAY_SECONDS = 10.0
"""How soon it is asked again when it did not answer."""
CACHE_BYTES_MAX = 1 << 30
"""Past this, what was not read for the longest time is removed from the folder."""


def open_aggregate(
    name: str, *, catalog: str | Path | None = None, gateway: str | None = None
) -> View:
    """Read an aggregate without its definition: ``open("edits").read(channel=…, hour=…)``.

    From the catalog of this machine (``catalog=``, ``FARM_CATALOG``, or the one of its scheduler)
    or, if there is none of that name, from a gateway (``gateway=``, or ``FARM_GATEWAY``), as
    ``http://farm-host:8080``; a token is taken from ``FARM_HTTP_TOKEN``. What comes from a gateway
    is kept in a folder, and read from memory. Raises ``UnknownAggregate`` if nobody has it.
    """
    path = Path(catalog) if catalog is not None else catalog_path()
    url = gateway or os.environ.get(GATEWAY, "")
    if gateway is None and path.exists():
        found = Catalog(path, must_exist=True)
        if not url or name in found.names():
            return View(name, found)
        found.close()
    if not url:
        raise UnknownAggregate(
            f"there is no {path} on this machine; name a gateway that has {name!r}, as in "
            f"open({name!r}, gateway='http://farm-host:8080'), or set {GATEWAY}"
        )
    return View(name, RemoteCatalog(url))


class RemoteCatalog(Catalog):
    """The part of a catalog that readers need, through a gateway; one thread at a time.

    Raises ``ConnectionError`` while the gateway cannot be reached and the answer is not here.
    """

    def __init__(self, url: str, cache: Path | None = None, token: str | None = None) -> None:
        if not url.startswith(("http://", "https://")):
            raise ConfigError(f"{url!r} is no gateway; write http://HOST:PORT")
        self._url = url.rstrip("/")
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        self._cache = cache or Path(base) / "farm" / "aggregates"
        self._token = os.environ.get(TOKEN, "") if token is None else token
        # Nodes are what they are called; versions are those of one farm.
        self._own = self._cache / "gateways" / hash_of(self._url)[:16]
        self._heads: dict[str, tuple[float, int, float]] = {}  # with when to ask again
        self._published: dict[str, dict[int, str]] = {}
        self._told: dict[str, dict[str, Any]] = {}
        self._away_until = 0.0
        self._lock = threading.Lock()
        self.path = self._cache

    def close(self) -> None:
        """Nothing is open."""

    # ------------------------------------------------------------ versions

    def served(self, name: str) -> tuple[int, float]:
        """The newest version, as the gateway said a moment ago."""
        due, version, checked = self._heads.get(name, (0.0, 0, 0.0))
        if time.monotonic() >= due or not version:
            found, pause = self._known(name)
            version, checked = found["version"], _seconds(found["as_of"])
            self._published[name] = {one["version"]: one["published"] for one in found["versions"]}
            self._heads[name] = (time.monotonic() + pause, version, checked)
        return version, checked

    def _known(self, name: str) -> tuple[dict[str, Any], float]:
        """What the gateway says, or said last, and for how long it is not asked again.

        What it said last is as old as it says it is.
        """
        known = self._told.get(name) or self._remembered(name)
        try:
            found = self._asked(name, TIMEOUT_SECONDS if known is None else KNOWN_SECONDS)
        except ConnectionError:
            if known is None:
                raise
            self._told[name] = known
            self._away_until = time.monotonic() + AWAY_SECONDS
            return known, AWAY_SECONDS
        return found, LOOK_SECONDS

    def _asked(self, name: str, seconds: float = TIMEOUT_SECONDS) -> dict[str, Any]:
        """What the gateway says of the versions that there are; kept for when it is away."""
        found = json.loads(self._get(f"/v1/aggregates/{_quoted(name)}", seconds))
        kept = {key: found[key] for key in ("version", "as_of", "versions")}
        if self._told.get(name) != kept:
            self._write(self._own / f"{_quoted(name)}.head", json.dumps(kept).encode())
            self._told[name] = kept
        return kept

    def _remembered(self, name: str) -> dict[str, Any] | None:
        """What it said last, to whatever process."""
        try:
            found: dict[str, Any] = json.loads((self._own / f"{_quoted(name)}.head").read_bytes())
        except (OSError, ValueError):
            return None
        return found

    def head(self, name: str) -> int:
        """See ``Catalog``."""
        return self.served(name)[0]

    def names(self) -> list[str]:
        """See ``Catalog``."""
        return [one["name"] for one in self._json("/v1/aggregates")]

    def versions(self, name: str) -> list[Published]:
        """See ``Catalog``."""
        self.served(name)
        found = self._told[name]
        return [
            Published(
                one["version"], _seconds(one["published"]), one["version"] == found["version"]
            )
            for one in found["versions"]
        ]

    def version_as_of(self, name: str, at: float) -> int:
        """See ``Catalog``."""
        found = [one.version for one in self.versions(name) if one.published <= at]
        if not found:
            raise VersionGone(f"{name} has no version that old")
        return max(found)

    def manifest(self, name: str, version: int = 0) -> Manifest | None:
        """See ``Catalog``."""
        version = version or self.head(name)
        return decode_manifest(zlib.decompress(self.manifest_bytes(name, version)))

    def manifest_bytes(self, name: str, version: int) -> bytes:
        """See ``Catalog``. A version is known by when it was published as well as by its number.

        For a catalog that was begun anew counts from 1 again.
        """
        if version not in self._published.get(name, {}):
            self.served(name)
        published = re.sub(r"\D", "", self._published.get(name, {}).get(version, ""))
        place = self._own / f"{_quoted(name)}.{version}.{published}.manifest"
        return self._kept(place, f"/v1/aggregates/{_quoted(name)}/manifest?version={version}")

    def node(self, key: str) -> bytes:
        """See ``Catalog``."""
        place = self._cache / key[:2] / _quoted(key)
        return self._kept(place, f"/v1/aggregates/-/nodes/{_quoted(key)}")

    def pin(self, name: str, version: int) -> Pin:
        """What has been fetched stays here; what was not may be collected."""
        self.manifest_bytes(name, version)
        return Pin(self._own / "pins" / f"{_quoted(name)}.{version}")

    # ------------------------------------------------------------ asking

    def _kept(self, place: Path, path: str) -> bytes:
        """A file of the cache, fetched if it is not there."""
        try:
            data = place.read_bytes()
        except FileNotFoundError:
            data = self._get(path)
            self._write(place, data)
            self._shrink()
        else:
            os.utime(place)
        return data

    def _write(self, place: Path, data: bytes) -> None:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = place.with_name(f".{place.name}.{os.getpid()}.{threading.get_ident()}")
        draft.write_bytes(data)
        draft.replace(place)

    def _shrink(self) -> None:
        """Keep the folder within its bound."""
        with self._lock:
            every = (*self._cache.glob("??/*"), *self._cache.glob("gateways/*/*.manifest"))
            files = [(one.stat(), one) for one in every if one.is_file()]
            size = sum(stat.st_size for stat, _ in files)
            for stat, one in sorted(files, key=lambda found: found[0].st_mtime):
                if size <= CACHE_BYTES_MAX:
                    break
                one.unlink(missing_ok=True)
                size -= stat.st_size

    def _json(self, path: str) -> Any:
        return json.loads(self._get(path))

    def _get(self, path: str, seconds: float = TIMEOUT_SECONDS) -> bytes:
        if time.monotonic() < self._away_until:
            seconds = KNOWN_SECONDS
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        request = urllib.request.Request(self._url + path, headers=headers)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=seconds) as answer:  # noqa: S310
                data: bytes = answer.read()
                return data
        except urllib.error.HTTPError as error:
            detail = _detail(error)
            if error.code == 404:  # noqa: PLR2004
                raise UnknownAggregate(f"{self._url}: {detail}") from None
            if error.code == 410:  # noqa: PLR2004
                raise VersionGone(f"{self._url}: {detail}") from None
            hint = f"; open() takes it from {TOKEN}" if error.code == 401 else ""  # noqa: PLR2004
            raise ConnectionError(f"{self._url}{path}: {error.code}: {detail}{hint}") from None
        except (OSError, HTTPException) as error:  # the latter of half an answer
            raise ConnectionError(f"{self._url} does not answer: {error}") from None


def _seconds(text: str) -> float:
    """An instant that the gateway names."""
    from datetime import datetime  # noqa: PLC0415 - seldom

    return datetime.fromisoformat(text).timestamp()


def _detail(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read()).get("detail", error.reason))
    except ValueError:
        return str(error.reason)


def _quoted(text: str) -> str:
    return urllib.parse.quote(text, safe="")
