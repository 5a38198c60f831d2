"""The store in a SQLite file, with a file of large rows beside it.

Promises: those of ``farm.store.base``. A commit is one transaction, fsynced when it returns
(``synchronous=FULL``); rows of 128 KiB and more are written and fsynced to a file of their own
just before it. The write-ahead log is emptied off the committing thread, and is bounded even if
that is slow. A file that cannot be used is left exactly as it is.
"""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from farm.errors import ProtocolError, StoreError
from farm.protocol.records import Record, decode_record, encode_record
from farm.store.base import (
    Append,
    Change,
    Delete,
    DropFunctions,
    Opened,
    PutFunction,
    StoreFailed,
    StoreFull,
    StoreStalled,
)
from farm.store.checks import check_header, inspect, unreadable
from farm.store.files import (
    PAGE_BYTES,
    Reserve,
    Turn,
    actual,
    beside,
    connect,
    create,
    lengthen_log,
    store_error,
)
from farm.store.large import LARGE_BYTES, LargeRows
from farm.store.later import head_of, record_of
from farm.store.lock import MOUNTS, FileLock, refuse_network
from farm.store.queries import load_queries
from farm.store.upkeep import SURPLUS_PAGES, Upkeep, surplus_pages

__all__ = ["SqliteStore"]

_MAINTAIN_BYTES = 16 << 20  # written or freed since the last maintenance
_LOG_BYTES = 2 << 20  # laid out at the start, and full at the first maintenance, which adds to it
_WAL_BYTES_MAX = 256 << 20  # a commit that finds the log longer waits until it is emptied
_LOOK_BYTES = 1 << 18  # written since the log's length was last looked at
_STATEMENT_ROWS = 8  # added by one statement, which is a transaction of its own
_LOAD_ROWS = 64  # read at a time: at most 8 MiB, for larger rows are elsewhere


_Row = tuple[int, int, bytes | None, int | None, int | None]
"""``(ref, kind, data, place, size)``, as in the journal's table."""


