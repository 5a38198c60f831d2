"""Files that are there and are hard to list, to tell apart or to place in time."""

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from farm.errors import ConfigError
from farm_scheduler import Aggregate, Count, Files
from farm_scheduler.aggregates.view import typed
from tests.unit.aggregates_helpers import Desk, write_lines

ROWS = [{"time": "2015-09-12T13:00:00Z", "k": "in the file"}]
NOBODY = 65534


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path)
    yield desk
    desk.catalog.close()


def files_of(pattern, by="name", **how):
    source = Files(str(pattern), time="time")
    return Aggregate("odd", source, by=by, every="1h", measures={"n": Count()}, **how)


def counts(desk, version=0):
    table = desk.snapshot("odd", version).table("hour")
    return dict(zip(table.column(1).to_pylist(), table.column("n").to_pylist(), strict=True))


# ---------------------------------------------------------------- names

STRANGE = [
    "st*r", "star", "q?m", "qum", "[ab]", "a", "quo'te", "quo'*", 'dq"x', "per%20", "~", "é 中",
]  # fmt: skip


def write_csv(path):
    path.write_text("time,v\n2015-09-12 13:00:00,1\n")


def write_json(path):
    write_lines(path, ROWS)


def write_parquet(path):
    pq.write_table(pa.table({"time": ["2015-09-12 13:00:00"]}), path)


WRITERS = {"csv": write_csv, "json": write_json, "parquet": write_parquet}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_name_is_no_pattern(desk, tmp_path, kind):
    for name in STRANGE:
        WRITERS[kind](tmp_path / f"{name}.{kind}")
    assert not desk.build(files_of(tmp_path / f"{{name}}.{kind}")).failures
    assert counts(desk) == dict.fromkeys(STRANGE, 1)


@pytest.mark.parametrize("kind", WRITERS)
def test_folders_are_columns_where_the_pattern_says_so(desk, tmp_path, kind):
    for name in ("name=1", "name=2"):  # of the same bytes, which are read once
        (tmp_path / name).mkdir()
        WRITERS[kind](tmp_path / name / f"a.{kind}")
    with pytest.raises(Exception, match="has no column 'name'"):
        desk.build(files_of(tmp_path / f"*/a.{kind}"))
    desk.build(files_of(tmp_path / f"name={{name}}/a.{kind}"))
    assert counts(desk) == {"1": 1, "2": 1}


def test_what_the_file_says_comes_before_what_its_name_says(desk, tmp_path):
    write_lines(tmp_path / "a.json", ROWS)
    desk.build(files_of(tmp_path / "{k}.json", by="k"))
    assert counts(desk) == {"in the file": 1}


def test_and_is_of_its_own_type(desk, tmp_path):
    (tmp_path / "2015-09.csv").write_text("year,month,k\n2015,9,a\n2015,9,b\n")
    source = Files(str(tmp_path / "{month}.csv"), time="make_timestamp(year, month, 1, 0, 0, 0)")
    desk.build(Aggregate(name="odd", source=source, by="k", every="1h", measures={"n": Count()}))
    assert counts(desk) == {"a": 1, "b": 1}


def test_a_name_that_is_no_text_is_named(desk, tmp_path):
    write_lines(tmp_path / "good.json", ROWS)
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xff.json")).write_text("{}")
    (message,) = desk.build(files_of(tmp_path / "{name}.json")).failures.values()
    assert r"b\xff.json is a link that leads nowhere, or its name is not UTF-8" in message
    assert counts(desk) == {"good": 1}


# ---------------------------------------------------------------- what is no file


def test_a_link_that_leads_nowhere_is_named_and_the_others_are_published(desk, tmp_path):
    write_lines(tmp_path / "in/good.json", ROWS)
    write_lines(tmp_path / "kept", ROWS)
    (tmp_path / "in/link.json").symlink_to("../kept")
    aggregate = files_of(tmp_path / "in/{name}.json")
    desk.build(aggregate)
    (tmp_path / "kept").rename(tmp_path / "moved")
    (message,) = desk.build(aggregate).failures.values()
    assert "in/link.json is a link that leads nowhere" in message
    assert counts(desk) == {"good": 1, "link": 1}  # as it was
    assert not desk.snapshot("odd").manifest.complete
    (tmp_path / "moved").rename(tmp_path / "kept")
    assert not desk.build(aggregate).failures


def test_what_is_no_file_is_none(desk, tmp_path):
    write_lines(tmp_path / "good.json", ROWS)
    (tmp_path / "folder.json").mkdir()
    os.mkfifo(tmp_path / "pipe.json")  # to open it would take for ever
    assert not desk.build(files_of(tmp_path / "{name}.json")).failures
    assert counts(desk) == {"good": 1}


