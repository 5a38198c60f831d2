"""Sources that are no files: tables of a database, and whatever Python lists and reads."""

import sqlite3
import sys
from contextlib import closing
from dataclasses import replace
from queue import Queue

import pyarrow as pa
import pytest

from farm.errors import ConfigError
from farm_scheduler import Aggregate, Count, Files, Partitions, SqlTable, Sum
from farm_scheduler.aggregates import make_plan
from farm_scheduler.refreshing import Refresher
from tests.unit.aggregates_helpers import Desk

FORMS = {
    "iso": "2015-09-{day:02}T{hour:02}:30:00",
    "utc": "2015-09-{day:02}T{hour:02}:30:00Z",
    "space": "2015-09-{day:02} {hour:02}:30:00.250",
    "date": "2015-09-{day:02}",
    "number": None,
}


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path)
    yield desk
    desk.catalog.close()


def moment(form, day, hour):
    if FORMS[form] is None:
        return 1_442_016_000 + (day - 12) * 86_400 + hour * 3600 + 1800
    return FORMS[form].format(day=day, hour=hour)


@pytest.fixture
def run(tmp_path):
    def run(query, rows=()):
        with closing(sqlite3.connect(tmp_path / "shop.db")) as db, db:
            db.executemany(query, rows) if rows else db.execute(query)

    run("CREATE TABLE sales (at, shop TEXT, cents INTEGER, changed INTEGER)")
    return run


def fill(run, form="iso"):
    rows = [
        (moment(form, day, hour), ("a", "b")[hour % 2], day * hour, 1)
        for day in range(12, 16)
        for hour in range(24)
    ]
    run("INSERT INTO sales VALUES (?, ?, ?, ?)", rows)


def sales(folder, **how):
    return Aggregate(
        "sales",
        SqlTable(f"sqlite:///{folder}/shop.db", "sales", "at", **how),
        by=["shop"],
        rollup=["1d"],
        measures={"n": Count(), "cents": Sum("cents")},
    )


def totals(desk):
    return {
        (f"{row['day']:%d}", row["shop"]): (row["n"], row["cents"])
        for row in desk.snapshot("sales").table("day").to_pylist()
    }


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("step", ["1d", "7h"])
def test_the_rows_of_a_table_are_all_read_once(desk, tmp_path, run, form, step):
    fill(run, form)
    built = desk.build(sales(tmp_path, step=step))
    assert not built.failures
    assert totals(desk) == {
        (str(day), shop): (12, day * sum(range(odd, 24, 2)))
        for day in range(12, 16)
        for odd, shop in enumerate("ab")
    }
    if step == "1d":
        assert built.plan.partitions == 4
    assert desk.build(sales(tmp_path, step=step)).plan.is_empty


@pytest.mark.parametrize(
    ("change", "dirty", "removed"),
    [
        ("UPDATE sales SET cents = 1000 WHERE at = '2015-09-13T05:30:00'", 1, 0),
        ("DELETE FROM sales WHERE at = '2015-09-13T05:30:00'", 1, 0),
        ("DELETE FROM sales WHERE at LIKE '2015-09-13%'", 0, 1),
        ("INSERT INTO sales VALUES ('2015-09-20T00:00:00', 'a', 5, 1)", 1, 0),
        ("UPDATE sales SET at = '2015-09-12T05:31:00' WHERE at = '2015-09-13T05:30:00'", 2, 0),
    ],
)
def test_a_change_of_rows_dirties_their_range_only(desk, tmp_path, run, change, dirty, removed):
    fill(run)
    desk.build(sales(tmp_path))
    run(change)
    plan = desk.build(sales(tmp_path)).plan
    assert (len(plan.changes), len(plan.removed)) == (dirty, removed)
    with closing(sqlite3.connect(tmp_path / "shop.db")) as db:
        rows = db.execute(
            "SELECT substr(at, 9, 2), shop, count(*), sum(cents) FROM sales GROUP BY 1, 2"
        ).fetchall()
    assert totals(desk) == {(day, shop): (n, cents) for day, shop, n, cents in rows}


