"""The SQLite store: refusals that touch nothing, full disks, files that stay bounded."""

import errno
import os
import sqlite3
import stat
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from farm.errors import StoreError, StoreLocked, StoreUnreadable
from farm.model import Ending
from farm.protocol.parts import Group, Result
from farm.protocol.records import Finished, Submitted, encode_record
from farm.store import Append, Delete, StoreFailed, StoreFull, StoreStalled, upkeep
from farm.store import sqlite as sqlite_module
from farm.store.sqlite import SqliteStore
from tests.unit.store_records import SESSION, record_of, snapshot, submitted

PAGE = 16384
LARGE = 300_000


OPEN_LOCKED = """
import sys, pathlib, farm.errors, farm.store.sqlite
try:
    farm.store.sqlite.SqliteStore(pathlib.Path(sys.argv[1])).open(0, 0)
except farm.errors.StoreLocked as locked:
    print(locked)
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "farm.db"


@pytest.fixture
def store(path):
    store = SqliteStore(path)
    store.open(0, 0)
    yield store
    store.close()


def fill(path: Path, rows: int = 60, size: int = 3000) -> None:
    store = SqliteStore(path)
    store.open(0, 0)
    store.commit([Append(ref, record_of(size)) for ref in range(1, rows + 1)])
    store.close()


def refused(path: Path, kind: type[StoreError] = StoreUnreadable) -> str:
    before = snapshot(path.parent)
    with pytest.raises(kind) as refusal:
        SqliteStore(path).open(0, 0)
    assert snapshot(path.parent) == before
    assert str(path) in str(refusal.value)
    return str(refusal.value)


def overwrite(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def test_everything_is_private_to_its_owner(path, store):
    store.commit([Append(1, record_of(LARGE))])
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    files = sorted(path.parent.iterdir())
    assert [file.name.removeprefix("farm.db") for file in files] == [
        "", "-large", "-shm", "-wal", ".lock", ".reserve",
    ]  # fmt: skip
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_a_closed_store_is_its_rows_and_nothing_else(path, store):
    store.commit([Append(1, record_of(10))])
    store.close()
    assert [file.name for file in path.parent.iterdir()] == ["farm.db"]


def test_the_settings_that_durability_rests_on(path, store):
    for name, value in {"synchronous": 2, "journal_mode": "wal", "auto_vacuum": 2}.items():
        assert store._writer.execute(f"PRAGMA {name}").fetchone() == (value,)


@pytest.mark.parametrize("content", [b"", b"SQLite", b"hello\n" * 999, b"SQLite format 3\0" * 2])
def test_a_file_that_is_no_store_is_refused(path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    refused(path)


def test_a_folder_is_refused(path):
    path.mkdir(parents=True)
    refused(path)


def test_another_programs_database_is_refused(path):
    path.parent.mkdir()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE notes (text)")
    connection.close()
    assert "another program" in refused(path)


def test_a_newer_store_is_refused(path):
    fill(path)
    overwrite(path, 60, struct.pack(">I", 2))
    assert "upgrade" in refused(path)


@pytest.mark.parametrize("size", [50, 4096, PAGE, PAGE * 7, -1])
def test_a_truncated_store_is_refused(path, size):
    fill(path)
    os.truncate(path, size if size >= 0 else path.stat().st_size - 1)
    assert "backup" in refused(path)


@pytest.mark.parametrize("junk", [bytes(PAGE), b"\xff" * PAGE])
def test_a_corrupt_page_is_refused(path, junk):
    fill(path)
    pages = path.stat().st_size // PAGE
    for page in range(pages):
        whole = path.read_bytes()
        # The first page keeps its header, for it would be no store at all without.
        at, data = (page * PAGE, junk) if page else (100, junk[100:])
        # A free page, or one of the map of pages, may hold anything as far as we care.
        if whole[at : at + len(data)] != data:
            overwrite(path, at, data)
            assert "damaged" in refused(path)
            path.write_bytes(whole)


def test_a_corrupt_page_is_refused_when_a_log_is_there_too(path, store):
    store.commit([Append(ref, record_of(3000)) for ref in range(1, 60)])
    store.maintain()
    store._upkeep.checkpoint()
    store.commit([Append(60, record_of(10))])
    copy = path.parent.parent / "copy"
    copy.mkdir()
    for suffix in ("", "-wal"):
        (copy / f"farm.db{suffix}").write_bytes((path.parent / f"farm.db{suffix}").read_bytes())
    overwrite(copy / "farm.db", PAGE * 9, b"\xff" * PAGE)
    assert "damaged" in refused(copy / "farm.db")


def test_what_a_killed_process_committed_is_there(path, store):
    store.commit([Append(1, record_of(LARGE)), Append(2, record_of(5))])
    copy = path.parent.parent / "copy"
    copy.mkdir()
    for file in path.parent.iterdir():
        if not file.name.endswith(("-shm", ".lock")):
            (copy / file.name).write_bytes(file.read_bytes())
    again = SqliteStore(copy / "farm.db")
    assert again.open(0, 0).commit == 2
    assert list(again.records()) == [(1, record_of(LARGE)), (2, record_of(5))]
    again.close()


def test_missing_large_rows_are_refused(path, store):
    store.commit([Append(1, record_of(LARGE)), Append(2, record_of(LARGE + 1))])
    store.close()
    large = path.with_name("farm.db-large")
    whole = large.read_bytes()
    for change in (
        large.unlink,
        lambda: os.truncate(large, len(whole) - PAGE),
        lambda: overwrite(large, 4096, bytes(40)),
        lambda: overwrite(large, 16, bytes(16)),
    ):
        change()
        assert "large rows" in refused(path)
        large.write_bytes(whole)
    again = SqliteStore(path)
    again.open(0, 0)
    assert len(list(again.records())) == 2
    again.close()


@pytest.mark.parametrize("suffix", ["-wal", "-large"])
def test_companions_of_a_store_that_is_gone_are_not_taken_for_ours(path, suffix):
    path.parent.mkdir()
    path.with_name("farm.db" + suffix).write_bytes(b"x")
    assert "missing" in refused(path)


@pytest.mark.parametrize(
    "data",
    [
        b"\x93c",
        b"\x94\x05\xcb" + bytes(8) + b"\xc4\x01s\x01\xa1\xff",
        b"\x93\x01\xc4\x01s" + b"\x91" * 9_000,
        encode_record(Submitted(SESSION, 1.5, [Group(1, 1 << 40, b"f", [b"x"], 1)])),
        encode_record(Finished(1.5, [Result(SESSION, 1, 3, Ending.OK, [b"x"], 1)])),
    ],
    ids=["another release", "no text", "nested", "more tasks than payloads", "too few values"],
)
def test_a_row_that_makes_no_sense_is_refused_by_name(path, data):
    fill(path)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE journal SET data = ? WHERE ref = 7", (data,))
    connection.commit()
    connection.close()
    store = SqliteStore(path)
    store.open(0, 0)
    with pytest.raises(StoreUnreadable, match="7"):
        list(store.records())
    store.close()


def test_an_interrupted_making_leaves_nothing_in_the_way(path):
    path.parent.mkdir()
    path.with_name("farm.db.new").write_bytes(b"half")
    fill(path)
    assert [file.name for file in path.parent.iterdir()] == ["farm.db"]


def test_a_second_coordinator_is_refused_and_told_the_process(path, store):
    other = subprocess.run(
        [
            sys.executable,
            "-c",
            OPEN_LOCKED,
            str(path),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert f"process {os.getpid()}" in other.stdout
    assert str(path) in other.stdout
    with pytest.raises(StoreLocked):
        SqliteStore(path).open(0, 0)
    store.commit([Append(1, record_of(10))])


def test_a_network_file_system_is_refused(path, tmp_path):
    mounts = tmp_path / "mounts"
    mounts.write_text(f"server:/x {tmp_path} nfs4 rw 0 0\n")
    with pytest.raises(StoreError, match="nfs4"):
        SqliteStore(path, mounts=mounts).open(0, 0)
    assert not path.parent.exists()


def test_a_full_disk_stalls_and_the_same_commit_succeeds_later(path, store):
    batch = [Append(ref, record_of(60_000)) for ref in range(1, 20)]
    batch += [Append(ref, record_of(LARGE)) for ref in (20, 21)]
    pages = store._writer.execute("PRAGMA page_count").fetchone()[0]
    store._writer.execute(f"PRAGMA max_page_count = {pages + 5}")
    for _ in range(2):
        with pytest.raises(StoreFull, match="full"):
            store.commit(batch)
        assert list(store.records()) == []
        assert store.short
        assert store.wants_maintenance
        assert not path.with_name("farm.db.reserve").exists()
    store._writer.execute("PRAGMA max_page_count = 1000000")
    store.commit(batch)
    assert [ref for ref, _ in store.records()] == list(range(1, 22))
    store.maintain()
    assert store.short == ""
    assert path.with_name("farm.db.reserve").stat().st_size == 16 << 20


def test_a_full_disk_under_a_large_row_stalls(store, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwritev", full)
        with pytest.raises(StoreFull):
            store.commit([Append(1, record_of(5)), Append(2, record_of(LARGE))])
    assert list(store.records()) == []
    store.commit([Append(1, record_of(5)), Append(2, record_of(LARGE))])
    assert store.read(2) == record_of(LARGE)


def test_a_failed_sync_is_final(store, monkeypatch):
    def failed(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", failed)
        with pytest.raises(StoreFailed):
            store.commit([Append(1, record_of(LARGE))])
    with pytest.raises(StoreFailed, match="synced"):
        store.commit([Append(1, record_of(5))])


def test_another_programs_write_lock_stalls(path, store):
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreStalled, match="locked"):
        store.commit([Append(1, record_of(5))])
    other.execute("ROLLBACK")
    other.close()
    store.commit([Append(1, record_of(5))])


def test_commits_go_over_blocks_that_the_log_has(path, store):
    """To lengthen a file costs a commit about as much again, and more where others write."""
    wal = path.with_name("farm.db-wal")
    refs = iter(range(1, 1_000_000))
    for expected in (2 << 20, 24 << 20, 24 << 20):
        assert wal.stat().st_size == expected
        while not store.wants_maintenance:
            store.commit([Append(next(refs), record_of(10))])
        assert wal.stat().st_size == expected
        store.maintain()


def test_a_log_is_not_laid_out_where_space_is_scarce(path, monkeypatch):
    free = os.statvfs(path.parent.parent)
    scarce = os.statvfs_result(
        (*free[:2], *(0, (7 << 20) // free.f_frsize, (7 << 20) // free.f_frsize), *free[5:])
    )
    monkeypatch.setattr(os, "statvfs", lambda _path: scarce)
    store = SqliteStore(path)
    store.open(0, 0)
    store.commit([Append(1, record_of(10))])
    assert path.with_name("farm.db-wal").stat().st_size < 1 << 20
    store.close()


def test_a_log_that_is_never_emptied_stays_bounded(path, store, monkeypatch):
    monkeypatch.setattr(sqlite_module, "_WAL_BYTES_MAX", 4 << 20)
    wal = path.with_name("farm.db-wal")

    def replace(refs):
        for ref in refs:  # and nobody calls maintain()
            store.commit([Append(ref, record_of(100_000)), Delete([ref - 1])])

    for ref in range(1, 300):
        replace([ref])
        assert wal.stat().st_size < 5 << 20
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM journal").fetchall()
    with pytest.raises(StoreStalled, match="another program"):
        replace(range(300, 500))
    reader.close()
    store.commit([Append(500, record_of(10))])


@pytest.mark.slow
def test_under_steady_load_with_one_row_that_never_ends_the_files_stay_bounded(path, store):
    store.commit([Append(1, submitted(1, b"never ends"))])
    alive, per_commit = 2_000, 500
    sizes = []
    for start in range(2, 100_002, per_commit):
        changes = [Append(ref, record_of(60)) for ref in range(start, start + per_commit)]
        dead = range(max(2, start - alive), max(2, start - alive + per_commit))
        store.commit([*changes, Delete(dead)])
        if store.wants_maintenance:
            store.maintain()
            sizes.append(sum(file.stat().st_size for file in path.parent.iterdir()))
    assert len(sizes) > 10
    assert max(sizes[len(sizes) // 2 :]) < 1.1 * max(sizes[: len(sizes) // 2])
    assert max(sizes) < 100 << 20
    assert store.read(1) == submitted(1, b"never ends")


def test_freed_space_goes_back_to_the_file_system(path, store):
    store.commit([Append(1, submitted(1, b"never ends"))])
    for ref in range(2, 502):
        store.commit([Append(ref, record_of(100_000))])
    store.maintain()
    assert path.stat().st_size > 50_000_000
    store.commit([Delete(range(2, 502))])
    assert store.wants_maintenance
    store.maintain()
    assert path.stat().st_size < 20 << 20
    assert not store.wants_maintenance
    assert store.read(1) == submitted(1, b"never ends")


def test_a_large_row_that_was_moved_is_freed_where_it_is(store, monkeypatch):
    monkeypatch.setattr(upkeep, "_LARGE_SLACK_BYTES", 0)
    store.commit([Append(ref, record_of(LARGE)) for ref in range(1, 11)])
    store.commit([Delete(range(1, 10))])
    store.maintain()  # the last one moves down
    store.commit([Append(ref, record_of(LARGE)) for ref in range(11, 31)])  # one where it was
    store.commit([Delete([10])])
    store.commit([Append(ref, record_of(LARGE)) for ref in range(31, 34)])
    left = [*range(11, 34)]
    assert list(store.records()) == [(ref, record_of(LARGE)) for ref in left]
    store.commit([Delete(left)])
    assert (store._large.live_bytes, store._large.file_bytes) == (0, 4096)


def test_large_rows_give_their_space_back_even_below_one_that_never_ends(path, store):
    large = path.with_name("farm.db-large")
    store.commit([Append(ref, record_of(1 << 20)) for ref in range(1, 201)])
    store.commit([Delete(range(1, 200))])
    store.maintain()
    assert large.stat().st_size < 40 << 20
    assert store.read(200) == record_of(1 << 20)
    store.close()
    again = SqliteStore(path)
    assert again.open(0, 0).commit == 200
    assert list(again.records()) == [(200, record_of(1 << 20))]
    again.close()


def test_large_rows_use_freed_space_again(path, store):
    large = path.with_name("farm.db-large")
    for ref in range(1, 100):
        store.commit([Append(ref, record_of(LARGE + ref * 97)), Delete([ref - 3])])
    assert large.stat().st_size < 8 * LARGE
    assert [ref for ref, _ in store.records()] == [97, 98, 99]
    assert store.read(98) == record_of(LARGE + 98 * 97)