def test_links_to_folders_are_followed_one_level_for_each_part_of_a_pattern(desk, tmp_path):
    write_lines(tmp_path / "away/x.json", ROWS)
    write_lines(tmp_path / "in/one/x.json", ROWS)
    (tmp_path / "in/two").symlink_to(tmp_path / "away")
    (tmp_path / "in/round").symlink_to(tmp_path / "in")
    desk.build(files_of(tmp_path / "in/{name}/x.json"))
    assert counts(desk) == {"one": 1, "two": 1}
    desk.build(files_of(tmp_path / "in/**/x.json", by="k"))
    assert counts(desk) == {"in the file": 1}


@contextmanager
def shut(folder):
    """Nobody may look into a folder, not even root, who is somebody else meanwhile."""
    folder.chmod(0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)


def test_a_folder_that_cannot_be_listed_is_not_taken_for_an_empty_one():
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        home.chmod(0o755)
        for day in ("12", "13"):
            write_lines(home / day / "x.json", ROWS)
        source = Files(f"{home}/{{day}}/x.json", time="time")
        assert len(source.partitions()) == 2
        with shut(home / "13"), pytest.raises(ConfigError, match="13 cannot be listed: Permission"):
            source.partitions()


# ---------------------------------------------------------------- times

TIMES = [
    "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "47668-01-01 00:00:00",
    "-290000-01-01 00:00:00", "infinity", "2015-09-12T25:00:00Z", "2015-02-29", "", None,
]  # fmt: skip
NUMBERS = [1_442_062_800_000, 1e300, float("nan"), -1e18, None]
ALL = ["1d", "1w", "1mo", "1q", "1y"]


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Tokyo"])
@pytest.mark.parametrize("times", [TIMES, NUMBERS])
def test_a_time_that_is_in_no_calendar_is_counted(desk, tmp_path, times, zone):
    good = 1_442_062_800 if times is NUMBERS else "2015-09-12T13:00:00Z"
    rows = [{"time": time, "k": "a"} for time in [*times, good]]
    write_lines(tmp_path / "a.json", rows)
    assert not desk.build(files_of(tmp_path / "a.json", by="k", rollup=ALL, zone=zone)).failures
    assert counts(desk) == {"a": 1}
    assert desk.snapshot("odd").table("1y").column("n").to_pylist() == [1]
    (record,) = desk.catalog.manifest("odd").partitions.values()
    assert record.undated == len(times)


@pytest.mark.parametrize("asked", ["2015-09-12", "2015-09-12T00:00:00Z", "2015-09-12T02:00+02:00"])
def test_a_key_that_is_a_day_is_found_by_its_text(desk, tmp_path, asked):
    (tmp_path / "a.csv").write_text("time,due\n2015-09-12 13:00:00,2015-09-12\n")
    desk.build(files_of(tmp_path / "*.csv", by="due"))
    snapshot = desk.snapshot("odd")
    where = typed(snapshot.manifest, {"due": asked, "hour": "2015-09-12T13"})
    assert snapshot.read(**where).value == {"n": 1}


def test_a_key_that_is_in_no_calendar_is_no_group(desk, tmp_path):
    (tmp_path / "a.csv").write_text("time,due\n2015-09-12 13:00:00,2015-09-12\n")
    desk.build(files_of(tmp_path / "*.csv", by="due"))
    snapshot = desk.snapshot("odd")
    asked = {"due": "0001-01-01T00:00:00+05:00", "hour": "2015-09-12T13"}
    assert snapshot.read(**typed(snapshot.manifest, asked)).value is None


@pytest.mark.parametrize(
    ("asked", "value"), [("true", 1), ("True", 1), ("false", 2), ("False", 2), ("1", 0), ("", 0)]
)
def test_a_key_that_is_true_or_false_is_found_by_its_word_alone(desk, tmp_path, asked, value):
    rows = [{"time": "2015-09-12T13:00:00Z", "robot": robot} for robot in (True, False, False)]
    write_lines(tmp_path / "a.json", rows)
    desk.build(files_of(tmp_path / "*.json", by="robot"))
    snapshot = desk.snapshot("odd")
    where = typed(snapshot.manifest, {"robot": asked, "hour": "2015-09-12T13"})
    assert snapshot.read(**where).value == ({"n": value} if value else None)


# ---------------------------------------------------------------- what is said of what is wrong

LATIN = b"time,name\n2015-09-12 13:00:00,caf\xe9\n"
RAGGED = b"time,name\n2015-09-12 13:00:00,a\n2015-09-12 13:00:00,a,b\n"


@pytest.mark.parametrize(
    ("file", "data", "says"),
    [
        ("a.csv", LATIN, "Line: 2 Invalid unicode .* This file is not utf-8 encoded"),
        ("a.csv", RAGGED, "time='time' is neither a column nor SQL: .* It has column0, column1"),
        ("a.json.gz", b"plain" * 100, "Input is not a GZIP stream"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(desk, tmp_path, file, data, says):
    (tmp_path / file).write_bytes(data)
    pattern = tmp_path / file.replace("a.", "*.")
    with pytest.raises(Exception, match=rf"{file}.*{says}"):
        desk.build(files_of(pattern, by=()))
