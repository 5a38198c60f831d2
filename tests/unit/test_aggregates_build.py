"""A run computes what has changed and nothing else, and publishes it whole."""

import sqlite3
import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from farm.errors import ConfigError, StoreError
from farm_scheduler import Aggregate
from farm_scheduler.aggregates import NoPartition, View, explain
from farm_scheduler.aggregates.measures import Count, Distinct, Max, Mean, Quantiles, Sum, TopK
from farm_scheduler.aggregates.sources import Files
from farm_scheduler.freshness import freshness
from tests.unit.aggregates_helpers import Desk, write_lines

HOURS = 6


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path)
    yield desk
    desk.catalog.close()


@pytest.fixture
def edits(tmp_path):
    for hour in range(HOURS):
        write_hour(tmp_path, hour)
    return Aggregate(
        "edits",
        Files(str(tmp_path / "edits/{day}/{hour}.json"), time="time"),
        by=["channel"],
        every="15m",
        rollup=["1h", "1d"],
        measures={"n": Count(), "added": Sum("added"), "users": Distinct("user")},
    )


def write_hour(folder, hour, *, rows=24, more=()):
    found = [
        {
            "time": f"2015-09-12T{hour:02}:{minute % 60:02}:00Z",
            "channel": ("#en", "#de")[minute % 2],
            "added": minute,
            "user": f"u{minute % 7}",
        }
        for minute in range(0, rows * 2 + 1, 1)
    ]
    return write_lines(folder / f"edits/2015-09-12/{hour:02}.json", [*found, *more])


def total(desk, measure):
    return sum(desk.snapshot("edits").table("day").column(measure).to_pylist())


def test_what_is_published_is_what_is_in_the_files(desk, edits):
    built = desk.build(edits)
    assert built.version == 1
    assert built.lifted == HOURS
    assert not built.failures
    assert total(desk, "n") == HOURS * 49
    assert total(desk, "added") == HOURS * sum(range(49))
    reading = desk.snapshot("edits").read(channel="#de", hour="2015-09-12T03")
    assert reading.value == {"n": 24, "added": sum(range(1, 49, 2)), "users": 7}
    assert reading.complete
    assert reading.version == 1


def test_when_nothing_has_changed_nothing_is_done(desk, edits):
    desk.build(edits)
    again = desk.build(edits)
    assert again.version == 0
    assert again.plan.is_empty
    assert desk.workers.done == []
    assert [one.version for one in desk.catalog.versions("edits")] == [1]


def test_a_change_costs_its_own_path_only(desk, edits, tmp_path):
    first = desk.build(edits)
    assert f"{HOURS} partitions changed, the nodes of {HOURS} not read yet" in str(first.plan)
    late = {"time": "2015-09-12T02:59:00Z", "channel": "#en", "added": 1000, "user": "u9"}
    write_hour(tmp_path, 2, more=[late])
    again = desk.build(edits)
    assert [change.why for change in again.plan.changes] == ["changed"]
    assert desk.workers.done.count("lift") == 1
    assert desk.workers.done.count("merge") == len(edits.levels.all)
    assert str(again.plan).startswith(f"1 of {HOURS} partitions changed, 3 nodes")
    assert total(desk, "added") == HOURS * sum(range(49)) + 1000


def test_a_file_that_was_only_touched_is_read_but_not_computed(desk, edits, tmp_path):
    desk.build(edits)
    write_hour(tmp_path, 2)
    assert desk.build(edits).version == 0
    assert desk.workers.done == []


def test_a_measure_that_is_added_is_the_only_one_computed(desk, edits):
    desk.build(edits)
    more = replace(edits, measures={**edits.measures, "most": Max("added")})
    built = desk.build(more)
    assert built.version == 2
    assert str(built.plan).startswith(f"0 of {HOURS} partitions changed, {HOURS} read again, ")
    assert len(built.plan.again) == built.lifted == HOURS
    assert built.plan.seconds > 0
    there = desk.catalog.manifest("edits")
    first = desk.catalog.manifest("edits", 1)
    for level, chunks in first.levels.items():
        for chunk, ref in chunks.items():
            now = there.levels[level][chunk]
            assert {name: now.states[name] for name in ref.states} == ref.states
    assert desk.snapshot("edits").read(channel="#en", day="2015-09-12").value["most"] == 48
    assert desk.build(edits).plan.again == []  # what it needs is there still


def test_what_is_removed_is_gone(desk, edits, tmp_path):
    desk.build(edits)
    (tmp_path / "edits/2015-09-12/05.json").unlink()
    built = desk.build(edits)
    assert built.plan.removed == [str(tmp_path / "edits/2015-09-12/05.json")]
    assert total(desk, "n") == (HOURS - 1) * 49


