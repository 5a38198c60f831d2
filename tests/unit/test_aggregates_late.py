"""Rows that come late: whatever comes when, each is served or set aside, and all are counted."""

import json
from collections import Counter, defaultdict
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from farm_scheduler import Aggregate, Count, Files, Sum
from tests.unit.aggregates_helpers import Desk, write_lines

HOUR = 3_600_000_000
LATENESS, DROP_AFTER = 1, 2
START = datetime(2015, 9, 12, tzinfo=UTC)
# Rows that come together: the file, and the hour in which each says that it happened.
steps = st.lists(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 11)), min_size=1, max_size=5),
    min_size=2,
    max_size=4,
)


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps, st.integers(1, 4))
def test_every_row_is_served_or_set_aside_and_counted(tmp_path_factory, steps, grows_at):
    """At one step, or never, the aggregate has one more measure: rows set aside come in."""
    folder = tmp_path_factory.mktemp("late")
    desk = Desk(folder)
    edits = Aggregate(
        "edits",
        Files(str(folder / "*.json"), time="time"),
        measures={"n": Count()},
        lateness=f"{LATENESS}h",
        drop_after=f"{DROP_AFTER}h",
    )
    expected, served, late, closed = Counter(), Counter(), Counter(), None
    aside = defaultdict(list)  # the hours of those of each file
    for number, rows in enumerate(steps):
        whole = set(aside) if number == grows_at else set()  # files of which all rows come in
        if number == grows_at:
            edits = replace(edits, measures={"n": Count(), "sum": Sum("one")})
        for file in whole:
            late.update(folded=len(aside[file]), aside=-len(aside[file]))
            served.update(aside[file])
            aside[file] = []
        for file, hour in rows:
            with (folder / f"{file}.json").open("a") as lines:
                moment = START + timedelta(hours=hour, minutes=30)
                lines.write(json.dumps({"time": f"{moment:%Y-%m-%dT%H:%M:%SZ}", "one": 1}) + "\n")
            expected[hour] += 1
            fate = _fate(hour, closed)
            if fate == "aside" and file in whole:
                fate = "folded"
            late[fate] += 1
            if fate == "aside":
                aside[file].append(hour)
            else:
                served[hour] += 1
        for file, _ in rows:
            aside[file]  # it is known from now on
        desk.build(edits)
        last = max(expected) + 0.5 - LATENESS
        closed = last if closed is None else max(closed, last)
        manifest = desk.catalog.manifest("edits")
        assert _served(desk) == served
        if number >= grows_at:
            assert _served(desk, "sum") == served
        assert manifest.watermark == round((START.timestamp() * 1e6) + closed * HOUR)
        assert (manifest.late.folded, manifest.late.quarantined) == (late["folded"], late["aside"])
        assert sum(one.aside for one in manifest.partitions.values()) == late["aside"]
        assert sum(served.values()) + late["aside"] == sum(expected.values())
    desk.catalog.close()


def _fate(hour, closed):
    """What becomes of a row of this hour, in plain words; ``closed`` is the watermark, in hours."""
    if closed is None or hour >= closed:
        return "in time"
    return "aside" if hour < (closed - DROP_AFTER) // 1 else "folded"


def _served(desk, measure="n"):
    rows = desk.snapshot("edits").table("hour").to_pylist()
    return Counter({(row["hour"] - START) // timedelta(hours=1): row[measure] for row in rows})


@pytest.mark.parametrize("others", [{"by": ["user"]}, {"every": "30m"}])
def test_windows_that_take_nothing_more_have_the_groups_that_are_asked_for_now(tmp_path, others):
    desk = Desk(tmp_path)
    rows = [
        {"time": f"2015-09-12T{hour:02}:40:00Z", "channel": "#en", "user": "u1"} for hour in (1, 20)
    ]
    write_lines(tmp_path / "a.json", rows)
    source = Files(str(tmp_path / "*.json"), time="time")
    edits = Aggregate("edits", source, by=["channel"], drop_after="1h")
    desk.build(edits)
    desk.build(replace(edits, **others))
    manifest = desk.catalog.manifest("edits")
    assert (manifest.late.folded, manifest.late.quarantined, manifest.late.removed) == (0, 0, 0)
    other = Desk(tmp_path / "other")
    other.build(replace(edits, **others))
    assert desk.snapshot("edits").table().equals(other.snapshot("edits").table())
    other.catalog.close()
    desk.catalog.close()


def test_what_cannot_be_read_is_not_taken_by_other_groups_than_are_asked_for(tmp_path):
    desk = Desk(tmp_path)
    for hour in (1, 2):
        row = {"time": f"2015-09-12T{hour:02}:00:00Z", "channel": "#en", "user": "u1"}
        write_lines(tmp_path / f"{hour}.json", [row])
    source = Files(str(tmp_path / "*.json"), time="time")
    edits = Aggregate("edits", source, by=["channel"])
    desk.build(edits)
    (tmp_path / "2.json").write_text("nonsense")
    built = desk.build(replace(edits, by=["user"]))
    assert [*built.failures] == [str(tmp_path / "2.json")]
    assert desk.snapshot("edits").table().column("user").to_pylist() == ["u1"]
    assert not desk.snapshot("edits").manifest.complete
    desk.catalog.close()


def test_rows_whose_key_is_no_number_are_not_late_for_those_that_come_in_time(tmp_path):
    desk = Desk(tmp_path)
    header = "time,x\n2015-09-12T01:00:00Z,nan\n2015-09-12T20:00:00Z,1.5\n"
    (tmp_path / "a.csv").write_text(header)
    source = Files(str(tmp_path / "*.csv"), time="time", columns={"x": "DOUBLE"})
    edits = Aggregate("edits", source, by=["x"], drop_after="1h")
    desk.build(edits)
    (tmp_path / "a.csv").write_text(header + "2015-09-12T21:00:00Z,1.5\n")
    desk.build(edits)
    manifest = desk.catalog.manifest("edits")
    assert (manifest.late.folded, manifest.late.quarantined, manifest.late.removed) == (0, 0, 0)
    desk.catalog.close()
