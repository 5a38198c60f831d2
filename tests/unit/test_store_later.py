"""Heads of records whose tasks start much later: what they say, and when there is none."""

import sqlite3
import sys

import pytest

from farm.cli import main
from farm.core.stored import Stored
from farm.model import BLOB_BYTES, SPAN_MAX, Blob
from farm.protocol.parts import Group, Template
from farm.protocol.records import JobOpened, Submitted, encode_record
from farm.store import Append, Delete
from farm.store.care import check
from farm.store.later import head_of, record_of
from farm.store.queries import load_queries
from farm.store.sqlite import SqliteStore

SESSION, FUNCTION = b"s" * 16, b"f" * 16
AT, HOUR = 1_750_000_000.0, 3600.0
BLOB = Blob("kept/1", BLOB_BYTES)


def group(first, payloads, **options):
    size = sum(map(len, payloads))
    template = Template(**options) if options else None
    return Group(first, len(payloads), FUNCTION, payloads, size, template=template)


def submitted(*groups):
    return Submitted(SESSION, AT, list(groups))


LATER = submitted(
    group(1, [b"x" * 5000] * 3, delay=HOUR),
    group(4, [b"", b"y" * 7000, BLOB], eta=AT + 2 * HOUR),
    group(7, [b"", b""], delay=HOUR),
)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "state"


def opened(folder):
    store = SqliteStore(folder / "farm.db", reserve_bytes=4096)
    store.open(0, 1)
    return store


def bare(record):
    """What a record says, and of which sizes its payloads are."""
    said = [
        (g.first, g.count, g.size, g.template, list(map(len, g.payloads))) for g in record.groups
    ]
    return record.session, record.at, said


def test_a_head_has_everything_but_the_bytes_of_arguments():
    due, head = head_of(LATER, len(encode_record(LATER)))
    assert due == int((AT + HOUR) * 1000)
    assert len(head) < 1000
    found = record_of(head)
    assert bare(found) == bare(LATER)
    assert all(isinstance(one, Stored) for one in found.groups[0].payloads)
    empty, missing, blob = found.groups[1].payloads
    assert (empty, blob) == (b"", BLOB)
    assert isinstance(missing, Stored)


@pytest.mark.parametrize(
    "record",
    [
        submitted(group(1, [b"x" * 5000])),
        submitted(group(1, [b"x" * 5000], delay=30.0)),
        submitted(group(1, [b"x" * 5000], delay=HOUR), group(2, [b"x" * 5000])),
        submitted(group(1, [b"x"], delay=HOUR)),
        JobOpened(AT, SESSION, 1, "x" * 5000),
    ],
    ids=["at once", "soon", "one of them at once", "nothing would be won", "no tasks"],
)
def test_what_has_no_head(record):
    assert head_of(record, len(encode_record(record))) is None


@pytest.mark.parametrize("head", [b"", b"\xc1", b"\x92\xc4\x00\x90", b"\x92\xc4\x01\x01\x90"])
def test_what_is_no_head_is_told_from_one(head):
    assert record_of(head) is None


def test_a_start_reads_heads_and_all_else_the_records(folder):
    store = opened(folder)
    large = submitted(group(1, [b"x" * 300_000], delay=HOUR))
    near = submitted(group(1, [b"z" * 5000]))
    store.commit([Append(1, LATER), Append(2, near), Append(3, large)])
    for _ in range(2):
        light = dict(store.records(light=True))
        assert bare(light[1]) == bare(LATER)
        assert isinstance(light[3].groups[0].payloads[0], Stored)
        assert light[2] == near
        assert dict(store.records()) == {1: LATER, 2: near, 3: large}
        assert store.read(1) == LATER
        store.close()
        store = opened(folder)
    store.close()


def test_a_start_reads_the_record_where_the_head_is_damaged_or_gone(folder):
    store = opened(folder)
    large = submitted(group(1, [b"x" * 300_000], delay=HOUR))
    store.commit([Append(1, LATER), Append(2, large)])
    store.close()
    with sqlite3.connect(folder / "farm.db") as file:
        file.execute("UPDATE later SET head = x'c1' WHERE ref = 1")
        file.execute("DELETE FROM later WHERE ref = 2")
    file.close()
    store = opened(folder)
    assert dict(store.records(light=True)) == {1: LATER, 2: large}
    store.close()


def test_heads_go_with_their_records(folder):
    store = opened(folder)
    store.commit([Append(1, LATER), Append(2, LATER)])
    store.commit([Append(3, LATER), Delete((1, 3))])
    assert refs(folder) == [2]
    store.commit([Delete((2,))])
    assert refs(folder) == []
    store.close()


def test_a_file_of_an_older_release_gets_the_table_and_one_that_it_wrote_to_is_tidied(folder):
    store = opened(folder)
    store.commit([Append(1, LATER), Append(2, LATER)])
    store.close()
    with sqlite3.connect(folder / "farm.db") as file:  # an older release deletes a row
        file.execute("DELETE FROM journal WHERE ref = 1")
    file.close()
    store = opened(folder)
    assert refs(folder) == [2]
    store.close()
    with sqlite3.connect(folder / "farm.db") as file:
        file.execute("DROP TABLE later")
    file.close()
    store = opened(folder)
    assert dict(store.records(light=True)) == {2: LATER}
    store.commit([Append(3, LATER)])
    assert refs(folder) == [3]
    store.close()


def test_a_check_says_when_the_first_is_due_and_finds_it_by_an_index(folder):
    store = opened(folder)
    store.commit([Append(1, LATER), Append(2, submitted(group(9, [b"z"])))])
    found = check(folder / "farm.db")
    assert (found.records, found.later, found.next_due) == (2, 1, AT + HOUR)
    with sqlite3.connect(folder / "farm.db") as file:
        plan = file.execute(f"EXPLAIN QUERY PLAN {load_queries()['next_due']}").fetchall()
    assert any("SEARCH later USING COVERING INDEX later_due" in row[-1] for row in plan), plan
    store.close()
    with file:
        file.execute("DROP TABLE later")
    file.close()
    assert check(folder / "farm.db")[-2:] == (0, None)


@pytest.mark.parametrize(
    ("delay", "said"),
    [(HOUR, "at 2025-06-15 16:06:40 UTC"), (SPAN_MAX, "after the year 9999")],
    ids=["an hour", "the longest"],
)
def test_the_command_says_how_many_start_later(folder, monkeypatch, capsys, delay, said):
    store = opened(folder)
    store.commit([Append(1, submitted(group(1, [b"x" * 5000], delay=delay)))])
    store.close()
    monkeypatch.setattr(sys, "argv", ["farm", "store", "check", str(folder / "farm.db")])
    with pytest.raises(SystemExit):
        main.main()
    assert f"; 1 start later, the first {said}" in capsys.readouterr().out


def refs(folder):
    with sqlite3.connect(folder / "farm.db") as file:
        found = [ref for (ref,) in file.execute("SELECT ref FROM later ORDER BY ref")]
    file.close()
    return found