def test_a_partition_that_cannot_be_read_is_named_and_the_others_are_published(
    desk, edits, tmp_path
):
    broken = tmp_path / "edits/2015-09-12/04.json"
    broken.write_text('{"time": "2015-09-12T04:00:00Z", "channel": ')
    built = desk.build(edits)
    assert list(built.failures) == [str(broken)]
    assert "04.json" in built.failures[str(broken)]
    assert total(desk, "n") == (HOURS - 1) * 49
    reading = desk.snapshot("edits").read(channel="#en", day="2015-09-12")
    assert not reading.complete
    write_hour(tmp_path, 4)
    assert not desk.build(edits).failures
    assert total(desk, "n") == HOURS * 49


def test_a_partition_that_becomes_unreadable_stays_as_it_was(desk, edits, tmp_path):
    desk.build(edits)
    (tmp_path / "edits/2015-09-12/04.json").write_text("{]\n")
    built = desk.build(edits)
    assert len(built.failures) == 1
    assert total(desk, "n") == HOURS * 49
    assert not desk.snapshot("edits").read(channel="#en", day="2015-09-12").complete


def test_a_column_of_another_kind_is_refused_by_name(desk, edits, tmp_path):
    row = {"time": "2015-09-12T05:00:00Z", "channel": "#en", "added": "many", "user": "u"}
    write_lines(tmp_path / "edits/2015-09-12/05.json", [row])
    (message,) = desk.build(edits).failures.values()
    assert "05.json" in message
    assert "'added'" in message
    assert "numbers" in message


def test_a_column_that_is_not_there_is_named_with_the_nearest(desk, edits):
    wrong = replace(edits, measures={"sum": Sum("aded")})
    with pytest.raises(NoPartition, match=r"no column 'aded'.*did you mean 'added'"):
        desk.build(wrong)


def test_a_pattern_that_matches_nothing_says_so(desk, edits):
    nowhere = replace(edits, source=replace(edits.source, pattern="nowhere/{day}.json"))
    with pytest.raises(ConfigError, match="matches no file"):
        desk.build(nowhere)
    assert desk.catalog.head("edits") == 0


def test_an_older_version_stays_as_it_was_published(desk, edits, tmp_path):
    desk.build(edits)
    before = desk.snapshot("edits", 1).read(channel="#en", day="2015-09-12")
    write_hour(tmp_path, 1, rows=3)
    desk.build(edits)
    after = desk.snapshot("edits", 1).read(channel="#en", day="2015-09-12")
    assert after.value == before.value
    assert desk.snapshot("edits").read(channel="#en", day="2015-09-12").value != before.value


def test_two_writers_are_not_let_in(desk):
    with (
        desk.catalog.writing(),
        pytest.raises(StoreError, match="being written by another"),
        desk.catalog.writing(),
    ):
        pass


def test_rows_that_come_late_are_counted(desk, edits, tmp_path):
    desk.build(edits)
    late = {"time": "2015-09-12T00:10:00Z", "channel": "#en", "added": 5, "user": "u"}
    write_hour(tmp_path, 0, more=[late, late])
    assert desk.build(edits).late.folded == 2
    manifest = desk.catalog.manifest("edits")
    assert (manifest.late.folded, manifest.late.quarantined) == (2, 0)
    write_hour(tmp_path, 0, more=[late, late, late])
    desk.build(replace(edits, drop_after="2h"))
    told = explain(desk.snapshot("edits"), desk.catalog, channel="#en", hour="2015-09-12T00")
    assert [(one.late, one.aside) for one in told.contributions] == [(2, 1)]


def test_rows_that_come_too_late_are_set_aside_and_counted(desk, edits, tmp_path):
    kept = replace(edits, drop_after="2h")
    desk.build(kept)
    before = desk.snapshot("edits").read(channel="#en", hour="2015-09-12T00").value
    late = {"time": "2015-09-12T00:10:00Z", "channel": "#en", "added": 5, "user": "u"}
    fresh = {"time": "2015-09-12T05:10:00Z", "channel": "#en", "added": 7, "user": "u"}
    write_hour(tmp_path, 0, more=[late, fresh])
    assert desk.build(kept).late.quarantined == 1
    assert desk.snapshot("edits").read(channel="#en", hour="2015-09-12T00").value == before
    assert total(desk, "added") == HOURS * sum(range(49)) + 7
    assert desk.build(kept).version == 0


