"""Aggregates on a real farm: refreshed by the scheduler's own process, computed by workers."""

import sys
from queue import Queue

import pytest

import farm
from farm_scheduler.aggregates import Catalog, View
from farm_scheduler.files import read_files
from farm_scheduler.refreshing import Refresher
from tests.unit.aggregates_helpers import write_lines

pytestmark = pytest.mark.usefixtures("forked_services")

MODULE = """
from farm_scheduler import Aggregate, Count, Files, Sum

edits = Aggregate(
    name="edits",
    source=Files({pattern!r}, time="time"),
    by=["channel"],
    every="1h",
    measures={{"n": Count(), "added": Sum("added")}},
    schedule="@hourly",
    fresh_within="1h",
)
"""


@pytest.fixture
def declared(tmp_path, monkeypatch):
    for hour in range(3):
        rows = [
            {"time": f"2015-09-12T{hour:02}:30:00Z", "channel": "#en", "added": hour + at}
            for at in range(10)
        ]
        write_lines(tmp_path / f"edits/{hour:02}.json", rows)
    module = tmp_path / "declared_aggregates.py"
    module.write_text(MODULE.format(pattern=str(tmp_path / "edits/{hour_}.json")))
    monkeypatch.setattr(sys, "path", [*sys.path])
    found = read_files([str(module)])
    assert found.problems == []
    yield found.schedules["edits"]
    sys.modules.pop("declared_aggregates", None)


@pytest.fixture
def client():
    with farm.local(workers=2) as client:
        yield client


def refreshed(refresher, heard, schedule, fire):
    aggregate = refresher.aggregate_of(schedule)
    refresher.start(fire, aggregate)
    return heard.get(timeout=60)


def test_a_fire_of_an_aggregate_publishes_it(client, declared, tmp_path):
    heard: Queue = Queue()
    refresher = Refresher(tmp_path / "aggregates.db", client, heard.put)
    ended = refreshed(refresher, heard, declared, "f1")
    assert (ended.fire, ended.outcome) == ("f1", "succeeded")
    assert "3 of 3 partitions changed" in ended.detail
    assert "version 1" in ended.detail
    view = View("edits", Catalog(tmp_path / "aggregates.db", must_exist=True))
    assert view.read(channel="#en", hour="2015-09-12T02").value == {"n": 10, "added": 65}
    again = refreshed(refresher, heard, declared, "f2")
    assert "nothing had changed" in again.detail
    view.catalog.close()
    refresher.close()


def test_what_cannot_be_refreshed_says_why(client, declared, tmp_path):
    heard: Queue = Queue()
    for path in (tmp_path / "edits").iterdir():
        path.unlink()
    refresher = Refresher(tmp_path / "aggregates.db", client, heard.put)
    ended = refreshed(refresher, heard, declared, "f1")
    assert ended.outcome == "failed"
    assert "matches no file" in ended.detail
    refresher.close()


def test_a_schedule_that_runs_a_function_is_no_aggregate(client, declared, tmp_path):
    from farm_scheduler import Schedule

    refresher = Refresher(tmp_path / "aggregates.db", client, print)
    assert refresher.aggregate_of(Schedule("x", cron="@daily", run="math:factorial")) is None
    assert refresher.aggregate_of(Schedule("x", cron="@daily", command=["true"])) is None
    refresher.close()
