"""Aggregates of real data, of files that change, and of files that are empty or odd."""

import gzip
import json
import math
import random
import shutil
from collections import Counter, defaultdict
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from farm_scheduler import Aggregate
from farm_scheduler.aggregates.measures import (
    Count,
    Distinct,
    Max,
    Mean,
    Min,
    Quantiles,
    Sum,
    TopK,
    Variance,
)
from farm_scheduler.aggregates.sources import Files
from tests.unit.aggregates_helpers import Desk, write_lines

HOURS = (268, 1144, 1102, 815, 824, 1260, 2120, 2237, 1622, 1704, 1792, 1624, 1709, 2073, 1873,
         1965, 1959, 2300, 2170, 2013, 1832, 1766, 1590, 1482)  # fmt: skip
TOP_PAGES = [
    ("Wikipedia:Vandalismusmeldung", 33),
    ("User:Cyde/List of candidates for speedy deletion/Subpage", 28),
    ("Jeremy Corbyn", 27),
    ("Wikipedia:Administrators' noticeboard/Incidents", 21),
    ("Flavia Pennetta", 20),
]
NA = {"PM2.5": 8739, "PM10": 6449, "SO2": 9021, "NO2": 12116, "CO": 20701, "O3": 13277,
      "TEMP": 398, "PRES": 393, "DEWP": 403, "RAIN": 390, "wd": 1822, "WSPM": 318}  # fmt: skip


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path)
    yield desk
    desk.catalog.close()


# ---------------------------------------------------------------- real data


def test_the_totals_of_a_day_of_wikipedia(desk, data_dir):
    measures = {
        "rows": Count(),
        **{name: Sum(name) for name in ("added", "deleted", "delta")},
        "users": Distinct("user"),
        "pages": TopK("page", 5, keep=50_000),
        "channels": Distinct("channel"),
    }
    pattern = str(data_dir / "wikipedia_edits/*.json.gz")
    wikipedia = Aggregate(
        "wikipedia", Files(pattern, time="time"), every="1h", rollup=["1d"], measures=measures
    )
    assert not desk.build(wikipedia).failures
    snapshot = desk.snapshot("wikipedia")
    (day,) = snapshot.table("day").to_pylist()
    assert {name: day[name] for name in ("rows", "added", "deleted", "delta", "channels")} == {
        "rows": 39_244, "added": 9_385_573, "deleted": 394_298, "delta": 8_991_275, "channels": 51,
    }  # fmt: skip
    assert day["users"] == pytest.approx(10_531, rel=0.02)
    assert [(one["value"], one["count"]) for one in day["pages"]] == TOP_PAGES
    assert tuple(snapshot.table("hour").column("rows").to_pylist()) == HOURS
    last = datetime(2015, 9, 12, 23, 59, 59, 200_000, tzinfo=UTC)
    assert snapshot.manifest.watermark == last.timestamp() * 1e6


def test_the_totals_of_four_years_of_air(desk, data_dir):
    measures = {
        "rows": Count(),
        "sum": Sum("PM2.5"),
        "mean": Mean("PM2.5"),
        "var": Variance("TEMP"),
    }
    measures |= {f"has {name}": Count(name) for name in NA}
    air = Aggregate(
        "air",
        Files(
            str(data_dir / "beijing_air/{site}.csv.gz"),
            time="make_timestamp(year, month, day, hour, 0, 0)",
            zone="+08:00",
            null=("NA",),
        ),
        by=["station"],
        every="1h",
        rollup=["1d", "1mo", "1y"],
        zone="Asia/Shanghai",
        measures=measures,
    )
    assert not desk.build(air).failures
    years = desk.snapshot("air").table("year").to_pylist()
    assert sum(one["rows"] for one in years) == 420_768
    for name, missing in NA.items():
        assert sum(one[f"has {name}"] for one in years) == 420_768 - missing, name
    total = math.fsum(one["sum"] for one in years)
    assert total == pytest.approx(32_877_206.4, abs=1e-3)
    assert total / (420_768 - NA["PM2.5"]) == pytest.approx(79.79342813248586, rel=1e-12)
    (first, *_) = desk.snapshot("air").table("day").to_pylist()
    assert first["day"].isoformat() == "2013-03-01T00:00:00+08:00"
    assert first["rows"] == 24
    _equals_one_query(desk, data_dir)


