"""Backup, check and restore of stores kept in files: what ``farm store`` does.

Promises: a backup is a store like any other, as of one commit, and making it changes nothing in
the store that is copied. A check names everything that is wrong, and writes nothing. A restore
puts a copy in a store's place so that the farm can go on with it: under a new identity, since it
lacks commits that peers have seen; above every epoch that was used; with all that ran since fenced
off. What was there before is kept aside.
"""

import contextlib
import sqlite3
import time
from pathlib import Path
from typing import NamedTuple

from farm.errors import ProtocolError, StoreError, StoreUnreadable
from farm.protocol.records import Record, Restored, decode_record, encode_record
from farm.store import sides
from farm.store.base import StoreFailed
from farm.store.copying import Copied, View, copy_store, remove_store, viewing
from farm.store.files import actual, beside, new_store_id, sync_path
from farm.store.large import LargeRows
from farm.store.lock import FileLock
from farm.store.queries import load_queries

__all__ = ["Checked", "RestoredStore", "backup", "check", "restore"]

PROBLEMS_MAX = 100
EPOCH_MARGIN = 1_000_000
"""So many times can a store have been opened since a copy was made, if its own file is gone."""


class Checked(NamedTuple):
    """What a check found; ``problems`` is empty if all is well.

    ``later`` counts the records whose tasks start much later, the first of them at ``next_due``, in
    seconds since 1970.
    """

    problems: list[str]
    records: int
    large: int
    files: int
    functions: int
    epoch: int
    commit: int
    later: int = 0
    next_due: float | None = None


class RestoredStore(NamedTuple):
    """What a restore made, and where it put what was there before, if anything was."""

    copied: Copied
    epoch: int
    aside: str


def backup(store: Path, target: Path) -> Copied:
    """Copy a store, which may be in use, as it is at one commit.

    Raises ``StoreUnreadable`` if it is damaged, ``StoreError`` if something is at the target.
    """
    for suffix in ("", *sides.side_suffixes()):  # SQLite would take any log there for its own
        if beside(target, suffix).exists():
            raise StoreError(f"{beside(target, suffix)} exists; name a path where nothing is")
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = beside(target, ".new")
    remove_store(fresh)
    copied = copy_store(actual(store), fresh)
    _rename(fresh, target)
    return copied


# ---------------------------------------------------------------- check


def check(store: Path) -> Checked:
    """Read all of a store, which may be in use, and say what is wrong with it."""
    store = actual(store)
    try:
        with viewing(store) as view:
            return _Check(store, view).run()
    except StoreUnreadable as error:
        return Checked([str(error)], 0, 0, 0, 0, 0, 0)


class _Check:
    def __init__(self, store: Path, view: View) -> None:
        self._store = store
        self._view = view
        self._problems: list[str] = []
        self._records = self._large_rows = self._files = 0
        self._sides = [(folder.suffix, folder.files()) for folder in sides.SIDE_FOLDERS]
        self._seen = -1

    def run(self) -> Checked:
        view = self._view
        for (text,) in view.connection.execute(f"PRAGMA integrity_check({PROBLEMS_MAX})"):
            if text != "ok":
                self._note(f"{self._store}: {' '.join(str(text).split())}")
        large = LargeRows(beside(self._store, "-large"), view.store_id)
        large.attach()
        try:
            self._check_rows(large)
            self._check_files(large)
        finally:
            large.close()
        functions = view.connection.execute("SELECT count(*) FROM functions").fetchone()[0]
        numbers = (self._records, self._large_rows, self._files, functions)
        return Checked(self._problems, *numbers, view.epoch, view.commit, *view.later())

    def _note(self, problem: str) -> None:
        if len(self._problems) < PROBLEMS_MAX:
            self._problems.append(problem)

    def _check_rows(self, large: LargeRows) -> None:
        for ref, kind, data, place, size in self._view.rows():
            self._records += 1
            self._seen = ref
            if data is None:
                self._large_rows += 1
                try:
                    data = large.read_whole(ref, place, size)  # noqa: PLW2901
                except (StoreFailed, OSError) as error:
                    if self._is_as_it_was(ref, place):
                        self._note(str(error))
                    continue
            self._check_record(ref, kind, data)

    def _is_as_it_was(self, ref: int, place: int) -> bool:
        """Whether a row is still there, and no coordinator has deleted or moved it meanwhile."""
        with viewing(self._store) as now:
            rows = now.connection.execute(load_queries()["record"], (ref,)).fetchall()
        return bool(rows) and rows[0][1] == place

    def _check_record(self, ref: int, kind: int, data: bytes) -> None:
        try:
            record = decode_record(data)
        except ProtocolError as error:
            self._note(f"{self._store}: record {ref} cannot be read: {error}")
            return
        if _kind(record) != kind:
            self._note(f"{self._store}: record {ref} is of kind {_kind(record)}, not {kind}")
        for _, files in self._sides:
            files.add(ref, record)

    def _check_files(self, large: LargeRows) -> None:
        refs = self._view.refs()
        needed = [
            (s, name, size) for s, f in self._sides for name, (_, size) in f.needed(refs).items()
        ]
        self._files = len(needed)
        suspects = [
            (suffix, name) for suffix, name, size in needed if self._problem_of(suffix, name, size)
        ]
        if not suspects:
            return
        with viewing(self._store) as now:  # they may be needed no more
            self._add_rest(now, large)
            refs = now.refs()
            for suffix, files in self._sides:
                for name, (ref, size) in files.needed(refs).items():
                    if (suffix, name) in suspects and (
                        problem := self._problem_of(suffix, name, size)
                    ):
                        path = beside(self._store, suffix) / name
                        self._note(f"{path}, which record {ref} names{problem}")

    def _problem_of(self, suffix: str, name: str, size: int) -> str:
        try:
            found = (beside(self._store, suffix) / name).stat().st_size
        except OSError as error:
            return f": {error.strerror}"
        # A file that was written before may be longer than what is in it now.
        return f", has {found} of {size} bytes" if found < size else ""

    def _add_rest(self, now: View, large: LargeRows) -> None:
        """What was written since the rows were checked may say that files are not needed."""
        for ref, _, data, place, size in now.rows(self._seen):
            with contextlib.suppress(StoreFailed, OSError, ProtocolError):
                record = decode_record(large.read_whole(ref, place, size) if data is None else data)
                for _, files in self._sides:
                    files.add(ref, record)


