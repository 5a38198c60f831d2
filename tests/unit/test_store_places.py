"""Stores that are named by links, and what lies beside them that should not."""

import pytest

from farm.errors import StoreError, StoreLocked, StoreUnreadable
from farm.store import Append, care
from farm.store.copying import viewing
from farm.store.files import beside
from farm.store.sqlite import SqliteStore
from tests.unit.store_records import record_of

LARGE = 300_000


@pytest.fixture
def path(tmp_path):
    """A store with a row, which is closed."""
    path = tmp_path / "state" / "farm.db"
    store = SqliteStore(path)
    store.open(0, 0)
    store.commit([Append(1, record_of(100))])
    store.close()
    return path


def test_a_store_is_the_same_by_whatever_link_it_is_named(path, tmp_path):
    link = tmp_path / "link.db"
    link.symlink_to(path)
    store = SqliteStore(link)
    store.open(0, 0)
    with pytest.raises(StoreLocked):
        SqliteStore(path).open(0, 0)
    store.commit([Append(2, record_of(LARGE))])
    assert care.check(path).problems == care.check(link).problems == []
    care.backup(link, tmp_path / "copy.db")
    store.close()
    again = SqliteStore(path)
    again.open(0, 0)
    assert again.read(2) == record_of(LARGE)
    again.close()
    care.restore(tmp_path / "copy.db", link, force=True)
    assert link.resolve() == path
    assert care.check(path).problems == []


@pytest.mark.parametrize("left", [b"", bytes(4096)], ids=["nothing", "zeros"])
def test_a_file_of_large_rows_whose_making_a_power_cut_ended_is_made_anew(path, left):
    path.with_name("farm.db-large").write_bytes(left)
    for ref in (2, 3):
        store = SqliteStore(path)
        store.open(0, 0)
        store.commit([Append(ref, record_of(LARGE))])
        assert store.read(2) == record_of(LARGE)
        store.close()
    path.with_name("farm.db-large").write_bytes(left)
    with pytest.raises(StoreUnreadable, match="row 2"):
        SqliteStore(path).open(0, 0)


def test_a_backup_is_refused_where_the_log_of_another_store_lies(path, tmp_path):
    other = SqliteStore(tmp_path / "other.db")
    other.open(0, 0)
    other.commit([Append(7, record_of(100))])
    target = tmp_path / "copy.db"
    log = tmp_path / "copy.db-wal"
    log.write_bytes((tmp_path / "other.db-wal").read_bytes())
    other.close()
    with pytest.raises(StoreError, match="-wal exists"):
        care.backup(path, target)
    log.unlink()
    care.backup(path, target)
    assert care.check(target).records == 1


def test_a_view_leaves_the_shared_memory_to_a_coordinator_that_began_meanwhile(path, tmp_path):
    store = SqliteStore(path)
    store.open(0, 0)
    store.commit([Append(2, record_of(100))])
    crashed = tmp_path / "crashed.db"
    for suffix in ("", "-wal"):
        beside(crashed, suffix).write_bytes(beside(path, suffix).read_bytes())
    store.close()
    again = SqliteStore(crashed)
    with viewing(crashed):
        again.open(0, 0)
    assert beside(crashed, "-shm").exists()
    again.close()
