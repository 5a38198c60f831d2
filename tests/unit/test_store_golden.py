"""Journals of every released format are read, record by record, as they were written."""

import shutil
import sqlite3

import pytest

from farm.store.sqlite import SqliteStore
from tests.golden import make_journal
from tests.golden.make_journal import COMMIT, EPOCH, FOLDER, FUNCTIONS, NAMES, RECORDS, STORE_ID


@pytest.fixture
def path(tmp_path):
    for name in NAMES:
        shutil.copyfile(FOLDER / name, tmp_path / name)
    return tmp_path / NAMES[0]


def test_the_journal_of_version_1_gives_exactly_what_was_put_in(path):
    store = SqliteStore(path)
    opened = store.open(0, 0)
    assert opened.epoch == EPOCH + 1
    assert opened.store_id == STORE_ID
    assert opened.commit == COMMIT
    assert list(store.functions()) == FUNCTIONS
    assert dict(store.records()) == RECORDS
    assert {ref: store.read(ref) for ref in RECORDS} == RECORDS
    store.close()


def test_every_kind_of_record_is_in_it(path):
    connection = sqlite3.connect(path)
    kinds = {kind for (kind,) in connection.execute("SELECT kind FROM journal")}
    connection.close()
    assert kinds == set(range(1, 10))


def test_the_script_that_made_it_makes_one_that_reads_the_same(path, tmp_path):
    """Not to the byte: fields that were appended since are written by now, with their defaults."""
    again = tmp_path / "again"
    again.mkdir()
    make_journal.make(again)
    found = []
    for folder in (tmp_path, again):
        store = SqliteStore(folder / NAMES[0])
        opened = store.open(0, 0)
        found.append((opened, list(store.records()), list(store.functions())))
        store.close()
    assert found[0] == found[1]
