"""Blobs in backups, checks and restored stores: those that records need, whole, and no others."""

import os

import pytest

from farm.errors import StoreUnreadable
from farm.model import BLOB_BYTES, Blob, Ending
from farm.protocol.parts import Failure, Group, Result
from farm.protocol.records import Arguments, Buried, Finished, Submitted
from farm.store import Append, Delete, care, copying
from farm.store.blob_files import BlobFiles
from farm.store.sqlite import SqliteStore

S, F = b"s" * 16, b"f" * 16
SIZE = BLOB_BYTES + 5
DEATH = Failure("signal", "it was killed")


def blob(name):
    return Blob(f"kept/{name}", SIZE)


def submitted(first, *names, count=1, packed=False):
    payloads = [blob(name) if name else b"" for name in names]
    count = count if packed else len(names)
    return Submitted(S, 1.0, [Group(first, count, F, payloads, sum(map(len, payloads)), packed)])


def finished(first, *names, ending=Ending.OK, count=1, packed=False):
    payloads = [blob(name) if name else b"" for name in names]
    count = count if packed else len(names)
    entry = Result(S, first, count, ending, payloads, sum(map(len, payloads)), packed)
    return Finished(2.0, [entry])


def buried(counter, name):
    return Buried(2.0, S, Group(counter, 1, F, [blob(name)], SIZE), "", [DEATH])


def in_common(first, count, name):
    return Arguments(S, Group(first, count, F, [blob(name)], SIZE, packed=True))


# ---------------------------------------------------------------- what is needed


@pytest.mark.parametrize(
    ("records", "needed"),
    [
        ([submitted(1, "a", "", "b")], "ab"),
        ([submitted(1, "a", "b"), finished(1, "")], "b"),
        ([submitted(1, "a", "b"), finished(1, "r", "")], "r"),
        ([submitted(1, "a", packed=True, count=3), finished(1, "r", packed=True, count=2)], "ar"),
        ([submitted(1, "a", packed=True, count=2), finished(1, "r", packed=True, count=2)], "r"),
        ([submitted(1, "a"), finished(1, "", ending=Ending.LOST), buried(1, "a")], "a"),
        ([submitted(2, "a"), finished(1, "r", "s")], "s"),
        ([finished(1, "r")], ""),
        ([buried(1, "a")], "a"),
        ([in_common(1, 3, "a")], "a"),
    ],
)
def test_a_blob_is_needed_by_what_is_open_kept_or_dead(records, needed):
    files = BlobFiles()
    for ref, record in enumerate(records):
        files.add(ref, record)
    found = files.needed(range(len(records)))
    assert sorted(found) == sorted(needed)
    assert {size for _, size in found.values()} <= {SIZE}


def test_records_that_are_gone_need_nothing_and_say_nothing():
    files = BlobFiles()
    files.add(1, submitted(1, "a"))
    files.add(2, finished(1, "r"))
    assert files.needed({1, 2}) == {"r": (2, SIZE)}
    assert files.needed({1}) == {"a": (1, SIZE)}
    assert files.needed(set()) == {}


def test_a_result_is_needed_as_long_as_a_task_that_ends_as_that_one_is_there():
    files = BlobFiles()
    alike = Submitted(b"o" * 16, 1.0, [Group(9, 1, F, [], 0, same=(S, 1))])
    files.add(1, submitted(1, "a"))
    files.add(2, finished(1, "r"))
    files.add(3, alike)
    assert files.needed({1, 2, 3}) == files.needed({2, 3}) == {"r": (2, SIZE)}
    assert files.needed({2}) == {}


def test_so_are_those_of_a_run_of_tasks_but_for_one_that_was_cancelled_by_itself():
    files = BlobFiles()
    files.add(1, Submitted(S, 1.0, [Group(7, 3, F, [], 0, same=(S, 1))]))
    files.add(2, finished(8, "", ending=Ending.CANCELLED))
    files.add(3, finished(1, "r", "s", "t"))
    assert files.needed({1, 2, 3}) == {"r": (3, SIZE), "t": (3, SIZE)}


# ---------------------------------------------------------------- backup


@pytest.fixture
def store(tmp_path):
    found = SqliteStore(tmp_path / "farm.db")
    found.open(0, 1000)
    yield found
    found.close()


@pytest.fixture
def paths(tmp_path, store):
    return tmp_path / "farm.db", tmp_path / "copies" / "copy.db"


@pytest.fixture
def kept(tmp_path):
    """The files that the coordinator has names for."""
    folder = tmp_path / "farm.db-blobs" / "kept"
    (folder.parent / "free").mkdir(parents=True)
    folder.mkdir()
    return folder


def write(folder, name, size=SIZE):
    (folder / name).write_bytes(name[:1].encode() * size)


def names(path):
    return {one.name: one.read_bytes() for one in path.with_name(f"{path.name}-blobs").glob("*/*")}