def _equals_one_query(desk, data_dir):
    """Months of one station, by one query of the raw file."""
    file = data_dir / "beijing_air/Dongsi.csv.gz"
    query = (
        'SELECT year * 100 + month AS m, count(*), sum("PM2.5"), avg("PM2.5"), var_samp("TEMP") '
        f"FROM read_csv('{file}', nullstr=['NA'], sample_size=-1) GROUP BY m ORDER BY m"
    )
    with duckdb.connect() as db:
        wanted = db.sql(query).fetchall()
    months = desk.snapshot("air").table("month").to_pylist()
    found = [one for one in months if one["station"] == "Dongsi"]
    assert len(found) == len(wanted) == 48
    for row, (month, count, total, mean, variance) in zip(found, wanted, strict=True):
        assert int(row["month"].strftime("%Y%m")) == month
        assert row["rows"] == count
        assert (row["sum"], row["mean"]) == (pytest.approx(total), pytest.approx(mean))
        assert row["var"] == pytest.approx(variance, rel=1e-9)


# ---------------------------------------------------------------- local days


@pytest.mark.parametrize(
    ("zone", "begin", "days"),
    [
        ("America/New_York", "2015-03-06", 5),
        ("America/New_York", "2015-10-30", 5),
        ("Australia/Lord_Howe", "2015-04-03", 4),
        ("Asia/Kathmandu", "2015-05-30", 4),
        ("Pacific/Apia", "2011-12-28", 6),
        ("America/Sao_Paulo", "2017-10-13", 5),
    ],
)
def test_local_days_are_those_of_a_count_from_scratch(desk, tmp_path, zone, begin, days):
    chance = random.Random(begin)
    start = datetime.fromisoformat(begin).replace(tzinfo=UTC)
    wanted, files = Counter(), defaultdict(list)
    for _ in range(800):
        at = start + timedelta(seconds=chance.randrange(days * 86_400))
        local = at.astimezone(ZoneInfo(zone))
        for level, name in (("day", "%Y-%m-%d"), ("month", "%Y-%m")):
            wanted[level, local.strftime(name)] += 1
        files[at.hour // 6].append({"time": at.isoformat(), "x": 1})
    for name, rows in files.items():
        write_lines(tmp_path / f"in/{name}.json", rows)
    local = Aggregate(
        "local",
        Files(str(tmp_path / "in/*.json"), time="time"),
        every="15m",
        rollup=["1d", "1mo"],
        zone=zone,
        measures={"n": Sum("x")},
    )
    desk.build(local)
    for level, name in (("day", "%Y-%m-%d"), ("month", "%Y-%m")):
        rows = desk.snapshot("local").table(level).to_pylist()
        found = {(level, one[level].strftime(name)): one["n"] for one in rows}
        assert found == {key: n for key, n in wanted.items() if key[0] == level}


# ---------------------------------------------------------------- files that change


events = st.lists(
    st.tuples(st.integers(0, 47), st.sampled_from(["#en", "#de"]), st.integers(-9, 9)), max_size=12
)
changes = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(["replace", "remove", "append", "twice", "mix"]),
              events),
    min_size=1, max_size=4,
)  # fmt: skip


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(start=st.lists(events, min_size=1, max_size=4), steps=changes)
def test_however_files_change_a_run_says_what_one_from_scratch_says(tmp_path_factory, start, steps):
    folder = tmp_path_factory.mktemp("changes")
    files = dict(enumerate(start))
    aggregate = Aggregate(
        "changed",
        Files(str(folder / "in/*.json"), time="time"),
        by=["channel"],
        every="1h",
        rollup=["1d"],
        measures={"n": Count(), "sum": Sum("x"), "most": Max("x"), "top": TopK("x", 3),
                  "d": Distinct("x"), "q": Quantiles("x")},
    )  # fmt: skip
    desk = Desk(folder)
    for at, (name, what, rows) in enumerate([(-1, "", []), *steps]):
        _change(files, name, what, rows)
        _write(folder / "in", files)
        desk.build(aggregate)
        scratch = Desk(_made(folder / f"scratch{at}"))
        scratch.build(aggregate)
        for level in ("hour", "day"):
            found, wanted = (one.snapshot("changed").table(level) for one in (desk, scratch))
            assert found.to_pylist() == wanted.to_pylist()
        scratch.catalog.close()
    desk.catalog.close()
    shutil.rmtree(folder)