def test_a_row_from_the_future_sets_nothing_aside_that_comes_now(desk, edits, tmp_path):
    kept = replace(edits, drop_after="1h")
    row = {"channel": "#en", "added": 5, "user": "u"}
    now = datetime.now(UTC)
    write_hour(tmp_path, 0, more=[row | {"time": "2999-01-01T00:00:00Z"}])
    desk.build(kept)
    assert desk.snapshot("edits").manifest.watermark <= time.time() * 1e6
    write_hour(tmp_path, 1, more=[row | {"time": f"{now:%Y-%m-%dT%H:%M:%SZ}"}])
    assert desk.build(kept).late.quarantined == 0
    assert total(desk, "added") == HOURS * sum(range(49)) + 10


@pytest.mark.parametrize("more", [0, 2])
def test_rows_that_were_set_aside_come_in_with_a_measure_that_is_new(desk, edits, tmp_path, more):
    kept = replace(edits, drop_after="2h")
    desk.build(kept)
    late = {"time": "2015-09-12T00:10:00Z", "channel": "#en", "added": 5, "user": "u"}
    write_hour(tmp_path, 0, more=[late])
    assert desk.build(kept).late.quarantined == 1
    write_hour(tmp_path, 0, more=[late] * (1 + more))  # some come late in that very run, or none
    desk.build(replace(kept, measures={**kept.measures, "greatest": Max("added")}))
    manifest = desk.catalog.manifest("edits")
    assert total(desk, "added") == HOURS * sum(range(49)) + 5 * (1 + more)
    assert (manifest.late.folded, manifest.late.quarantined) == (1 + more, 0)
    assert not any(one.aside for one in manifest.partitions.values())


def test_every_measure_of_the_guide_can_be_read(desk, edits):
    every = replace(
        edits,
        measures={"mean": Mean("added"), "q": Quantiles("added"), "who": TopK("user", 2)},
    )
    desk.build(every)
    value = desk.snapshot("edits").read(channel="#en", day="2015-09-12").value
    assert value["mean"] == 24.0
    assert value["q"]["p50"] == 24.0
    assert value["who"] == [{"value": "u0", "count": 24}, {"value": "u2", "count": 24}]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"day": "2015-09-12"}, "is asked for two windows of time; leave out 'day'"),
        ({"chanel": "#de"}, "is not kept by 'chanel'; did you mean 'channel'[?] It is by channel"),
        ({"planet": "Mars"}, "is not kept by 'planet'. It is by channel"),
    ],
)
def test_what_is_asked_for_too_much_is_named(desk, edits, more, says):
    desk.build(edits)
    with pytest.raises(LookupError, match=says):
        desk.snapshot("edits").read(channel="#en", hour="2015-09-12T00", **more)


def test_what_is_older_than_promised_is_late(desk, edits, tmp_path):
    desk.build(replace(edits, fresh_within="1h"))
    (found,) = freshness(tmp_path / "aggregates.db")
    assert (found.name, found.version, found.is_fresh) == ("edits", 1, True)
    desk.build(replace(edits, fresh_within="0.000001s"))
    (found,) = freshness(tmp_path / "aggregates.db")
    assert not found.is_fresh
    assert freshness(tmp_path / "none.db") == []


def test_a_table_is_one_of_pandas_and_of_polars(desk, edits):
    import polars as pl

    desk.build(edits)
    table = View("edits", desk.catalog).table("1d")
    frames = [table.to_pandas(), pl.from_arrow(table).to_pandas()]
    for frame in frames:
        assert list(frame.columns) == table.column_names
        assert frame["n"].sum() == HOURS * 49
        assert frame["added"].sum() == HOURS * sum(range(49))
    assert pl.from_arrow(table).height == table.num_rows


def test_a_reading_may_be_changed_by_who_has_it(desk, edits):
    desk.build(replace(edits, measures={"top": TopK("user", k=1), "added": Quantiles("added")}))
    snapshot, where = desk.snapshot("edits"), {"channel": "#en", "hour": "2015-09-12T00"}
    value = snapshot.read(**where).value
    top, median = value["top"][0]["value"], value["added"]["p50"]
    value["top"].clear()
    value["added"].clear()
    again = snapshot.read(**where).value
    assert (again["top"][0]["value"], again["added"]["p50"]) == (top, median)


def test_a_catalog_for_which_there_is_no_room_says_so_and_goes_on(desk):
    limit = "PRAGMA max_page_count"
    (pages,) = desk.catalog._db.execute("PRAGMA page_count").fetchone()
    (most,) = desk.catalog._db.execute(limit).fetchone()
    desk.catalog._db.execute(f"{limit}={pages + 2}")
    for _ in range(2):
        with pytest.raises(sqlite3.OperationalError, match="full"):
            desk.catalog.put({"large": bytes(100_000)})
    desk.catalog._db.execute(f"{limit}={most}")
    desk.catalog.put({"large": bytes(100_000)})
    assert desk.catalog.present(["large"]) == {"large"}
