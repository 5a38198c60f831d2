"""A day with an aggregate: defined in a file, kept up by `farm up`, read, changed, explained."""

import gzip
import json
import time
from collections import defaultdict

import pytest

import farm_scheduler
from tests.processes import free_ports

MODULE = """
from farm_scheduler import Aggregate, Count, Distinct, Files, Quantiles, Sum, TopK

edits = Aggregate(
    name="edits",
    source=Files("edits/{day}/{hour}.json", time="time"),
    by=["channel"], every="1m", rollup=["1h", "1d"],
    measures={"edits": Count(), "added": Sum("added"), "users": Distinct("user"),
              "added_q": Quantiles("added"), "pages": TopK("page", 10)},
    schedule="@every 1s", lateness="2h", fresh_within="90m",
)
"""
"""As docs/aggregates.md has it, but for how often."""
HOURS = {"12": 1709, "13": 2073, "14": 1873}
"""Rows, as SOURCE.txt beside the data says."""
HOUR = ("channel=#en.wikipedia", "hour=2015-09-12T13")
LATE = {"time": "2015-09-12T13:30:00Z", "channel": "#en.wikipedia", "added": 5, "page": "late"}
PATIENCE = 60.0


@pytest.fixture
def hours(data_dir, machine):
    """The edits of three hours, a file for each."""
    found = defaultdict(list)
    (path,) = (data_dir / "wikipedia_edits").glob("*.json.gz")
    with gzip.open(path, "rt") as file:
        for line in file:
            found[json.loads(line)["time"][11:13]].append(line)
    folder = machine.folder / "edits" / "2015-09-12"
    folder.mkdir(parents=True)
    for hour, rows in HOURS.items():
        assert len(found[hour]) == rows
        (folder / f"{hour}.json").write_text("".join(found[hour]))
    (machine.folder / "edits.py").write_text(MODULE)
    return folder


def version(machine, least):
    """Wait until a version is published; its number."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        code, out, _ = machine.farm("aggregates", "list", "--json")
        found = json.loads(out) if code == 0 else []
        if found and found[0]["version"] >= least:
            return found[0]["version"]
        time.sleep(0.2)
    raise AssertionError(f"version {least} was not published")


def test_a_day_with_an_aggregate(machine, hours, monkeypatch):
    http = f"127.0.0.1:{free_ports()}"
    machine.up("--slots", "2", "--schedules", "edits.py", "--http", http)
    first = version(machine, 1)
    before = machine.ask("aggregates", "read", "edits", *HOUR)
    assert before["value"]["edits"] == 568
    assert before["complete"] is True

    with (hours / "13.json").open("a") as file:
        file.writelines(json.dumps({**LATE, "user": f"late{at}"}) + "\n" for at in range(3))
    second = version(machine, first + 1)
    after = machine.ask("aggregates", "read", "edits", *HOUR)
    assert after["value"]["edits"] == 571
    assert after["value"]["added"] == before["value"]["added"] + 15
    shown = machine.ask("aggregates", "show", "edits")
    assert shown["runs"][0]["state"] in {"done", "running"}
    history = machine.ask("schedules", "history", "edits")
    assert any("1 of 3 partitions changed" in one["detail"] for one in history)

    explained = machine.ask("aggregates", "explain", "edits", *HOUR)
    assert [one["rows"] for one in explained] == [571]
    assert explained[0]["partition"].endswith("13.json")
    old = machine.ask("aggregates", "read", "edits", *HOUR, "--version", str(first))
    assert old["value"] == before["value"]
    at_that_time = machine.ask(
        "aggregates", "read", "edits", *HOUR, "--as-of", published(shown, first)
    )
    assert at_that_time["value"] == before["value"]

    monkeypatch.setenv("XDG_CACHE_HOME", str(machine.folder / "cache"))
    elsewhere = farm_scheduler.open("edits", gateway=f"http://{http}")
    reading = elsewhere.read(channel="#en.wikipedia", hour="2015-09-12T13")
    assert reading.value == after["value"]
    assert reading.version == second


def published(shown, number):
    """A moment at which a version was served, as ISO writes it."""
    from datetime import UTC, datetime

    (at,) = (one["published"] for one in shown["versions"] if one["version"] == number)
    return datetime.fromtimestamp(at + 0.001, UTC).isoformat()