class SqliteStore:
    """A journal in one SQLite file; ``reserve_bytes`` of disk are kept back for pruning."""

    durable = True

    def __init__(self, path: Path, *, reserve_bytes: int = 16 << 20, mounts: Path = MOUNTS) -> None:
        self.short = ""
        self._path = actual(path)
        self._mounts = mounts
        self._wal = beside(self._path, "-wal")
        self._lock = FileLock(beside(self._path, ".lock"), self._path)
        self._reserve = Reserve(beside(self._path, ".reserve"), reserve_bytes)
        self._turn = Turn()
        self._reading = threading.Lock()
        self._sql = load_queries()
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._upkeep: Upkeep | None = None
        self._large = LargeRows(beside(self._path, "-large"), b"")
        # Where each large row is, so that its space can be freed; bounded by the rows.
        self._places: dict[int, tuple[int, int]] = {}
        self._commit = 0
        self._heads: set[int] = set()  # refs of rows that have one; bounded by the rows
        # Bytes written or freed: in all, when last maintained, when the log was last found short.
        self._touched = self._maintained = self._looked = 0
        self._surplus = 0  # free pages too many, when last looked at
        self._failed = ""

    # ------------------------------------------------------------ opening and closing

    def open(self, epoch_floor: int, wall_ms: int) -> Opened:
        """Take the lock, check the file, commit a new epoch; see ``Store.open``."""
        path = self._path
        try:
            if path.exists():
                check_header(path)  # before anything of ours appears beside a file that is not
            refuse_network(path, self._mounts)
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock.acquire()
        except OSError as error:
            raise StoreError(f"the store {path} cannot be made: {error}") from error
        try:
            return self._open(epoch_floor, wall_ms)
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise store_error(path, error) from error
        except BaseException:
            self.close()
            raise

    def _open(self, epoch_floor: int, wall_ms: int) -> Opened:
        if not self._path.exists():
            create(self._path)
        found = inspect(self._path)
        self._large = LargeRows(beside(self._path, "-large"), found.store_id)
        self._large.open(found.places)
        for ref, place, size in found.places:
            self._places[ref] = place, size
        while lengthen_log(self._wal, _LOG_BYTES):
            pass
        self._writer = connect(self._path)
        epoch = max(found.epoch + 1, epoch_floor, wall_ms)
        self._writer.execute(self._sql["set_epoch"], (epoch,))
        self._reader = connect(self._path)
        self._upkeep = Upkeep(self._path, self._turn, self._large, self._reserve, self._places)
        self._commit = found.commit
        for name in ("make_later", "make_later_due", "tidy_later"):
            self._writer.execute(self._sql[name])
        self._heads = {ref for (ref,) in self._select("later")}
        self._note_reserve(held=self._reserve.hold())
        return Opened(epoch, found.store_id, found.commit)

    def close(self) -> None:
        """Empty the log into the file and give up the lock; idempotent."""
        if self._upkeep is not None:
            self._upkeep.close()
            self._upkeep = None
        with self._reading, self._turn:
            for connection in (self._reader, self._writer):
                if connection is not None:
                    connection.close()
            self._reader = self._writer = None
            self._large.close()
            self._reserve.give_up()
        self._lock.release()

    # ------------------------------------------------------------ reading

    def functions(self) -> Iterator[tuple[bytes, str, bytes]]:
        """Every function kept: hash, name, data."""
        yield from self._select("functions")

    def records(self, *, light: bool = False) -> Iterator[tuple[int, Record]]:
        """Every record with its ref, in order; raises ``StoreUnreadable`` for a damaged one.

        ``light``: of those whose tasks start much later only the heads.
        """
        after = -1
        while rows := self._select("heads_after" if light else "records_after", after, _LOAD_ROWS):
            for after, data, _place, size, *heads in rows:
                record: Record | None = None
                if heads and heads[0] is not None:
                    record = record_of(heads[0])
                if record is None and data is not None:
                    record = self._record(after, data)
                record = record or self.read(after)
                if record is None:
                    raise StoreFailed(f"row {after} of the store {self._path} vanished ({size} B)")
                yield after, record

    def read(self, ref: int) -> Record | None:
        """One committed record, or None if it was deleted; from any thread."""
        while rows := self._select("record", ref):
            data, place, size = rows[0]
            if place is None:
                return self._record(ref, data)
            data, problem = b"", None
            try:
                data = self._large.read(ref, place, size)
            except (StoreFailed, OSError) as error:
                problem = error
            # What was read counts only if the row was not deleted or moved meanwhile.
            if self._select("record", ref) == rows:
                if problem is not None:
                    raise StoreFailed(str(problem)) from problem
                return self._record(ref, data)
        return None

    def _select(self, name: str, *arguments: object) -> list[tuple[Any, ...]]:
        try:
            with self._reading:
                if self._reader is None:
                    raise StoreFailed(f"the store {self._path} is closed")
                return self._reader.execute(self._sql[name], arguments).fetchall()
        except sqlite3.DatabaseError as error:
            raise unreadable(self._path, f"is damaged ({error})") from error

    def _record(self, ref: int, data: bytes) -> Record:
        try:
            return decode_record(data)
        except ProtocolError as error:
            raise unreadable(
                self._path,
                f"has a row, {ref}, that this release cannot read ({error})",
                "if a newer release wrote it, upgrade compute-farm; else restore a backup",
            ) from error

    # ------------------------------------------------------------ writing

    def commit(self, changes: Sequence[Change]) -> None:
        """Make all changes, in order, in one transaction, durable on return; see ``Store``."""
        self._check_usable()
        if self._log_is_long() and not self._checkpoint():
            raise StoreStalled(
                f"another program has the store {self._path} open for reading, so that its log "
                "only grows; close it there"
            )
        # What is appended and deleted in one transaction was never there.
        dead = {ref for change in changes if isinstance(change, Delete) for ref in change.refs}
        placed: dict[int, tuple[int, int]] = {}
        heads: list[tuple[int, int, bytes]] = []
        with self._turn:
            try:
                self._transact(changes, self._prepare(changes, dead, placed, heads), dead, heads)
            except BaseException as error:
                self._roll_back(placed)
                if isinstance(error, (sqlite3.Error, OSError)):
                    raise self._failure(store_error(self._path, error)) from error
                if isinstance(error, StoreFailed):
                    self._failure(error)
                raise
            if dead or placed or heads:
                self._note_rows(dead, placed, heads)

    def _note_rows(
        self,
        dead: set[int],
        placed: dict[int, tuple[int, int]],
        heads: list[tuple[int, int, bytes]],
    ) -> None:
        # Only now may the space of deleted rows be written again.
        for ref in dead & self._places.keys():
            place, size = self._places.pop(ref)
            self._large.free(place, size)
            self._touched += size
        self._places.update(placed)
        self._heads -= dead
        self._heads.update(ref for ref, _, _ in heads)

    def _check_usable(self) -> None:
        if self._failed:
            raise StoreFailed(self._failed)
        if self._writer is None:
            raise StoreFailed(f"the store {self._path} is closed")

    def _log_is_long(self) -> bool:
        if self._touched - self._looked < _LOOK_BYTES:
            return False
        try:
            if self._wal.stat().st_size > _WAL_BYTES_MAX:
                return True
        except FileNotFoundError:
            pass
        self._looked = self._touched
        return False

    def _prepare(
        self,
        changes: Sequence[Change],
        dead: set[int],
        placed: dict[int, tuple[int, int]],
        heads: list[tuple[int, int, bytes]],
    ) -> list[_Row]:
        """Encode what is appended; large rows are durable, and in ``placed``, on return."""
        rows: list[_Row] = []
        for change in changes:
            if not isinstance(change, Append) or change.ref in dead:
                continue
            ref, record = change
            data = encode_record(record)
            if (head := head_of(record, len(data))) is not None:
                heads.append((ref, *head))
            kind = int(record.__struct_config__.tag or 0)
            if len(data) < LARGE_BYTES:
                rows.append((ref, kind, data, None, None))
                self._touched += len(data)
            else:
                placed[ref] = self._large.put(ref, data), len(data)
                rows.append((ref, kind, None, *placed[ref]))
        if placed:
            self._large.sync()
        return rows

    def _transact(
        self,
        changes: Sequence[Change],
        rows: list[_Row],
        dead: set[int],
        heads: list[tuple[int, int, bytes]],
    ) -> None:
        writer, sql = self._writer, self._sql
        assert writer is not None  # noqa: S101 - for the type checker: it is usable
        self._touched += PAGE_BYTES * (2 + len(dead))
        if 0 < len(rows) == len(changes) <= _STATEMENT_ROWS and not heads:
            more = ", (?, ?, ?, ?, ?)" * (len(rows) - 1)
            writer.execute(sql["append"] + more, [value for row in rows for value in row])
            self._commit = max(self._commit, rows[-1][0])
            return
        commit = max((c.ref for c in changes if isinstance(c, Append)), default=0)
        commit = max(commit, self._commit)
        writer.execute("BEGIN IMMEDIATE")
        writer.executemany(sql["append"], rows)
        if heads:
            writer.executemany(sql["append_later"], heads)
        if gone := dead & self._heads:
            writer.executemany(sql["delete_later"], ((ref,) for ref in gone))
        for change in changes:
            match change:
                case Delete(refs):
                    writer.executemany(sql["delete"], ((ref,) for ref in refs))
                case PutFunction():
                    writer.execute(sql["put_function"], change)
                    self._touched += len(change.data)
                case DropFunctions(hashes):
                    writer.executemany(sql["drop_function"], ((key,) for key in hashes))
        if dead:
            (greatest,) = writer.execute(sql["greatest_ref"]).fetchone()
            if greatest != commit:
                writer.execute(sql["commit_number"], (commit,))
            self._surplus = surplus_pages(writer)
        writer.execute("COMMIT")
        self._commit = commit

    def _roll_back(self, placed: dict[int, tuple[int, int]]) -> None:
        for place, size in placed.values():
            self._large.free(place, size)
        if self._writer is not None and self._writer.in_transaction:
            try:
                self._writer.execute("ROLLBACK")
            except sqlite3.Error as error:
                problem = StoreFailed(f"the store {self._path} cannot roll back: {error}")
                raise self._failure(problem) from error

    def _failure(self, error: StoreError) -> StoreError:
        """Remember what an error means for later commits; returns it."""
        if isinstance(error, StoreFailed):
            self._failed = str(error)
        elif isinstance(error, StoreFull):
            self._reserve.give_up()
            self._note_reserve(held=False)
        return error

    def note_epoch(self, epoch: int) -> None:
        """Commit that an epoch was used; see ``Store.note_epoch``."""
        self._check_usable()
        assert self._writer is not None  # noqa: S101 - for the type checker: it is usable
        try:
            with self._turn:
                self._writer.execute(self._sql["raise_epoch"], (epoch,))
        except sqlite3.Error as error:
            raise self._failure(store_error(self._path, error)) from error

    # ------------------------------------------------------------ maintenance

    @property
    def wants_maintenance(self) -> bool:
        """Whether much was written or freed since the last time, or the reserve is gone."""
        much = _MAINTAIN_BYTES if self._maintained else _LOG_BYTES
        due = self._touched - self._maintained >= much or self._surplus >= SURPLUS_PAGES
        return due or bool(self.short)

    def maintain(self) -> None:
        """Empty the log, give free space back, hold the reserve again; see ``Store.maintain``."""
        self._check_usable()
        assert self._upkeep is not None  # noqa: S101 - for the type checker: it is usable
        self._maintained, self._surplus = self._touched, 0
        try:
            self._note_reserve(held=self._upkeep.maintain())
        except StoreError as error:
            self._failure(error)
            raise

    def _checkpoint(self) -> bool:
        assert self._upkeep is not None  # noqa: S101 - for the type checker: it is usable
        try:
            return self._upkeep.checkpoint()
        except StoreError as error:
            self._failure(error)
            raise

    def _note_reserve(self, *, held: bool) -> None:
        self.short = "" if held else f"the disk of the store {self._path} is full; free some space"
