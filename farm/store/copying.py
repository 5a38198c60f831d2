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
from collections.abc import Iterator
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

ROUNDS_MAX = 200
"""So often the view is taken; each round copies what is new since the one before."""
ROWS = 64
"""Rows read at a time."""


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
        self._files: dict[int, list[tuple[str, str, int]]] = {}  # by ref: suffix, name, size
        self._pinned: set[tuple[str, str]] = set()
        self._seen = -1

    def take(self) -> Copied:
        for _ in range(ROUNDS_MAX):
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
            return self._copy_rows(view, source, self._large)
        finally:
            source.close()

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
            named = [
                (folder.suffix, name, file_size)
                for folder in sides.SIDE_FOLDERS
                for name, file_size in folder.files(record)
            ]
            if named and not self._copy_files(named):
                complete = False
                break
            if named:
                self._files[ref] = named
            self._seen = ref
        return complete

    def _copy_files(self, named: list[tuple[str, str, int]]) -> bool:
        """Copy files that a record names; False if one of them has gone."""
        for suffix, name, _ in named:
            if (suffix, name) in self._pinned:
                continue
            target = beside(self._target, suffix) / name
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            pin = target.with_name(target.name + ".pin")
            try:
                _copy_file(beside(self._source, suffix) / name, pin, target)
            except FileNotFoundError:
                return False
            self._pinned.add((suffix, name))
        return True

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
        self._drop_files(view)
        self._large.close()
        sync_path(self._target)
        identity = self._wanted_id or view.store_id
        files = sum(map(len, self._files.values()))
        return Copied(identity, view.epoch, view.commit, records, len(places), files)

    def _drop_files(self, view: View) -> None:
        """Files of records that are not in the final view."""
        for ref in [ref for ref in self._files if not view.has(ref)]:
            del self._files[ref]
        wanted = {(suffix, name) for named in self._files.values() for suffix, name, _ in named}
        for suffix, name in self._pinned - wanted:
            (beside(self._target, suffix) / name).unlink(missing_ok=True)

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


def _copy_file(source: Path, pin: Path, target: Path) -> None:
    """Copy a file that may be let go of at any moment; a name of our own keeps it as it is."""
    pin.unlink(missing_ok=True)
    try:
        os.link(source, pin)
    except FileNotFoundError:
        raise
    except OSError:  # another disk: what was read is checked against its size later
        shutil.copyfile(source, target)
    else:
        shutil.copyfile(pin, target)
        pin.unlink()
    sync_path(target)


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
