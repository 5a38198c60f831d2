"""The state file of schedulers: of every released format it is read, and a newer one is refused."""

import shutil
import sqlite3
from contextlib import closing
from datetime import timedelta
from itertools import chain

import pytest

from farm.client.options import Settings, merge
from farm.errors import ConfigError, KeyConflict, StoreUnreadable
from farm_scheduler.calls import target_of
from farm_scheduler.core import Entry, Kept, Schedule
from farm_scheduler.core.kept import Glance
from farm_scheduler.core.schedule import FIELDS
from farm_scheduler.formats import SPEC, STEPS, VERSION
from farm_scheduler.state import State
from tests.golden import make_schedules as golden

VERSIONS = range(1, VERSION + 1)


def facts(entry):
    names = ("schedule", "cursor", "next", "last", "pauses", "retired", "at_once")
    return {name: getattr(entry, name) for name in names}


def check(state):
    """All that the script puts into a file is there."""
    found, turn = state.changes()
    assert state.changes(turn) == ([], turn)
    open_rows = state.open_rows()
    assert [(facts(one), file) for one, file in found] == [
        (facts(one), file) for one, file in golden.entries()
    ]
    rows = golden.rows()
    assert list(state.rows("1")) == rows
    assert open_rows == [row for row in rows if not row.state.is_final]
    assert (state.problems(), state.files()) == (golden.PROBLEMS, golden.FILES)
    assert state.meta("zones") == golden.ZONES
    assert state.answer(1) == golden.ANSWERED
    assert state.waiting_orders() == [(2, *golden.WAITING)]


def check_backfills(state):
    (found,) = state.backfills()
    assert {name: getattr(found, name) for name in golden.BACKFILL} == golden.BACKFILL
    assert [list(one) for one in found.slices] == golden.SLICES
    planned = set(chain(*golden.SLICES))
    assert state.planned("night", golden.NOON - 300_000, golden.NOON) == planned - {min(planned)}
    found.take()
    state.commit([], [], {}, [], [found])
    (less,) = state.backfills()
    assert (less.taken, less.newest(), len(less)) == (2, min(planned), 1)
    less.take()
    state.commit([], [], {}, [], [less])
    assert state.backfills() == []


@pytest.mark.parametrize("version", VERSIONS)
def test_a_state_of_every_format_is_read_and_written_on(version, tmp_path):
    path = tmp_path / "schedules.db"
    shutil.copyfile(golden.FOLDER / f"schedules_v{version}.db", path)
    state = State(path)
    check(state)
    if version >= 4:
        check_backfills(state)
    number = state.order(golden.NOON + 9.0, "run", {"name": "night"}, "a key")
    assert state.order(golden.NOON + 10.0, "run", {"name": "night"}, "a key") == number
    state.commit(golden.rows()[:1], [], {"night": 1.0}, [(number, {"done": True})])
    state.close()
    with closing(State(path, must_exist=True)) as again:
        assert again.answer(number) == {"done": True}
        assert again.forget(golden.NOON + 60 + 2) == 1


def test_the_script_makes_what_the_newest_file_has(tmp_path):
    golden.make(tmp_path / "made.db")
    dumps = [
        list(db.iterdump())
        for path in (tmp_path / "made.db", golden.FOLDER / f"schedules_v{VERSION}.db")
        for db in [sqlite3.connect(path)]
    ]
    assert dumps[0] == dumps[1]


def test_a_format_says_which_fields_a_schedule_has():
    assert SPEC == FIELDS, "another set of fields is another format: see farm_scheduler.formats"
    assert Glance.__struct_fields__ == SPEC
    assert set(STEPS) == set(VERSIONS) - {1}


def test_of_what_is_kept_some_is_known_before_a_schedule_is_made_of_it(tmp_path):
    golden.make(tmp_path / "schedules.db")
    hooks = {"on_failure": ["page", "ops"], "on_late": "http://127.0.0.1/late"}
    called = Schedule("called", cron="@daily", command=["sh", "-c", ":"], jitter="1h", **hooks)
    with closing(State(tmp_path / "schedules.db")) as state:
        state.commit([], [(Entry(called, 0, golden.NOON, None), "f")], {})
        found = [entry for entry, _ in state.changes()[0]]
        assert {type(entry.told) for entry in found} == {Kept}
        state.commit([], [(entry, "f") for entry in found], {})  # as it was kept
        again = [entry for entry, _ in state.changes()[0]]
    assert [entry.told for entry in again] == [entry.told for entry in found]
    for entry in found:
        kept, name, wakes = entry.told, entry.name, entry.wakes()
        assert (name, kept.offset) == (entry.schedule.name, entry.schedule.offset)
        assert target_of(kept) == target_of(entry.schedule)
        assert entry.told is entry.schedule
        assert entry.wakes() == wakes
    assert called in [entry.schedule for entry in found]