def test_rows_may_be_told_by_a_version(desk, tmp_path, run):
    fill(run)
    own = sales(tmp_path, version_column="changed")
    assert "all rows" not in str(desk.build(own).plan)
    plan = make_plan(sales(tmp_path), desk.catalog)
    assert str(plan).endswith(
        "; all rows of sales are read to find changes (version_column= spares that)"
    )
    run("UPDATE sales SET cents = 7, changed = 2 WHERE at = '2015-09-14T00:30:00'")
    assert len(desk.build(own).plan.changes) == 1
    assert totals(desk)["14", "a"] == (12, 14 * sum(range(0, 24, 2)) + 7)


def test_rows_without_a_time_are_counted(desk, tmp_path, run):
    fill(run)
    run("INSERT INTO sales VALUES (NULL, 'a', 1, 1)")
    desk.build(sales(tmp_path))
    assert sum(one.undated for one in desk.catalog.manifest("sales").partitions.values()) == 1


def test_a_condition_and_columns_are_kept(desk, tmp_path, run):
    fill(run)
    desk.build(sales(tmp_path, where="shop <> 'a'", columns=("at", "shop", "cents")))
    assert {shop for _, shop in totals(desk)} == {"b"}


def test_times_that_do_not_sort_are_refused(desk, tmp_path, run):
    fill(run)
    run("INSERT INTO sales VALUES ('2015-09-11T23:30:00-05:00', 'a', 1, 1)")
    with pytest.raises(ConfigError, match="do not sort as text"):
        desk.build(sales(tmp_path))


@pytest.mark.parametrize(
    ("how", "why"),
    [({"step": "1s"}, "more than 100000 ranges"), ({"where": "no = 1"}, "no such column: no"),
     ({"where": "cents < 0"}, "has no rows where cents < 0"), ({"step": 0}, "step must be")],
)  # fmt: skip
def test_what_makes_no_sense_is_named(desk, tmp_path, run, how, why):
    fill(run)
    with pytest.raises(ConfigError, match=why):
        desk.build(sales(tmp_path, **how))


def test_a_database_that_is_not_there_is_named(desk, tmp_path):
    with pytest.raises(ConfigError, match=r"there is no file .*shop\.db"):
        desk.build(sales(tmp_path))
    with pytest.raises(ConfigError, match="'mysql' is no database that is known"):
        SqlTable("mysql://host/db", "sales", "at")


def test_postgresql_without_its_driver_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)  # as if it were not installed
    with pytest.raises(ConfigError, match="pip install 'psycopg"):
        SqlTable("postgresql://localhost/shop", "sales", "at").partitions()


# ---------------------------------------------------------------- Python


ROWS = {
    "one": [{"t": "2015-09-12T00:00:00Z", "x": 1}, {"t": "2015-09-12T01:00:00Z", "x": 2}],
    "two": [{"t": "2015-09-12T00:30:00Z", "x": 4.5}],
    "none": [],
}
VERSIONS = {}


def listed():
    return [(name, str(VERSIONS.get(name, 1))) for name in ROWS]


def as_dicts(name):
    return ROWS[name]


def as_arrow(name):
    return pa.Table.from_pylist(ROWS[name], pa.schema([("t", pa.string()), ("x", pa.float64())]))


def as_batch(name):
    return as_arrow(name).to_reader()


@pytest.mark.parametrize("read", [as_dicts, as_arrow, as_batch])
def test_whatever_python_lists_and_reads_is_a_source(desk, monkeypatch, read):
    own = Aggregate("own", Partitions(list=listed, read=read, time="t"), measures={"sum": Sum("x")})
    assert not desk.build(own).failures
    assert desk.snapshot("own").table().column("sum").to_pylist() == [5.5, 2]
    monkeypatch.setitem(VERSIONS, "two", 2)
    monkeypatch.setitem(ROWS, "two", [{"t": "2015-09-12T00:30:00Z", "x": 40.0}])
    assert "two" in [change.partition.name for change in desk.build(own).plan.changes]
    assert desk.snapshot("own").table().column("sum").to_pylist() == [41, 2]


