"""Commits that only add rows, of which a few go by one statement."""

import pytest

from farm.store import Append, Delete, StoreFailed
from farm.store.large import LARGE_BYTES
from farm.store.sqlite import _STATEMENT_ROWS, SqliteStore
from tests.unit.store_records import record_of


def read(path):
    """The refs of a store that is opened anew, and its commit number."""
    store = SqliteStore(path)
    opened = store.open(0, 1)
    try:
        return [ref for ref, _ in store.records()], opened.commit
    finally:
        store.close()


@pytest.fixture
def store(tmp_path):
    store = SqliteStore(tmp_path / "farm.db")
    store.open(0, 1)
    yield store
    store.close()


def test_a_commit_of_any_number_of_rows_is_whole(tmp_path, store):
    ref = 0
    for rows in range(1, _STATEMENT_ROWS + 3):
        size = LARGE_BYTES if rows == 2 else rows
        store.commit([Append(ref + n, record_of(size)) for n in range(1, rows + 1)])
        ref += rows
    store.commit([Delete([ref])])
    store.close()
    assert read(tmp_path / "farm.db") == (list(range(1, ref)), ref)


@pytest.mark.parametrize("rows", [2, _STATEMENT_ROWS, _STATEMENT_ROWS + 1])
def test_of_a_commit_that_failed_nothing_is_there(tmp_path, store, rows):
    store.commit([Append(rows, record_of(1))])
    with pytest.raises(StoreFailed):  # the last of them is there already
        store.commit([Append(ref, record_of(1)) for ref in range(1, rows + 1)])
    store.close()
    assert read(tmp_path / "farm.db") == ([rows], rows)
