"""A disk that remembers only what was synced, under a SQLite store.

A store runs on a file system of SQLite (apsw gives us one to overload) that writes down every
write, truncation and sync; the file of large rows is watched in the same way. Then the power fails
at any of these, again and again: of what was not synced, each sector of each write is there or
not, by chance. What is left is opened by the store as users have it, and must be exactly what some
commit made, and no earlier one than the last that had returned.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, NamedTuple
from unittest import mock

import apsw

from farm.errors import StoreError
from farm.protocol.records import encode_record
from farm.store import Append, Delete, DropFunctions, PutFunction
from farm.store import files as files_module
from farm.store import large as large_module
from farm.store.sqlite import SqliteStore
from tests.unit.store_records import record_of

__all__ = ["Broken", "Recording", "State", "cut", "record", "state_of"]

SECTOR_BYTES = 4096
KEPT_SHARES = (0.0, 0.3, 0.7, 0.95)
"""How much of what was not synced the power lets through; chosen anew for each cut."""
COMMITS = 120
MAINTAIN_EVERY = 17
VFS = "recording"


class Broken(AssertionError):
    """A store came back as something that no commit had made."""


class Op(NamedTuple):
    """One thing that was asked of the file system; ``what``: write, truncate, sync."""

    what: str
    file: str
    at: int = 0
    data: bytes = b""


class State(NamedTuple):
    """What a store holds after a commit."""

    commit: int
    records: dict[int, bytes]
    functions: dict[bytes, tuple[str, bytes]]


@dataclass
class Recording:
    """The operations, and after which of them which commit had returned."""

    ops: list[Op] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)  # before the first of them
    states: list[State] = field(default_factory=list)
    returned: list[int] = field(default_factory=list)  # len(ops) when each state was returned

    def add(self, what: str, path: str, at: int = 0, data: bytes = b"") -> None:
        self.ops.append(Op(what, Path(path).name, at, data))


# ------------------------------------------------------------ recording


class _File(apsw.VFSFile):
    def __init__(self, recording: Recording, name: Any, flags: Any) -> None:
        super().__init__("unix", name, flags)
        self._recording = recording
        self._path = name.filename() if isinstance(name, apsw.URIFilename) else name

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802
        self._recording.add("write", self._path, offset, bytes(data))
        super().xWrite(data, offset)

    def xTruncate(self, size: int) -> None:  # noqa: N802
        self._recording.add("truncate", self._path, size)
        super().xTruncate(size)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._recording.add("sync", self._path)
        super().xSync(flags)


class _Vfs(apsw.VFS):
    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        super().__init__(VFS, "unix")

    def xOpen(self, name: Any, flags: Any) -> Any:  # noqa: N802
        return _File(self._recording, name, flags)


class _Connection:
    """As much of a ``sqlite3.Connection`` as the store uses."""

    def __init__(self, path: Path, **_: Any) -> None:
        self._connection = apsw.Connection(str(path), vfs=VFS)

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    def execute(self, sql: str, arguments: Any = ()) -> Any:
        return self._connection.cursor().execute(sql, tuple(arguments))

    def executemany(self, sql: str, rows: Any) -> Any:
        return self._connection.cursor().executemany(sql, list(rows))

    def close(self) -> None:
        self._connection.close()


class _Os:
    """The functions of ``os`` for one file, written down."""

    def __init__(self, recording: Recording, path: str) -> None:
        self._recording = recording
        self._path = path

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def pwrite(self, fd: int, data: Any, at: int) -> int:
        self._recording.add("write", self._path, at, bytes(data))
        return os.pwrite(fd, data, at)

    def pwritev(self, fd: int, buffers: Any, at: int) -> int:
        data = b"".join(map(bytes, buffers))
        self._recording.add("write", self._path, at, data)
        return os.pwritev(fd, buffers, at)

    def ftruncate(self, fd: int, size: int) -> None:
        self._recording.add("truncate", self._path, size)
        os.ftruncate(fd, size)

    def fsync(self, fd: int) -> None:
        self._recording.add("sync", self._path)
        os.fsync(fd)

    fdatasync = fsync


@contextmanager
def _recorded(recording: Recording, path: Path) -> Iterator[None]:
    vfs = _Vfs(recording)
    sqlite = mock.Mock(wraps=files_module.sqlite3)
    sqlite.connect = _Connection
    for name in ("Error", "SQLITE_FULL", "SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_IOERR_SHMSIZE"):
        setattr(sqlite, name, getattr(files_module.sqlite3, name))
    with (
        mock.patch.object(files_module, "sqlite3", sqlite),
        mock.patch.object(large_module, "os", _Os(recording, f"{path}-large")),
    ):
        yield
    vfs.unregister()


def record(folder: Path, seed: int = 1) -> Recording:
    """Let a store work in a folder; the workload is the seed's."""
    path = folder / "farm.db"
    store = SqliteStore(path, reserve_bytes=SECTOR_BYTES)
    store.open(0, 0)
    store.close()
    recording = Recording(files={"farm.db": path.read_bytes()})
    chance = Random(seed)
    with _recorded(recording, path):
        store = SqliteStore(path, reserve_bytes=SECTOR_BYTES)
        store.open(0, 0)
        state = State(0, {}, {})
        recording.states.append(state)
        recording.returned.append(len(recording.ops))
        for number in range(1, COMMITS + 1):
            changes, state = _work(chance, state)
            store.commit(changes)
            recording.states.append(state)
            recording.returned.append(len(recording.ops))
            if number % MAINTAIN_EVERY == 0:
                store.maintain()
        store.close()
    return recording