def _kind(record: Record) -> int:
    return int(record.__struct_config__.tag or 0)


# ---------------------------------------------------------------- restore


def restore(copy: Path, store: Path, *, force: bool = False) -> RestoredStore:
    """Put a copy, which is not changed, where a store is to be.

    Raises ``StoreLocked`` if the store is in use, ``StoreError`` if there is one and not
    ``force``, ``StoreUnreadable`` if the copy is damaged.
    """
    copy, store = actual(copy), actual(store)
    if copy == store:
        raise StoreError(f"{copy} cannot be restored to itself")
    if not copy.exists():
        raise StoreError(f"there is no store {copy}")
    checked = check(copy)
    if checked.problems:
        raise StoreUnreadable(f"{checked.problems[0]} (`farm store check` names all)")
    store.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = FileLock(beside(store, ".lock"), store)
    lock.acquire()
    try:
        present = [s for s in ("", *sides.side_suffixes()) if beside(store, s).exists()]
        if present and not force:
            raise StoreError(
                f"there is a store at {store}; --force puts the copy in its place, and keeps it "
                "aside under another name"
            )
        return _restore(copy, store, present)
    finally:
        lock.release()


def _restore(copy: Path, store: Path, present: list[str]) -> RestoredStore:
    now = time.time_ns() // 1_000_000
    fresh = beside(store, ".new")
    remove_store(fresh)
    copied = copy_store(copy, fresh, new_store_id())
    replaced = _epoch_of(store) if present else None
    margin = EPOCH_MARGIN if replaced is None else 1
    epoch = max(copied.epoch + margin, (replaced or 0) + 1, now)
    try:
        _stamp(fresh, copied.commit + 1, epoch)
    except BaseException:
        remove_store(fresh)
        raise
    aside = ""
    if present:
        old = beside(store, f".replaced-{now}")
        for suffix in ("", *sides.side_suffixes()):  # to look at it may have added one
            if beside(store, suffix).exists():
                _move(beside(store, suffix), beside(old, suffix))
        aside = str(old)
    _rename(fresh, store)
    return RestoredStore(copied, epoch, aside)


def _epoch_of(store: Path) -> int | None:
    """The last epoch of a store that is about to be replaced, if it can still be read."""
    with contextlib.suppress(StoreUnreadable), viewing(store) as view:
        return view.epoch
    return None


def _stamp(store: Path, ref: int, epoch: int) -> None:
    """Say in a store, as its last commit, that it was restored, and at which epoch."""
    record = Restored(epoch)
    connection = sqlite3.connect(store, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        row = (ref, _kind(record), encode_record(record), None, None)
        connection.execute(load_queries()["append"], row)
        connection.execute(load_queries()["set_epoch"], (epoch,))
        connection.execute("COMMIT")
    finally:
        connection.close()
    sync_path(store)


def _rename(fresh: Path, store: Path) -> None:
    """Give a finished copy its name; the file that makes it a store comes last."""
    for suffix in (*sides.side_suffixes(), ""):
        if beside(fresh, suffix).exists():
            _move(beside(fresh, suffix), beside(store, suffix))
    remove_store(fresh)  # the folders that its parts were in
    sync_path(store.parent)


def _move(part: Path, to: Path) -> None:
    """Give a part of a store another name, perhaps in a folder of its own."""
    to.parent.mkdir(mode=0o700, exist_ok=True)
    part.rename(to)
    sync_path(to.parent)