def test_pandas_frames_are_rows_too(desk):
    import pandas as pd

    source = Partitions(list=listed, read=lambda name: pd.DataFrame(ROWS[name]), time="t")
    assert not desk.build(Aggregate("own", source, measures={"sum": Sum("x")})).failures


@pytest.mark.parametrize("lazy", [False, True], ids=["frame", "lazy frame"])
def test_polars_frames_are_rows_too(desk, lazy):
    import polars as pl

    def read(name):
        frame = pl.DataFrame(ROWS[name])
        return frame.lazy() if lazy else frame

    source = Partitions(list=listed, read=read, time="t")
    assert not desk.build(Aggregate("own", source, measures={"sum": Sum("x")})).failures
    assert desk.snapshot("own").table().column("sum").to_pylist() == [5.5, 2]


def test_a_partition_that_python_cannot_read_is_named(desk):
    def read(name):
        if name == "two":
            raise OSError("out of reach")
        return as_arrow(name)

    own = Aggregate("own", Partitions(list=listed, read=read, time="t"))
    assert desk.build(own).failures == {"two": "two cannot be read: OSError: out of reach"}


def test_another_version_of_the_code_reads_all_again(desk):
    source = Partitions(list=listed, read=as_arrow, time="t")
    own = Aggregate("own", source)
    desk.build(own)
    assert desk.build(own).plan.is_empty
    again = replace(own, source=replace(source, version=2))
    assert len(desk.build(again).plan.changes) == 3


def twice():
    return [("a", "1"), ("a", "2")]


@pytest.mark.parametrize(
    ("pairs", "why"), [(list, "gave none"), (twice, "'a' twice"), (lambda: ["a"], "pairs")]
)
def test_what_is_listed_wrongly_is_named(pairs, why):
    with pytest.raises(ConfigError, match=why):
        Partitions(list=pairs, read=as_dicts, time="t").partitions()


@pytest.mark.parametrize(
    ("pattern", "how", "says"),
    [
        ("edits/*.gz", {}, "what kind of file is that"),
        ("edits/{hour}", {}, "what kind of file is that"),
        ("edits/*.gz", {"format": "jsno"}, "there is no format 'jsno'"),
        ("edits/*.json.bz2", {}, "pack files as .gz or .zst"),
    ],
)
def test_files_of_which_nobody_knows_how_to_read_them_are_refused_at_once(pattern, how, says):
    with pytest.raises(ConfigError, match=says):
        Files(pattern, time="time", **how)
    assert Files("edits/*.gz", time="time", format="json").identity()[3] == "json"


class Here:
    """A client whose workers are this process."""

    def options(self, **how):
        return self

    def map(self, fn, iterable):
        return map(fn, iterable)


def ends_the_program(*_):
    raise SystemExit(3)


@pytest.mark.parametrize("other", [{"list": ends_the_program}, {"read": ends_the_program}])
def test_a_source_that_ends_the_program_fails_its_own_fire(tmp_path, other):
    heard = Queue()
    refresher = Refresher(tmp_path / "aggregates.db", Here(), heard.put)
    source = Partitions(**({"list": listed, "read": as_dicts, "time": "t"} | other))
    refresher.start("f1", Aggregate("own", source))
    ended = heard.get(timeout=10)
    assert (ended.fire, ended.outcome) == ("f1", "failed")
    assert "SystemExit: 3" in ended.detail
    assert not refresher.writes
    refresher.close()


def test_a_partition_whose_reading_ends_the_program_stops_no_other(desk):
    def read(name):
        return ends_the_program() if name == "two" else ROWS[name]

    built = desk.build(Aggregate("own", Partitions(list=listed, read=read, time="t")))
    assert built.failures == {"two": "two: SystemExit: 3"}
    assert built.version == 1
