"""Looking at a store's file before anything is written to it.

Promises: ``inspect`` returns what the file holds, or raises ``StoreUnreadable`` saying what is
wrong and what to do; either way every file is byte for byte what it was, and none is left behind.
"""

import sqlite3
import struct
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from farm.errors import StoreUnreadable
from farm.store.queries import load_queries

__all__ = ["APPLICATION_ID", "FORMAT", "Found", "check_header", "inspect", "unreadable"]

APPLICATION_ID = 0x6661726D
"""Bytes 68 to 71 of the file spell ``farm``."""
FORMAT = 1
"""The format that this release writes; it reads this and every older one."""

_HEADER_BYTES = 100
_SQLITE = b"SQLite format 3\x00"
_RESTORE = "restore it from a backup, or move it away to begin with an empty store"


class Found(NamedTuple):
    """What an intact store holds, beside its rows."""

    store_id: bytes
    epoch: int
    commit: int
    places: list[tuple[int, int, int]]
    """``(ref, place, size)`` of every row in the file of large rows, in order of place."""


def unreadable(path: Path, what: str, remedy: str = _RESTORE) -> StoreUnreadable:
    """The refusal to use a file, naming it, what is wrong with it and what to do."""
    return StoreUnreadable(f"the store {path} {what}; {remedy}")


def check_header(path: Path) -> None:
    """Refuse what is no store, or a newer one's, by its first hundred bytes."""
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
            size = file.seek(0, 2)
    except OSError as error:
        raise unreadable(
            path, f"cannot be read: {error.strerror}", "name another path, or give access to it"
        ) from error
    if not header:
        raise unreadable(path, "is empty, which a store never is")
    if not header.startswith(_SQLITE[: len(header)]):
        raise unreadable(path, "is no store but some other file", "name another path")
    if len(header) < _HEADER_BYTES:
        raise unreadable(path, f"is cut off after {size} bytes")
    (version,) = struct.unpack_from(">I", header, 60)
    (application,) = struct.unpack_from(">I", header, 68)
    if application != APPLICATION_ID:
        raise unreadable(path, "is another program's SQLite database", "name another path")
    if version > FORMAT:
        raise unreadable(
            path,
            f"was written by a newer release (format {version}, this one reads up to {FORMAT})",
            "upgrade compute-farm, or name another path",
        )
    page = struct.unpack_from(">H", header, 16)[0]
    (pages,) = struct.unpack_from(">I", header, 28)
    expected = pages * (65536 if page == 1 else page)
    # With a write-ahead log beside it, the missing pages may be in there.
    if size < expected and not _companion(path, "-wal").exists():
        raise unreadable(path, f"is cut off: {size} of {expected} bytes")


def _companion(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def inspect(path: Path) -> Found:
    """Check header and structure of a store, reading only; see the module's promise.

    The caller holds the store's lock.
    """
    check_header(path)
    shm = _companion(path, "-shm")
    had_shm = shm.exists()
    mode = "mode=ro" if _companion(path, "-wal").exists() else "mode=ro&immutable=1"
    try:
        connection = sqlite3.connect(
            f"file:{quote(str(path))}?{mode}", uri=True, isolation_level=None
        )
        try:
            return _inspect(path, connection)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise unreadable(path, f"is damaged ({error})") from error
    finally:
        if not had_shm:
            shm.unlink(missing_ok=True)


def _inspect(path: Path, connection: sqlite3.Connection) -> Found:
    problem = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if problem != "ok":
        raise unreadable(path, f"is damaged ({' '.join(problem.split())})")
    row = connection.execute(load_queries()["read_meta"]).fetchone()
    if row is None or len(row[0]) != 16:  # noqa: PLR2004 - the bytes of a store id
        raise unreadable(path, "is damaged (it has lost its id)")
    places = connection.execute(load_queries()["places"]).fetchall()
    return Found(row[0], row[1], max(row[2], row[3] or 0), places)
