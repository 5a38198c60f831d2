"""The files around a SQLite store: making one, keeping space back, and what errors mean.

Promises: a store exists whole or not at all, whenever its making is interrupted; the reserve is
space that a full disk cannot take; every error of SQLite or of the system becomes the
``StoreError`` that says whether trying again can help.
"""

import contextlib
import errno
import os
import sqlite3
import threading
from pathlib import Path
from types import TracebackType

from farm.errors import StoreError
from farm.store.base import StoreFailed, StoreFull, StoreStalled
from farm.store.checks import APPLICATION_ID, FORMAT, unreadable
from farm.store.queries import load_queries, load_schema

__all__ = [
    "PAGE_BYTES",
    "Reserve",
    "Turn",
    "actual",
    "beside",
    "connect",
    "create",
    "lengthen_log",
    "store_error",
    "sync_path",
]

PAGE_BYTES = 16384
"""The page size of new stores; measured in docs/decisions/0010."""

WAL_KEEP_BYTES = 64 << 20
"""A longer log is cut back to this when it begins anew; up to it, its blocks are used again."""
LOG_SLICE_BYTES = 1 << 20
"""So much of a log is laid out at a time."""
LOG_SHARE = 8
"""Not where the log would take more than this part of the space that is free."""

_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_FULL_ERRNO = frozenset({errno.ENOSPC, errno.EDQUOT})


def actual(path: Path) -> Path:
    """The file that a path names: SQLite has its own files beside that, and not beside a link."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path.absolute()


def beside(path: Path, suffix: str) -> Path:
    """The file of that suffix next to a store, as SQLite names its own."""
    return path.parent / f"{path.name}{suffix}"


def store_error(path: Path, error: sqlite3.Error | OSError) -> StoreError:
    """What an error while committing means: ``StoreStalled`` or ``StoreFailed``."""
    if isinstance(error, OSError):
        full, busy = error.errno in _FULL_ERRNO, False
    else:
        code = getattr(error, "sqlite_errorcode", 0)  # absent where sqlite3 itself objects
        # On a full disk the shared memory of the log cannot grow either.
        full = code & 0xFF == sqlite3.SQLITE_FULL or code == sqlite3.SQLITE_IOERR_SHMSIZE
        busy = code & 0xFF in _BUSY
    if full:
        return StoreFull(f"the disk of the store {path} is full; free some space")
    if busy:
        return StoreStalled(f"another program has locked the store {path}; close it there")
    return StoreFailed(f"the store {path} failed: {error}")


def connect(path: Path) -> sqlite3.Connection:
    """A connection with the settings that the promises rest on, for any one thread at a time."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    for pragma in (
        "busy_timeout = 50",  # ours take turns; this is for other programs
        "synchronous = FULL",
        "wal_autocheckpoint = 0",  # maintain() does it, off the committing thread
        f"journal_size_limit = {WAL_KEEP_BYTES}",
        "secure_delete = OFF",  # many builds zero freed pages, at twice the writing
        "cache_size = -16384",  # KiB: a transaction of a few MB stays in memory until it commits
    ):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def create(path: Path) -> None:
    """Make an empty store under another name, then rename it, so that half a one never exists.

    Raises ``StoreUnreadable`` where the companions of a store that is gone still lie.
    """
    for suffix in ("-wal", "-large", "-journal"):
        if beside(path, suffix).exists():
            raise unreadable(
                path,
                f"is missing, but its companion {beside(path, suffix).name} is there",
                "restore the store, or move the companion away to begin with an empty store",
            )
    fresh = beside(path, ".new")
    for suffix in ("", "-wal", "-shm", "-journal"):
        beside(fresh, suffix).unlink(missing_ok=True)
    # SQLite gives its other files the mode of this one.
    os.close(os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(fresh, isolation_level=None)
    try:
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {FORMAT}")
        connection.executescript(load_schema())
        connection.execute(load_queries()["insert_meta"], (new_store_id(),))
    finally:
        connection.close()
    sync_path(fresh)
    fresh.rename(path)
    sync_path(path.parent)
    with contextlib.suppress(OSError):  # it may not be ours to open, but then it is not new either
        sync_path(path.parent.parent)


def lengthen_log(wal: Path, size: int) -> bool:
    """Lay out one more slice of a log's blocks, up to ``size``; whether there is more to do.

    A commit over blocks that are there waits for the disk alone; one that lengthens its file waits
    for the file system's own journal, too, and so for all that others write. Zeros are no part of
    a log. Nobody may write into it meanwhile.
    """
    try:
        room = os.statvfs(wal.parent)
        if room.f_bavail * room.f_frsize < LOG_SHARE * size:
            return False
        fd = os.open(wal, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            there = os.fstat(fd).st_size
            if there < size:
                there += os.pwrite(fd, bytes(min(LOG_SLICE_BYTES, size - there)), there)
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno not in _FULL_ERRNO:
            raise
        return False
    return there < size


def new_store_id() -> bytes:
    """An identity that no store has had."""
    return os.urandom(16)


def sync_path(path: Path) -> None:
    """Have the disk hold a file, or the names in a folder."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class Reserve:
    """A file that holds disk space back, given up so that a full disk can still be pruned."""

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size

    def hold(self) -> bool:
        """Take the space if it is not held; False if the disk has no room for it."""
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if os.fstat(fd).st_size < self._size:
                    self._fill(fd)
            finally:
                os.close(fd)
        except OSError as error:
            if error.errno not in _FULL_ERRNO:
                raise
            self.give_up()
            return False
        return True

    def _fill(self, fd: int) -> None:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(fd, 0, self._size)
        else:
            os.pwrite(fd, bytes(self._size), 0)

    def give_up(self) -> None:
        """Let the disk have the space."""
        self._path.unlink(missing_ok=True)


class Turn:
    """A lock for the right to write, given in the order of asking.

    A plain lock is taken again by the thread that has just released it, and a busy journal
    thread would keep maintenance out for ever.
    """

    def __init__(self) -> None:
        self._gate = threading.Lock()
        self._turn = threading.Lock()

    def __enter__(self) -> None:
        with self._gate:
            self._turn.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._turn.release()
