"""A copy of a store as it is at one commit, made while a coordinator may be writing to it.

Promises: what is copied is one committed state, whole or not at all; the store that is copied is
read only, and its coordinator waits for nothing. SQLite gives a view of one commit. What lies
beside its file moves on meanwhile, so it is copied first, and the view taken again, until it holds
nothing that is not copied: each time only what was written since the last is left to do.
"""

import contextlib
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from farm.errors import ProtocolError, StoreError, StoreLocked
from farm.protocol.records import Record, decode_record
from farm.store import sides
from farm.store.base import StoreFailed
from farm.store.checks import check_header, unreadable
from farm.store.files import beside, sync_path
from farm.store.large import LargeRows
from farm.store.lock import FileLock
from farm.store.queries import load_queries

__all__ = ["Copied", "View", "copy_store", "remove_store", "viewing"]

ROUNDS_MIN = 200
CATCH_UP_SECONDS = 60.0
"""So often, and for so long, the view is taken; each round copies what is new since the last."""
ROWS = 64
"""Rows read at a time."""
COPY_BYTES = 1 << 20
"""Bytes of a file copied at a time."""


class Copied(NamedTuple):
    """What a copy holds."""

    store_id: bytes
    epoch: int
    commit: int
    records: int
    large: int
    files: int