def _work(chance: Random, state: State) -> tuple[list[Any], State]:
    """The changes of a commit, and what they make of the state before it."""
    changes: list[Any] = []
    commit, records, functions = state.commit, dict(state.records), dict(state.functions)
    for _ in range(chance.randint(1, 6)):
        commit += 1
        size = chance.choice((10, 200, 5_000, 40_000, 140_000, 300_000))
        # No two alike: a page of one must not be taken for a page of another.
        made = record_of(size + commit)
        changes.append(Append(commit, made))
        records[commit] = encode_record(made)
    if chance.random() < 0.5 and len(records) > 4:
        dead = chance.sample(list(records), len(records) // 3)
        changes.append(Delete(dead))
        for ref in dead:
            del records[ref]
    if chance.random() < 0.3:
        key = chance.randbytes(16)
        functions[key] = ("work", chance.randbytes(3_000))
        changes.append(PutFunction(key, *functions[key]))
    elif functions and chance.random() < 0.3:
        key = chance.choice(list(functions))
        del functions[key]
        changes.append(DropFunctions([key]))
    return changes, State(commit, records, functions)


# ------------------------------------------------------------ the power fails


def cut(recording: Recording, at: int, chance: Random, *, lying: bool = False) -> dict[str, bytes]:
    """The files after the power failed before operation ``at``.

    ``lying``: the disk does not do as it says: syncs are worth nothing.
    """
    kept = chance.choice(KEPT_SHARES)
    safe = {name: bytearray(data) for name, data in recording.files.items()}
    unsafe: list[Op] = []
    for op in recording.ops[:at]:
        if op.what != "sync":
            unsafe.append(op)
        elif not lying:
            for one in unsafe:
                if one.file == op.file:
                    _apply(safe, one)
            unsafe = [one for one in unsafe if one.file != op.file]
    for op in unsafe:
        for part in _sectors(op):
            if chance.random() < kept:
                _apply(safe, part)
    return {name: bytes(data) for name, data in safe.items()}


def _sectors(op: Op) -> Iterator[Op]:
    """The parts of an operation that a disk does whole."""
    if op.what != "write":
        yield op
        return
    start = op.at
    stop = op.at + len(op.data)
    while start < stop:
        end = min(stop, start - start % SECTOR_BYTES + SECTOR_BYTES)
        yield Op("write", op.file, start, op.data[start - op.at : end - op.at])
        start = end


def _apply(files: dict[str, bytearray], op: Op) -> None:
    data = files.setdefault(op.file, bytearray())
    if op.what == "truncate":
        data[op.at :] = bytes(max(0, op.at - len(data)))
        return
    if len(data) < op.at:
        data.extend(bytes(op.at - len(data)))
    data[op.at : op.at + len(op.data)] = op.data


# ------------------------------------------------------------ what is left


def state_of(folder: Path, files: dict[str, bytes]) -> State:
    """What a store makes of these files; raises ``StoreError`` if it refuses them."""
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    store = SqliteStore(folder / "farm.db", reserve_bytes=SECTOR_BYTES)
    opened = store.open(0, 0)
    try:
        records = {ref: encode_record(record) for ref, record in store.records()}
        functions = {key: (name, data) for key, name, data in store.functions()}
    finally:
        store.close()
    return State(opened.commit, records, functions)


def judge(recording: Recording, at: int, found: State) -> None:
    """Raises ``Broken`` unless a commit made this, and no earlier one than had returned."""
    least = sum(returned <= at for returned in recording.returned) - 1
    for state in recording.states[max(0, least) : least + 2]:
        if found == state:
            return
    last = recording.states[max(0, least)].commit
    raise Broken(f"cut before {at}: commit {found.commit} is there and {last} had returned")


def fail_power(
    recording: Recording,
    cuts: int,
    folder: Path,
    *,
    seed: int = 1,
    lying: bool = False,
    told: Callable[[str], None] = print,
) -> Counter[str]:
    """Fail so many times, anywhere; what came of it. Raises ``Broken``."""
    chance = Random(seed)
    counts: Counter[str] = Counter()
    for number in range(cuts):
        at = chance.randint(recording.returned[0], len(recording.ops))
        files = cut(recording, at, chance, lying=lying)
        try:
            found = state_of(folder / f"cut{number}", files)
        except StoreError as error:
            raise Broken(f"cut before {at}: refused: {error}") from error
        judge(recording, at, found)
        counts["recovered"] += 1
    return counts
