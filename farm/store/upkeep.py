"""The housekeeping of a SQLite store, on a connection and usually a thread of its own.

Promises: the write-ahead log begins anew whenever its content is safe in the store, so that its
length follows the speed of the disk and not the age of the store; space that is free beyond a
slack goes back to the file system; no turn of writing is held for more than a few milliseconds,
or for one large row.
"""

import sqlite3
import threading
from pathlib import Path

from farm.store.files import (
    PAGE_BYTES,
    Reserve,
    Turn,
    beside,
    connect,
    lengthen_log,
    store_error,
    sync_path,
)
from farm.store.large import LargeRows
from farm.store.queries import load_queries

__all__ = ["SURPLUS_PAGES", "Upkeep", "surplus_pages"]

_PASSES = 4  # over the log without the turn; each leaves what was committed meanwhile
_REST_PAGES = 64  # of the log, few enough to be copied while commits wait
_FREE_PAGES_KEPT = (16 << 20) // PAGE_BYTES  # free pages are the next commit's pages
_VACUUM_PAGES = 64  # given back in one turn
_VACUUM_CHECKPOINT_PAGES = 2048  # given back before the log is emptied again
_LARGE_SLACK_BYTES = 64 << 20
_LOG_BYTES = 24 << 20  # as much as is committed from one maintenance to the next, and then some


SURPLUS_PAGES = 256
"""Free pages above the slack that make maintenance worth its while."""


def surplus_pages(connection: sqlite3.Connection) -> int:
    """How many free pages should go back to the file system; negative below the slack."""
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    surplus: int = free - max(_FREE_PAGES_KEPT, (pages - free) // 4)
    return surplus


class Upkeep:
    """What ``maintain`` does, in parts that the committing thread can also ask for."""

    def __init__(
        self,
        path: Path,
        turn: Turn,
        large: LargeRows,
        reserve: Reserve,
        places: dict[int, tuple[int, int]],
    ) -> None:
        self._path = path
        self._wal = beside(path, "-wal")
        self._turn = turn
        self._large = large
        self._reserve = reserve
        self._places = places  # the store's, of large rows; changed with the turn
        self._sql = load_queries()
        # Held by whoever uses the connection; taken before the turn, never while holding it.
        self._alone = threading.Lock()
        self._connection = connect(path)

    def maintain(self) -> bool:
        """Do all that is worth doing; returns whether the reserve is held.

        Raises ``StoreStalled`` or ``StoreFailed``.
        """
        try:
            with self._alone:
                if self._checkpoint():
                    self._lengthen_log()
                self._vacuum()
                self._compact_large()
                return self._reserve.hold()
        except (sqlite3.Error, OSError) as error:
            raise store_error(self._path, error) from error

    def checkpoint(self) -> bool:
        """Empty the log; False if another program's reading keeps it from beginning anew."""
        try:
            with self._alone:
                return self._checkpoint()
        except (sqlite3.Error, OSError) as error:
            raise store_error(self._path, error) from error

    def _checkpoint(self) -> bool:
        for _ in range(_PASSES):
            _, log, copied = self._fetch("PRAGMA wal_checkpoint(PASSIVE)")
            if log - copied <= _REST_PAGES:
                break
        with self._turn:
            busy, _, _ = self._fetch("PRAGMA wal_checkpoint(RESTART)")
        return not busy

    def _lengthen_log(self) -> None:
        """Lay out what the log will need, now that it begins anew, far from its end."""
        more = True
        while more:
            with self._turn:
                more = lengthen_log(self._wal, _LOG_BYTES)
            sync_path(self._wal)  # no commit is to wait for it

    def _fetch(self, sql: str) -> tuple[int, ...]:
        row: tuple[int, ...] = self._connection.execute(sql).fetchall()[0]
        return row

    def _vacuum(self) -> None:
        done = 0
        while True:
            with self._turn:
                surplus = surplus_pages(self._connection)
                if surplus <= 0:
                    break
                # fetchall: each step of this statement gives back one page.
                step = min(surplus, _VACUUM_PAGES)
                self._connection.execute(f"PRAGMA incremental_vacuum({step})").fetchall()
            done += step
            if done % _VACUUM_CHECKPOINT_PAGES < step:
                self._checkpoint()
        if done:
            self._checkpoint()  # the file shrinks only now

    def _compact_large(self) -> None:
        large = self._large
        while True:
            with self._turn:
                if large.file_bytes <= 2 * large.live_bytes + _LARGE_SLACK_BYTES:
                    large.cut(_LARGE_SLACK_BYTES // 2)
                    return
                row = self._connection.execute(self._sql["last_place"]).fetchall()
                if not row or not large.lower_place(row[0][1], row[0][2]):
                    large.cut(_LARGE_SLACK_BYTES // 2)
                    return
                self._move(*row[0])

    def _move(self, ref: int, place: int, size: int) -> None:
        target = self._large.put(ref, self._large.read(ref, place, size))
        try:
            self._large.sync()
            self._connection.execute(self._sql["move"], (target, ref))
        except BaseException:
            self._large.free(target, size)
            raise
        self._places[ref] = target, size
        self._large.free(place, size)

    def close(self) -> None:
        """Wait for what is under way and close the connection."""
        with self._alone:
            self._connection.close()