class View:
    """A store as of one commit, for reading only."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self.connection = connection
        self._sql = load_queries()
        row = connection.execute(self._sql["read_meta"]).fetchone()
        if row is None or len(row[0]) != 16:  # noqa: PLR2004 - the bytes of a store id
            raise unreadable(path, "is damaged (it has lost its id)")
        self.store_id: bytes = row[0]
        self.epoch: int = row[1]
        self.commit: int = max(row[2], row[3] or 0)

    def rows(self, after: int = -1) -> Iterator[tuple[int, int, bytes | None, int, int]]:
        """``(ref, kind, data, place, size)`` of every row after a ref; data or a place."""
        while rows := self.connection.execute(self._sql["rows_after"], (after, ROWS)).fetchall():
            yield from rows
            after = rows[-1][0]

    def refs(self) -> set[int]:
        """The refs of all rows."""
        return {ref for (ref,) in self.connection.execute("SELECT ref FROM journal")}

    def later(self) -> tuple[int, float | None]:
        """How many rows have heads, and when the first is due; a file may be older than these."""
        if not self.connection.execute(self._sql["has_later"]).fetchall():
            return 0, None
        rows, due = self.connection.execute(self._sql["next_due"]).fetchone()
        return rows, None if due is None else due / 1000

    def has(self, ref: int) -> bool:
        """Whether there is such a row."""
        return bool(self.connection.execute(self._sql["record"], (ref,)).fetchall())


@contextlib.contextmanager
def viewing(path: Path) -> Iterator[View]:
    """A view of a store, as long as the context lasts; whether or not it is in use."""
    check_header(path)
    lock = FileLock(beside(path, ".lock"), path)
    logged = beside(path, "-wal").exists()
    if not logged:  # nobody has it open, and nobody must open it now
        with contextlib.suppress(StoreLocked, OSError):
            lock.acquire()
        logged = beside(path, "-wal").exists()
    had_shm = beside(path, "-shm").exists()
    mode = "mode=ro" if logged else "mode=ro&immutable=1"
    try:
        connection = sqlite3.connect(
            f"file:{quote(str(path))}?{mode}", uri=True, isolation_level=None
        )
        try:
            connection.execute("BEGIN")
            yield View(path, connection)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise unreadable(path, f"is damaged ({error})") from error
    finally:
        if logged and not had_shm:
            with contextlib.suppress(StoreLocked, OSError):  # a coordinator has begun, and uses it
                lock.acquire()
                beside(path, "-shm").unlink(missing_ok=True)
        lock.release()


class _Copy:
    """One copy in the making: the large rows and side files that it has so far."""

    def __init__(self, source: Path, target: Path, store_id: bytes | None) -> None:
        self._source = source
        self._target = target
        self._wanted_id = store_id
        self._large: LargeRows | None = None
        self._places: dict[int, tuple[int, int]] = {}
        self._sides = [(folder.suffix, folder.files()) for folder in sides.SIDE_FOLDERS]
        self._needed: set[tuple[str, str]] = set()  # files, by suffix and name
        self._copied: set[tuple[str, str]] = set()
        self._missed: set[tuple[str, str]] = set()  # gone, or not whole, when it was their turn
        self._seen = -1

    def take(self) -> Copied:
        until = time.monotonic() + CATCH_UP_SECONDS
        for number in count():
            if number >= ROUNDS_MIN and time.monotonic() >= until:
                break
            with viewing(self._source) as view:
                if self._catch_up(view):
                    return self._finish(view)
        raise StoreError(
            f"the store {self._source} changes faster than it can be copied; try again when less "
            "is going on"
        )

    def _catch_up(self, view: View) -> bool:
        """Copy what is beside the file and not copied yet; False if some of it has gone on."""
        if self._large is None:
            path = beside(self._target, "-large")
            self._large = LargeRows(path, self._wanted_id or view.store_id)
            self._large.open([])
        source = LargeRows(beside(self._source, "-large"), view.store_id)
        source.attach()
        try:
            rows = self._copy_rows(view, source, self._large)
        finally:
            source.close()
        return rows and self._copy_files(view)

    def _copy_rows(self, view: View, source: LargeRows, target: LargeRows) -> bool:
        complete = True
        for ref, _, data, place, size in view.rows(self._seen):
            if data is None:
                try:
                    data = source.read_whole(ref, place, size)  # noqa: PLW2901
                except StoreFailed as problem:
                    if _is_still_there(self._source, ref):
                        raise unreadable(self._source, f"is damaged ({problem})") from problem
                    complete = False  # deleted since this view, and its place used again
                    break
                self._places[ref] = target.put(ref, data), size
            record = _decoded(self._source, ref, data)
            for _, files in self._sides:
                files.add(ref, record)
            self._seen = ref
        return complete

    def _copy_files(self, view: View) -> bool:
        """Copy the files that this view needs; False if one of them has gone since it was taken.

        One that was gone before this view was, and that it needs all the same, is lost.
        """
        refs, self._needed = view.refs(), set()
        missed: set[tuple[str, str]] = set()
        for suffix, files in self._sides:
            for name, (ref, size) in files.needed(refs).items():
                file = suffix, name
                self._needed.add(file)
                if file in self._copied:
                    continue
                path = beside(self._source, suffix) / name
                if _copy_file(path, size, beside(self._target, suffix) / name):
                    self._copied.add(file)
                elif file in self._missed:
                    raise unreadable(
                        self._source, f"is damaged (record {ref} needs {path}, which is not whole)"
                    )
                else:
                    missed.add(file)
        self._missed |= missed
        return not missed

    def _finish(self, view: View) -> Copied:
        """Copy the SQLite file, in this very view, and let it say where the large rows are."""
        assert self._large is not None  # noqa: S101 - for the type checker: it has caught up
        sql = load_queries()
        if self._places:
            self._large.sync()
        copy = sqlite3.connect(self._target, isolation_level=None)
        try:
            view.connection.backup(copy)
            copy.execute("BEGIN IMMEDIATE")
            places = copy.execute(sql["places"]).fetchall()
            for ref, _, size in places:
                if self._places.get(ref, (0, -1))[1] != size:
                    raise StoreFailed(f"row {ref} of the store {self._source} was not copied")
                copy.execute(sql["move"], (self._places[ref][0], ref))
            records = copy.execute("SELECT count(*) FROM journal").fetchone()[0]
            if self._wanted_id is not None:
                copy.execute(sql["set_store_id"], (self._wanted_id,))
            copy.execute("COMMIT")
        finally:
            copy.close()
        self._drop_files()
        self._large.close()
        sync_path(self._target)
        identity = self._wanted_id or view.store_id
        files = len(self._needed)
        return Copied(identity, view.epoch, view.commit, records, len(places), files)

    def _drop_files(self) -> None:
        """Files that the final view does not need any more."""
        for suffix, name in self._copied - self._needed:
            (beside(self._target, suffix) / name).unlink(missing_ok=True)
        for suffix in {suffix for suffix, _ in self._needed}:
            sync_path(beside(self._target, suffix))

    def close(self) -> None:
        if self._large is not None:
            self._large.close()


def _is_still_there(path: Path, ref: int) -> bool:
    with viewing(path) as now:
        return now.has(ref)


def _decoded(path: Path, ref: int, data: bytes) -> Record:
    try:
        return decode_record(data)
    except ProtocolError as error:
        raise unreadable(path, f"has a row, {ref}, that cannot be read ({error})") from error


def _copy_file(source: Path, size: int, target: Path) -> bool:
    """Copy a file that may lose its name, and be written anew, at any moment; False if it did.

    What still has its name when all of it is read was not written meanwhile.
    """
    for folder in (target.parent.parent, target.parent):
        folder.mkdir(mode=0o700, exist_ok=True)
    left, is_same = size, False
    with (
        contextlib.suppress(FileNotFoundError),
        source.open("rb") as file,
        target.open("wb") as copy,
    ):
        while left and (data := file.read(min(left, COPY_BYTES))):
            copy.write(data)
            left -= len(data)
        is_same = os.path.samestat(os.fstat(file.fileno()), source.stat())
    if left or not is_same:
        target.unlink(missing_ok=True)
        return False
    sync_path(target)
    return True


def copy_store(source: Path, target: Path, store_id: bytes | None = None) -> Copied:
    """Copy a store to a path at which nothing is, perhaps under another id.

    Raises ``StoreUnreadable`` for what is no whole store, ``StoreError`` for what is in the way.
    """
    for suffix in ("", *sides.side_suffixes()):
        if beside(target, suffix).exists():
            raise StoreError(f"{beside(target, suffix)} exists; name a path where nothing is")
    copy = _Copy(source, target, store_id)
    try:
        return copy.take()
    except BaseException as error:
        copy.close()
        remove_store(target)
        if isinstance(error, OSError):
            raise StoreError(f"the copy {target} cannot be made: {error}") from error
        raise


def remove_store(path: Path) -> None:
    """Remove a copy that did not become whole."""
    for suffix in ("", *sides.side_suffixes()):
        found = beside(path, suffix)
        if found.is_dir():
            shutil.rmtree(found, ignore_errors=True)
        else:
            found.unlink(missing_ok=True)
        if found.parent != path.parent:
            with contextlib.suppress(OSError):
                found.parent.rmdir()