def _made(folder):
    folder.mkdir()
    return folder


def _change(files, name, what, rows):
    own = files.get(name, [])
    if what == "remove" and len(files) > 1:
        files.pop(name, None)
    elif what:
        mixed = random.Random(len(own)).sample(own, len(own))
        files[name] = {"replace": rows, "append": own + rows, "twice": own * 2}.get(what, mixed)


def _write(folder, files):
    shutil.rmtree(folder, ignore_errors=True)
    for name, rows in files.items():
        write_lines(
            folder / f"{name}.json",
            [
                {"time": f"2015-09-{12 + hour // 24}T{hour % 24:02}:30:00Z", "channel": c, "x": x}
                for hour, c, x in rows
            ],
        )


class Restless(Files):
    """Files that somebody writes to each time that they are read, so many times."""

    TIMES = 2

    def open(self, partition, db, *, wanted, careful=False):
        found = super().open(partition, db, wanted=wanted, careful=careful)
        path = Path(partition.name)
        lines = path.read_text().splitlines(keepends=True)
        if len(lines) <= self.TIMES:
            path.write_text("".join([*lines, lines[0]]))
        return found


class Endless(Restless):
    TIMES = 1000


def _counted(folder, source):
    write_lines(folder / "in/a.json", [{"time": "2015-09-12T00:00:00Z", "x": 1}])
    files = source(str(folder / "in/*.json"), time="time")
    return Aggregate("restless", files, every="1h", measures={"n": Count()})


def test_a_file_that_changes_while_it_is_read_is_read_again(desk, tmp_path, monkeypatch):
    monkeypatch.setattr("farm_scheduler.aggregates.lifting.PAUSE_SECONDS", 0.001)
    built = desk.build(_counted(tmp_path, Restless))
    assert not built.failures
    assert desk.snapshot("restless").table().column("n").to_pylist() == [3]


def test_a_file_that_changes_whenever_it_is_read_is_named(desk, tmp_path, monkeypatch):
    monkeypatch.setattr("farm_scheduler.aggregates.lifting.PAUSE_SECONDS", 0.001)
    aggregate = _counted(tmp_path, Endless)
    write_lines(tmp_path / "in/b.json", [{"time": "2015-09-12T00:00:00Z"}] * 2000)
    (message,) = desk.build(aggregate).failures.values()
    assert "a.json changed each time that it was read" in message
    assert "rename" in message


# ---------------------------------------------------------------- empty and odd files


TIME = "2015-09-12T00:00:00Z"
ODD = {"n": Count(), "sum": Sum("x"), "least": Min("x"), "top": TopK("x", 2), "d": Distinct("x")}


def built_of(desk, folder, files, **how):
    for name, data in files.items():
        path = folder / "in" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
    suffix = next(iter(files)).partition(".")[2]
    odd = Aggregate(
        "odd",
        Files(str(folder / f"in/*.{suffix}"), time="time", **how),
        by=["k"],
        every="1h",
        rollup=["1d"],
        measures=ODD,
    )
    built = desk.build(odd)
    assert not built.failures
    return desk.snapshot("odd").table("day").to_pylist()


def line(k, x):
    return json.dumps({"time": TIME, "k": k, "x": x}) + "\n"


def test_an_empty_file_is_a_partition_without_rows(desk, tmp_path):
    (row,) = built_of(desk, tmp_path, {"a.json": line("a", 1), "b.json": ""})
    assert (row["n"], row["sum"]) == (1, 1)
    assert len(desk.catalog.manifest("odd").partitions) == 2


