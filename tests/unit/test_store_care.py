"""Backup, check and restore of stores: whole, of one commit, and able to serve their old peers."""

import shutil
import sqlite3
import threading

import pytest

from farm.errors import StoreError, StoreLocked, StoreUnreadable
from farm.protocol.parts import Group
from farm.protocol.records import JobSealed, Restored, Submitted
from farm.store import Append, Delete, PutFunction, care, copying
from farm.store.sqlite import SqliteStore

S, F = b"s" * 16, b"f" * 16
LARGE = 300_000


def small(number):
    return JobSealed(S, number, 1)


def large(number, size=LARGE):
    return Submitted(S, 1.0, [Group(number, 1, F, [b"%09d" % number * (size // 9)], size // 9 * 9)])


@pytest.fixture
def store(tmp_path):
    """An open store with small and large rows and a function."""
    found = SqliteStore(tmp_path / "farm.db")
    found.open(0, 1000)
    found.commit([PutFunction(F, "f", b"code")])
    found.commit([Append(1, small(1)), Append(2, large(2)), Append(3, large(3))])
    found.commit([Delete([2])])
    found.commit([Append(4, small(4)), Append(5, large(5))])
    yield found
    found.close()


@pytest.fixture
def paths(tmp_path, store):
    return tmp_path / "farm.db", tmp_path / "copies" / "copy.db"


def content(path):
    store = SqliteStore(path)
    opened = store.open(0, 0)
    try:
        return opened, dict(store.records()), list(store.functions())
    finally:
        store.close()


def test_a_backup_of_a_store_in_use_is_a_store_of_the_same_content(paths, store):
    path, target = paths
    copied = care.backup(path, target)
    assert (copied.commit, copied.records, copied.large) == (5, 4, 2)
    store.commit([Append(6, large(6)), Delete([1, 3])])  # goes on, and changes nothing there
    opened, records, functions = content(target)
    assert records == {1: small(1), 3: large(3), 4: small(4), 5: large(5)}
    assert functions == [(F, "f", b"code")]
    assert opened.commit == 5
    assert not [one for one in target.parent.iterdir() if ".new" in one.name or "pin" in one.name]


def test_a_backup_is_refused_where_something_is(paths):
    path, target = paths
    care.backup(path, target)
    with pytest.raises(StoreError, match="exists"):
        care.backup(path, target)
    with pytest.raises(StoreUnreadable, match="cannot be read"):
        care.backup(path.with_name("none.db"), target.with_name("other.db"))


def test_a_store_that_nobody_has_open_is_backed_up_too(paths, store):
    path, target = paths
    store.close()
    care.backup(path, target)
    assert content(target)[1].keys() == {1, 3, 4, 5}
    assert not path.with_name("farm.db.lock").exists()


def test_the_commit_number_is_kept_where_the_last_rows_were_deleted(paths, store):
    path, target = paths
    store.commit([Append(9, small(9))])
    store.commit([Delete([9])])
    assert care.backup(path, target).commit == 9
    assert content(target)[0].commit == 9


def test_a_backup_under_load_is_of_one_commit(paths, store):
    """Each commit replaces a pair of large rows; any one commit has exactly one whole pair."""
    path, target = paths
    stop, refs = threading.Event(), [10, 11]
    store.commit([Append(10, large(10)), Append(11, large(11))])

    def write():
        while not stop.is_set():
            fresh = [refs[-1] + 1, refs[-1] + 2]
            store.commit([Delete(refs[:2]), *(Append(ref, large(ref)) for ref in fresh)])
            refs[:] = fresh

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(5):
            care.backup(path, target.with_name(f"{number}.db"))
    finally:
        stop.set()
        writer.join()
    for number in range(5):
        copy = target.with_name(f"{number}.db")
        assert care.check(copy).problems == []
        pair = [ref for ref in content(copy)[1] if ref >= 10]
        assert len(pair) == 2
        assert pair[1] == pair[0] + 1
        assert pair[0] % 2 == 0


def test_a_large_row_that_goes_while_it_is_copied_is_not_in_the_copy(paths, store, monkeypatch):
    path, target = paths
    read = copying.LargeRows.read_whole
    done = []

    def go_on(self, ref, place, size):
        if not done:
            done.append(ref)
            store.commit([Delete([3])])
            store.commit([Append(6, large(6))])  # where 3 was
        return read(self, ref, place, size)

    monkeypatch.setattr(copying.LargeRows, "read_whole", go_on)
    assert care.backup(path, target).commit == 6
    assert content(target)[1] == {1: small(1), 4: small(4), 5: large(5), 6: large(6)}


# ---------------------------------------------------------------- check


def test_a_whole_store_has_no_problems_whether_in_use_or_not(paths, store):
    path, _ = paths
    for _ in range(2):
        found = care.check(path)
        assert found.problems == []
        assert (found.records, found.large, found.functions, found.commit) == (4, 2, 1, 5)
        store.close()


def spoil(path, sql, *arguments):
    connection = sqlite3.connect(path)
    connection.execute(sql, arguments)
    connection.commit()
    connection.close()


def test_everything_that_is_wrong_is_named(paths, store):
    path, _ = paths
    store.close()
    spoil(path, "UPDATE journal SET data = ? WHERE ref = 1", b"\xc1")
    spoil(path, "UPDATE journal SET kind = 1 WHERE ref = 4")
    spoil(path, "UPDATE journal SET size = size - 1 WHERE ref = 5")
    problems = care.check(path).problems
    assert [text for text in problems if "record 1 cannot be read" in text]
    assert [text for text in problems if "record 4 is of kind 6, not 1" in text]
    assert [text for text in problems if "row 5 is not where it should be" in text]
    assert len(problems) == 3


def test_a_file_of_large_rows_that_is_missing_or_cut_is_named(paths, store):
    path, _ = paths
    store.close()
    rows = path.with_name("farm.db-large")
    with rows.open("r+b") as file:
        file.truncate(rows.stat().st_size - 1000)
    assert "row 3" in care.check(path).problems[0]  # the last in the file
    rows.unlink()
    assert len(care.check(path).problems) == 2


def test_a_page_that_was_overwritten_is_found(paths, store):
    path, _ = paths
    store.commit([Append(10 + n, small(n)) for n in range(3000)])
    store.close()
    with path.open("r+b") as file:
        file.seek(path.stat().st_size - 16_384)
        file.write(b"\xff" * 3000)
    assert care.check(path).problems


@pytest.mark.parametrize("data", [b"", b"something else" * 100])
def test_what_is_no_store_is_said_to_be_none(tmp_path, data):
    path = tmp_path / "farm.db"
    path.write_bytes(data)
    (problem,) = care.check(path).problems
    assert str(path) in problem


# ---------------------------------------------------------------- restore


def test_a_restored_store_has_another_identity_and_a_later_epoch(paths, store):
    path, target = paths
    care.backup(path, target)
    before = care.check(path).epoch
    store.close()
    old, _, _ = content(path)  # opened once more: its epoch is higher than the copy's
    made = care.restore(target, path, force=True)
    opened, records, functions = content(path)
    assert opened.store_id != old.store_id
    assert opened.epoch > made.epoch > old.epoch > before
    assert opened.commit == 6
    assert records == {
        1: small(1), 3: large(3), 4: small(4), 5: large(5), 6: Restored(made.epoch)
    }  # fmt: skip
    assert functions == [(F, "f", b"code")]


def test_what_was_there_is_kept_aside_and_can_be_opened(paths, store):
    path, target = paths
    care.backup(path, target)
    store.commit([Append(6, large(6))])
    store.close()
    made = care.restore(target, path, force=True)
    assert made.aside
    assert 6 in content(type(path)(made.aside))[1]


def test_a_store_is_not_overwritten_unasked_nor_in_use(paths, store):
    path, target = paths
    care.backup(path, target)
    for force in (False, True):
        with pytest.raises(StoreLocked):
            care.restore(target, path, force=force)
    store.close()
    with pytest.raises(StoreError, match="--force"):
        care.restore(target, path)
    path.unlink()  # what lies beside it is as good as a store
    with pytest.raises(StoreError, match="--force"):
        care.restore(target, path)


def test_a_damaged_copy_is_not_restored(paths, store):
    path, target = paths
    care.backup(path, target)
    store.close()
    spoil(target, "UPDATE journal SET data = ? WHERE ref = 1", b"\xc1")
    with pytest.raises(StoreUnreadable, match="record 1"):
        care.restore(target, path, force=True)
    assert content(path)[1].keys() == {1, 3, 4, 5}
    with pytest.raises(StoreError, match="no store"):
        care.restore(target.with_name("none"), path)


def test_a_copy_can_be_restored_to_another_place_with_room_for_epochs_nobody_recorded(
    paths, store, monkeypatch
):
    path, target = paths
    care.backup(path, target)
    monkeypatch.setattr(care.time, "time_ns", lambda: 0)  # a clock that is far behind
    made = care.restore(target, target.with_name("elsewhere.db"))
    assert made.aside == ""
    assert made.epoch == care.check(path).epoch + care.EPOCH_MARGIN


def test_a_failed_backup_leaves_nothing(paths, store, monkeypatch):
    path, target = paths
    spoil_later = copying.LargeRows.sync

    def fail(self):
        spoil_later(self)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(copying.LargeRows, "sync", fail)
    with pytest.raises(StoreError, match="No space"):
        care.backup(path, target)
    assert list(target.parent.iterdir()) == []
    shutil.rmtree(target.parent)


def test_an_epoch_that_was_heard_of_is_not_used_again(paths, store):
    path, _ = paths
    store.note_epoch(1 << 50)
    store.note_epoch(5)
    store.close()
    assert content(path)[0].epoch == (1 << 50) + 1