def test_what_is_said_as_in_python_comes_back_as_it_was(tmp_path):
    options = {
        "retry_on": [ConnectionError, KeyConflict],
        "time_limit": timedelta(minutes=5),
        "labels": ("ssd",),
    }
    said = Schedule("a", cron="@daily", run="m:f", args=[(1, 2**63)], options=options)
    with closing(State(tmp_path / "schedules.db")) as state:
        state.commit([], [(Entry(said, 0, golden.NOON, None), "f")], {})
        ((found, _),) = state.changes()[0]
    assert found.schedule == said
    assert said.options == {
        "retry_on": ["builtins.ConnectionError", "farm.errors.KeyConflict"],
        "time_limit": 300.0,
        "labels": ["ssd"],
    }
    merge(Settings(), said.options)


def test_an_older_format_is_left_alone_by_all_but_the_scheduler(tmp_path):
    path = tmp_path / "schedules.db"
    shutil.copyfile(golden.FOLDER / "schedules_v1.db", path)
    with pytest.raises(StoreUnreadable, match=r"older farm, in format 1; start `farm scheduler`"):
        State(path, must_exist=True)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)


def test_a_newer_format_is_refused_by_name(tmp_path):
    path = tmp_path / "schedules.db"
    State(path).close()
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version=99")
    for must_exist in (True, False):
        with pytest.raises(StoreUnreadable, match=r"schedules\.db was .* newer farm, in format 99"):
            State(path, must_exist=must_exist)


def test_what_is_no_state_is_refused(tmp_path):
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE t (x)")
    with pytest.raises(StoreUnreadable, match=r"other\.db is a database, and not one of a sched"):
        State(path)
    (tmp_path / "empty.db").touch()
    with pytest.raises(StoreUnreadable, match="its scheduler is starting"):
        State(tmp_path / "empty.db", must_exist=True)


def test_orders_of_one_key_are_one_for_a_day(tmp_path):
    with closing(State(tmp_path / "schedules.db")) as state:
        first = state.order(1000.0, "run", {"name": "a"}, "k")
        assert state.order(1001.0, "run", {"name": "a"}, "other") != first
        with pytest.raises(KeyConflict, match="another order has this key"):
            state.order(1002.0, "run", {"name": "b"}, "k")
        state.commit([], [], {}, [(first, {"done": 1})])
        state.forget(1000.0 + 7200)
        assert state.order(8000.0, "run", {"name": "a"}, "k") == first
        state.forget(1000.0 + 90_000)
        assert state.order(91_000.0, "run", {"name": "a"}, "k") != first


def test_what_was_kept_after_a_turn_is_told_and_no_turn_comes_again(tmp_path):
    entries = dict(zip(["gone", "night", "plain"], golden.entries(), strict=True))
    with closing(State(tmp_path / "schedules.db")) as state:
        state.commit([], entries.values(), {})
        found, seen = state.changes()
        assert [entry.schedule.name for entry, _ in found] == [*entries]
        assert state.changes(seen) == ([], seen)
        entries["plain"][0].cursor += 1
        state.commit([], [entries["plain"]], {})
        ((entry, file),), later = state.changes(seen)
        assert (facts(entry), file) == (facts(entries["plain"][0]), "jobs.py")
        entries["gone"][0].retired = 1.0
        state.commit([], [entries["gone"]], {})  # the newest, and nothing of it is in the ledger
        state.forget(golden.NOON)
        (_, newest) = state.changes(later)
        assert newest > later > seen
        state.commit([], [entries["plain"]], {})
        assert state.changes(newest)[1] > newest
        state.forget(golden.NOON)
        assert state.names() == ["night", "plain"]


def test_old_rows_are_dropped_some_at_a_time(tmp_path):
    with closing(State(tmp_path / "schedules.db")) as state:
        state.commit(golden.rows(), [], {"night": 1.0})
        final = sum(row.state.is_final for row in golden.rows())
        assert [state.forget(1e12, 3) for _ in range(3)] == [3, final - 3, 0]


def test_so_many_orders_wait_and_no_more(tmp_path, monkeypatch):
    monkeypatch.setattr("farm_scheduler.state.ORDERS_MAX", 2)
    with closing(State(tmp_path / "schedules.db")) as state:
        numbers = [state.order(1.0, "run", {"name": "a"}) for _ in range(2)]
        with pytest.raises(ConfigError, match="2 orders wait already: start a scheduler"):
            state.order(1.0, "run", {"name": "a"})
        state.commit([], [], {}, [(numbers[0], {})])
        state.order(1.0, "run", {"name": "a"})