def test_a_packed_file_of_nothing_is_one_too(desk, tmp_path):
    packed = {"a.json.gz": gzip.compress(line("a", 1).encode()), "b.json.gz": gzip.compress(b"")}
    (row,) = built_of(desk, tmp_path, packed)
    assert row["n"] == 1


def test_nothing_but_empty_files_is_an_answer_too(desk, tmp_path):
    assert built_of(desk, tmp_path, {"a.json": ""}) == []


def test_a_csv_without_rows_or_with_nothing_but_na(desk, tmp_path):
    head = "time,k,x\n"
    files = {
        "a.csv": f"{head}{TIME},a,1\n",
        "b.csv": "",
        "c.csv": head,
        "d.csv": f"{head}{TIME},a,NA\n",
        "e.csv": f"{head}{TIME},a,2.5\n",
    }
    (row,) = built_of(desk, tmp_path, files, null=("NA",))
    assert (row["n"], row["sum"], row["least"], row["d"]) == (3, 3.5, 1.0, 2)


@pytest.mark.parametrize("suffix", ["json", "csv"])
@pytest.mark.parametrize("last", [12.5, 2**53 + 1])
def test_a_column_that_looked_whole_at_first_is_not_rounded(desk, tmp_path, suffix, last):
    xs = [1] * 5000 + [last]
    if suffix == "json":
        text = "".join(line("a", x) for x in xs)
    else:
        text = "time,k,x,it's\n" + "".join(f"{TIME},a,{x},1\n" for x in xs)
    (row,) = built_of(desk, tmp_path, {f"a.{suffix}": text})
    assert row["sum"] == 5000 + last


def test_columns_and_keys_that_are_null_in_one_file(desk, tmp_path):
    files = {"a.json": line(7, 1), "b.json": line(None, None), "c.json": line(8, 2.5)}
    rows = {row["k"]: row for row in built_of(desk, tmp_path, files)}
    assert {k: row["n"] for k, row in rows.items()} == {7: 1, 8: 1, None: 1}
    assert (rows[8]["sum"], rows[None]["sum"], rows[None]["least"]) == (2.5, 0, None)


def test_parquet_files_whose_types_differ(desk, tmp_path):
    (tmp_path / "in").mkdir()
    at = datetime(2015, 9, 12, tzinfo=UTC)
    for name, kind in {"a": pa.int16(), "b": pa.int64(), "c": pa.float32()}.items():
        table = pa.table({"time": [at], "k": ["a"], "x": pa.array([2], kind)})
        pq.write_table(table, tmp_path / f"in/{name}.parquet")
    (row,) = built_of(desk, tmp_path, {"d.parquet": (tmp_path / "in/a.parquet").read_bytes()})
    assert (row["n"], row["sum"], row["least"], row["d"]) == (4, 8.0, 2.0, 1)
    assert row["top"] == [{"value": "2", "count": 4}]


def test_a_measure_of_another_column_may_be_added(desk, tmp_path):
    write_lines(tmp_path / "in/a.json", [{"time": TIME, "x": 1, "y": 2.5}])
    one = Aggregate(
        "more", Files(str(tmp_path / "in/*.json"), time="time"), measures={"x": Sum("x")}
    )
    desk.build(one)
    desk.build(replace(one, measures={"x": Sum("x"), "y": Sum("y")}))
    assert desk.snapshot("more").table().to_pylist()[0]["y"] == 2.5


def test_files_behind_a_url(desk):
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    for hour in range(3):
        memory.pipe(f"/urls/12/{hour}.json", line("a", hour).encode())
    urls = Aggregate(
        "urls",
        Files("memory://urls/{folder}/{part}.json", time="time"),
        by=["folder"],
        measures={"sum": Sum("x")},
    )
    try:
        assert not desk.build(urls).failures
        assert desk.snapshot("urls").table().to_pylist()[0]["sum"] == 3
        assert desk.build(urls).plan.is_empty
        memory.pipe("/urls/12/1.json", line("a", 100).encode())
        assert len(desk.build(urls).plan.changes) == 1
        assert desk.snapshot("urls").table().to_pylist()[0]["sum"] == 102
    finally:
        memory.rm("/urls", recursive=True)
