"""Where published answers are kept: a SQLite file of nodes, versions and heads.

Nodes are immutable, known by the hash of what they are made from. A version is a manifest that
names its nodes; publishing one is a single transaction that moves the head, if it is where the
publisher believes. One process writes at a time, the one that holds the lock beside the file; any
number read. A reader pins a version by a shared lock on a file of its own, which the kernel lets go
when the reader ends, so that collecting garbage spares what somebody reads.
"""

import contextlib
import fcntl
import os
import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from farm.errors import FarmError, StoreError, StoreUnreadable
from farm_scheduler.aggregates.manifest import Manifest, decode_manifest, encode_manifest

__all__ = ["Catalog", "Collected", "Pin", "Published", "Run", "VersionGone"]

VERSION = 1
BUSY_SECONDS = 10.0
YOUNG_SECONDS = 3600.0
"""What is younger than this is never collected: a run may be about to need it."""
ASKED_MAX = 500
"""The most keys in one query."""
TABLES = """
CREATE TABLE IF NOT EXISTS nodes (
    key TEXT PRIMARY KEY, made REAL NOT NULL, data BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS versions (
    name TEXT NOT NULL, version INTEGER NOT NULL, published REAL NOT NULL, manifest BLOB NOT NULL,
    PRIMARY KEY (name, version)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS heads (
    name TEXT PRIMARY KEY, version INTEGER NOT NULL, checked REAL NOT NULL, highest INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS runs (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, started REAL NOT NULL, ended REAL,
    state TEXT NOT NULL, version INTEGER, detail TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS runs_by_name ON runs (name, started);
"""


class VersionGone(FarmError):
    """A version was collected, or never there; says which there are."""


class Published(NamedTuple):
    """A version as lists show it."""

    version: int
    published: float
    is_head: bool


class Run(NamedTuple):
    """A run; ``detail`` is what it did in words, or what went wrong."""

    id: str
    name: str
    started: float
    ended: float | None
    state: str
    version: int | None
    detail: str


class Collected(NamedTuple):
    """What collecting garbage has removed."""

    versions: int
    nodes: int
    bytes: int