def test_blobs_are_copied_with_the_records_that_need_them(paths, store, kept):
    path, target = paths
    for name in ("a", "r", "stale"):
        write(kept, name)
    write(kept, "b", SIZE + 1000)  # the file was written before, and was longer
    store.commit([Append(1, submitted(1, "over", "a", "b")), Append(2, finished(1, "r"))])
    assert care.backup(path, target).files == 3
    assert names(target) == {name: name.encode() * SIZE for name in ("a", "b", "r")}
    assert target.with_name("copy.db-blobs").stat().st_mode & 0o777 == 0o700
    assert sorted(one.name for one in kept.iterdir()) == ["a", "b", "r", "stale"]
    assert care.check(path).problems == care.check(target).problems == []
    assert care.check(target).files == 3
    assert sorted(one.name for one in target.parent.iterdir()) == ["copy.db", "copy.db-blobs"]
    write(kept, "a", 1)
    assert names(target)["a"] == b"a" * SIZE


def test_a_file_that_is_written_again_while_it_is_copied_is_not_in_the_copy(
    paths, store, kept, monkeypatch
):
    path, target = paths
    write(kept, "a")
    write(kept, "b")
    store.commit([Append(1, submitted(1, "a", "b"))])
    fstat, done = os.fstat, []

    def go_on(fd):
        found = fstat(fd)
        if not done and found.st_size == SIZE:  # all of it is read: by now it is another's
            done.append(os.path.samestat(found, (kept / "a").stat()))
            store.commit([Append(2, finished(1 if done[0] else 2, ""))])
            name = "a" if done[0] else "b"
            (kept / name).rename(kept.parent / "free" / "1")
            (kept.parent / "free" / "1").write_bytes(b"x" * SIZE)
        return found

    monkeypatch.setattr(copying.os, "fstat", go_on)
    copied = care.backup(path, target)
    assert done
    assert (copied.commit, copied.files) == (2, 1)
    left = "b" if done[0] else "a"
    assert names(target) == {left: left.encode() * SIZE}


def test_files_that_came_and_went_between_two_looks_are_not_in_the_copy(
    paths, store, kept, monkeypatch
):
    path, target = paths
    write(kept, "a")
    write(kept, "b")
    store.commit([Append(1, submitted(1, "a")), Append(2, submitted(2, "b"))])
    copy_file, done = copying._copy_file, []

    def go_on(source, size, to):
        made = copy_file(source, size, to)
        if not done:  # what is copied is over, and what is not copied yet is, too
            done.append(source.name)
            write(kept, "c")
            store.commit([Delete([1, 2]), Append(3, submitted(3, "c"))])
            (kept / "a").unlink()
            (kept / "b").unlink()
        return made

    monkeypatch.setattr(copying, "_copy_file", go_on)
    assert care.backup(path, target).commit == 3
    assert names(target) == {"c": b"c" * SIZE}


@pytest.mark.parametrize("size", [None, 100])
def test_a_store_that_has_lost_a_blob_is_not_copied(paths, store, kept, size):
    path, target = paths
    if size:
        write(kept, "a", size)
    store.commit([Append(7, submitted(1, "a"))])
    with pytest.raises(StoreUnreadable, match=r"record 7 needs .*kept/a, which is not whole"):
        care.backup(path, target)
    assert list(target.parent.iterdir()) == []


# ---------------------------------------------------------------- check


def test_files_that_are_gone_or_cut_short_are_named(paths, store, kept):
    path, _ = paths
    write(kept, "a", SIZE - 1)
    store.commit([Append(6, submitted(1, "a")), Append(7, submitted(2, "c"))])
    store.commit([Append(8, submitted(3, "over")), Append(9, finished(3, "r"))])
    write(kept, "r")
    found = sorted(care.check(path).problems)
    assert len(found) == 2
    assert f"kept/a, which record 6 names, has {SIZE - 1} of {SIZE} bytes" in found[0]
    assert "kept/c, which record 7 names: No such file" in found[1]


def test_a_file_that_goes_while_the_store_is_checked_is_no_problem(paths, store, kept, monkeypatch):
    path, _ = paths
    write(kept, "a")
    store.commit([Append(1, submitted(1, "a"))])
    problem_of = care._Check._problem_of

    def go_on(self, *file):
        if (kept / "a").exists():
            store.commit([Append(2, finished(1, ""))])
            (kept / "a").unlink()
        return problem_of(self, *file)

    monkeypatch.setattr(care._Check, "_problem_of", go_on)
    assert care.check(path).problems == []


# ---------------------------------------------------------------- restore


def test_blobs_are_restored_with_the_store_and_the_others_kept_aside(paths, store, kept, tmp_path):
    path, target = paths
    write(kept, "a")
    store.commit([Append(6, submitted(1, "a"))])
    care.backup(path, target)
    store.commit([Append(7, submitted(2, "b"))])
    write(kept, "b")
    store.close()
    peer = kept.parent / "peers"
    peer.mkdir()
    made = care.restore(target, path, force=True)
    assert names(path) == {"a": b"a" * SIZE}
    aside = tmp_path / f"{made.aside}-blobs" / "kept"
    assert sorted(one.name for one in aside.iterdir()) == ["a", "b"]
    assert peer.exists()  # those who are there stay
    assert not [one for one in tmp_path.iterdir() if ".new" in one.name]
    assert care.check(path).problems == []


def test_a_copy_without_blobs_takes_the_place_of_a_store_with_some(paths, store, kept, tmp_path):
    path, target = paths
    care.backup(path, target)
    store.commit([Append(6, submitted(1, "a"))])
    write(kept, "a")
    store.close()
    made = care.restore(target, path, force=True)
    assert not kept.exists()
    assert (tmp_path / f"{made.aside}-blobs" / "kept" / "a").exists()