class Pin:
    """Keeps a version from being collected until it is closed, or its process ends."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_SH)

    def close(self) -> None:
        """Let it go."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class Catalog:
    """The file. ``StoreError`` where it cannot be used; one thread at a time."""

    def __init__(self, path: Path, *, must_exist: bool = False) -> None:
        self.path = path
        if must_exist and not path.exists():
            raise StoreUnreadable(
                f"there is no {path}: no aggregate was published there; run one with `farm "
                "aggregates run`, or name another file with --catalog"
            )
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._db = sqlite3.connect(
                path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version > VERSION:
                raise StoreUnreadable(f"{path} was written by a newer version of the farm")
            if not must_exist or version == 0:
                self._db.executescript(TABLES)
                self._db.execute(f"PRAGMA user_version={VERSION}")
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"{path}: {error}") from error

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Be the only one that writes; raises ``StoreError`` if somebody else does."""
        lock = self.path.with_name(self.path.name + ".lock")
        file = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise StoreError(
                    f"{self.path} is being written by another process, as a rule the scheduler; let"
                    " that one run it, or stop it first"
                ) from None
            yield
        finally:
            os.close(file)

    # ------------------------------------------------------------ reading

    def names(self) -> list[str]:
        """Every aggregate that was ever published."""
        return [name for (name,) in self._db.execute("SELECT name FROM heads ORDER BY name")]

    def head(self, name: str) -> int:
        """The version that is served; 0 if there is none."""
        found = self._db.execute("SELECT version FROM heads WHERE name = ?", (name,)).fetchone()
        return int(found[0]) if found else 0

    def served(self, name: str) -> tuple[int, float]:
        """The version that is served, 0 if none is, and when it last had all that there was."""
        query = "SELECT version, checked FROM heads WHERE name = ?"
        return self._db.execute(query, (name,)).fetchone() or (0, 0.0)

    def manifest(self, name: str, version: int = 0) -> Manifest | None:
        """A version, or the one that is served; None if there is none yet."""
        version = version or self.head(name)
        if not version:
            return None
        return decode_manifest(zlib.decompress(self.manifest_bytes(name, version)))

    def manifest_bytes(self, name: str, version: int) -> bytes:
        """A version's manifest as it is kept; raises ``VersionGone``."""
        query = "SELECT manifest FROM versions WHERE name = ? AND version = ?"
        found = self._db.execute(query, (name, version)).fetchone()
        if found is None:
            kept = ", ".join(str(one.version) for one in self.versions(name)) or "none"
            raise VersionGone(f"{name} has no version {version} any more; there are: {kept}")
        return bytes(found[0])

    def versions(self, name: str) -> list[Published]:
        """All versions, the newest first."""
        head = self.head(name)
        query = "SELECT version, published FROM versions WHERE name = ? ORDER BY version DESC"
        return [Published(one, at, one == head) for one, at in self._db.execute(query, (name,))]

    def version_as_of(self, name: str, at: float) -> int:
        """The newest version published by then; raises ``VersionGone`` if there is none."""
        query = (
            "SELECT version FROM versions WHERE name = ? AND published <= ? "
            "ORDER BY published DESC, version DESC LIMIT 1"
        )
        found = self._db.execute(query, (name, at)).fetchone()
        if found is None:
            oldest = min((one.published for one in self.versions(name)), default=None)
            since = "there is none" if oldest is None else f"the oldest is of {_utc(oldest)}"
            raise VersionGone(f"{name} has no version from {_utc(at)} or before: {since}")
        return int(found[0])

    def node(self, key: str) -> bytes:
        """A node; raises ``VersionGone`` if it was collected."""
        found = self._db.execute("SELECT data FROM nodes WHERE key = ?", (key,)).fetchone()
        if found is None:
            raise VersionGone(f"the node {key} was collected; open the newest version")
        return bytes(found[0])

    def nodes(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Those of the nodes that are there."""
        return {
            key: bytes(data)
            for some in _some(keys)
            for key, data in self._db.execute(
                f"SELECT key, data FROM nodes WHERE key IN ({_marks(some)})",  # noqa: S608
                some,
            )
        }

    def present(self, keys: Iterable[str]) -> set[str]:
        """Which of the nodes are there."""
        return {
            key
            for some in _some(keys)
            for (key,) in self._db.execute(
                f"SELECT key FROM nodes WHERE key IN ({_marks(some)})",  # noqa: S608
                some,
            )
        }

    def pin(self, name: str, version: int) -> Pin:
        """Keep a version while it is read; raises ``VersionGone`` if it is too late."""
        pin = Pin(self._pin_path(name, version))
        query = "SELECT 1 FROM versions WHERE name = ? AND version = ?"
        if self._db.execute(query, (name, version)).fetchone() is None:
            pin.close()
            self.manifest_bytes(name, version)
        return pin

    def runs(self, name: str, limit: int = 20) -> list[Run]:
        """Runs, the newest first."""
        query = (
            "SELECT id, name, started, ended, state, version, detail FROM runs WHERE name = ? "
            "ORDER BY started DESC LIMIT ?"
        )
        return [Run(*row) for row in self._db.execute(query, (name, limit))]

    # ------------------------------------------------------------ writing

    def put(self, nodes: Mapping[str, bytes]) -> None:
        """Keep nodes; those that are there already become young again."""
        now = time.time()
        with self._transaction():
            self._db.executemany(
                "INSERT INTO nodes VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE "
                "SET made = excluded.made",
                ((key, now, data) for key, data in nodes.items()),
            )

    def touch(self, keys: Iterable[str]) -> None:
        """Make nodes young: a run is about to publish them."""
        now = time.time()
        with self._transaction():
            for some in _some(keys):
                self._db.execute(
                    f"UPDATE nodes SET made = ? WHERE made < ? AND key IN ({_marks(some)})",  # noqa: S608
                    (now, now - YOUNG_SECONDS / 4, *some),
                )

    def publish(self, manifest: Manifest, expected: int) -> int:
        """Make a manifest the version that is served, if that is ``expected`` now.

        Returns its number. Raises ``StoreError`` if another was published meanwhile.
        """
        with self._transaction():
            query = "SELECT version, highest FROM heads WHERE name = ?"
            head, highest = self._db.execute(query, (manifest.name,)).fetchone() or (0, 0)
            if head != expected:
                raise StoreError(
                    f"{manifest.name}: version {head} was published while this run was based on "
                    f"{expected}; run it again"
                )
            manifest.version = highest + 1
            manifest.published = time.time()
            data = zlib.compress(encode_manifest(manifest), 1)
            self._db.execute(
                "INSERT INTO versions VALUES (?, ?, ?, ?)",
                (manifest.name, manifest.version, manifest.published, data),
            )
            self._db.execute(
                "INSERT OR REPLACE INTO heads VALUES (?, ?, ?, ?)",
                (manifest.name, manifest.version, manifest.as_of, manifest.version),
            )
        return manifest.version

    def roll_back(self, name: str, version: int) -> None:
        """Serve an older version; the next run publishes a new one on top of all."""
        self.manifest_bytes(name, version)
        with self._transaction():
            self._db.execute("UPDATE heads SET version = ? WHERE name = ?", (version, name))

    def put_checked(self, name: str, version: int, at: float) -> None:
        """Note that a version, if it is still served, has all that there was at this time."""
        self._db.execute(
            "UPDATE heads SET checked = max(checked, ?) WHERE name = ? AND version = ?",
            (at, name, version),
        )

    def put_run(self, run: Run) -> None:
        """Keep what is known of a run."""
        self._db.execute("INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?, ?, ?)", run)

    def collect(self, keep: Mapping[str, float], versions_min: int = 2) -> Collected:
        """Drop versions older than ``keep`` seconds, by name, and the nodes that none needs.

        Spared are the head, the ``versions_min`` newest, what is pinned, and what is young: runs
        under way need it.
        """
        now = time.time()
        with contextlib.ExitStack() as held:
            gone = [
                (name, one.version)
                for name in self.names()
                for at, one in enumerate(self.versions(name))
                if at >= versions_min
                and not one.is_head
                and now - one.published > max(keep.get(name, 0.0), YOUNG_SECONDS)
                and self._claim(held, name, one.version)
            ]
            with self._transaction():
                self._db.executemany("DELETE FROM versions WHERE name = ? AND version = ?", gone)
            for name, version in gone:
                self._pin_path(name, version).unlink(missing_ok=True)
        nodes, size = self._collect_nodes(now)
        return Collected(len(gone), nodes, size)

    def _collect_nodes(self, now: float) -> tuple[int, int]:
        """What the next run will need is kept as well: else it would read everything again."""
        needed: set[str] = set()
        for name in self.names():
            for one in self.versions(name):
                manifest = self.manifest(name, one.version)
                if manifest is not None:
                    needed |= manifest.node_keys() | (
                        manifest.inner_keys() if one.is_head else set()
                    )
        query = "SELECT key, length(data) FROM nodes WHERE made < ?"
        old = [
            (k, n) for k, n in self._db.execute(query, (now - YOUNG_SECONDS,)) if k not in needed
        ]
        with self._transaction():
            self._db.executemany(
                "DELETE FROM nodes WHERE key = ? AND made < ?",
                ((key, now - YOUNG_SECONDS) for key, _ in old),
            )
        return len(old), sum(size for _, size in old)

    def _claim(self, held: contextlib.ExitStack, name: str, version: int) -> bool:
        """Whether nobody reads a version; nobody can begin to while it is held."""
        path = self._pin_path(name, version)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        held.callback(os.close, file)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def _pin_path(self, name: str, version: int) -> Path:
        return self.path.with_name(self.path.name + ".pins") / f"{name.replace('/', '%')}.{version}"

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # SQLite itself ends one for which there is no room
                self._db.execute("ROLLBACK")
            raise


def _some(keys: Iterable[str]) -> Iterator[list[str]]:
    every = list(dict.fromkeys(keys))
    for at in range(0, len(every), ASKED_MAX):
        yield every[at : at + ASKED_MAX]


def _marks(some: list[Any]) -> str:
    return ", ".join("?" * len(some))


def _utc(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(at))
