"""What the commands about aggregates say."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from farm.cli.main import app
from tests.unit.aggregates_helpers import write_lines

MODULE = """
from farm_scheduler import Aggregate, Count, Files, Sum, TopK

edits = Aggregate(
    name="edits",
    source=Files({pattern!r}, time="time"),
    by=["channel"],
    every="1h",
    rollup=["1d"],
    measures={{"n": Count(), "added": Sum("added"), "who": TopK("user", 2)}},
)
"""
DEFINED = "cli_aggregates"


@pytest.fixture
def said(tmp_path, monkeypatch):
    for hour in range(3):
        write_hour(tmp_path, hour)
    module = tmp_path / f"{DEFINED}.py"
    module.write_text(MODULE.format(pattern=str(tmp_path / "edits/{hour_}.json")))
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    catalog = str(tmp_path / "c.db")

    def say(*words, code=0):
        found = CliRunner().invoke(app, ["aggregates", *words, "--catalog", catalog])
        assert found.exit_code == code, found.output
        return found.output

    yield say
    sys.modules.pop(DEFINED, None)


def write_hour(folder, hour, extra=0):
    rows = [
        {
            "time": f"2015-09-12T{hour:02}:30:00Z",
            "channel": "#en",
            "added": at,
            "user": f"u{at % 3}",
        }
        for at in range(10 + extra)
    ]
    write_lines(folder / f"edits/{hour:02}.json", rows)


HERE = ("edits", "-f", f"{DEFINED}.py")


def test_an_aggregate_is_planned_run_read_and_explained(said, tmp_path):
    assert "3 of 3 partitions changed" in said("plan", *HERE)
    assert "3 of 3 partitions changed, 3 read, 2 nodes made: version 1" in said(
        "run", *HERE, "--here"
    )
    assert "edits" in said("list")
    read = json.loads(said("read", "edits", "channel=#en", "day=2015-09-12", "--json"))
    assert read["value"]["n"] == 30
    assert read["value"]["who"] == [{"value": "u0", "count": 12}, {"value": "u1", "count": 9}]
    assert read["exact"] is True
    write_hour(tmp_path, 1, extra=5)
    assert "1 of 3 partitions changed" in said("plan", *HERE)
    assert "1 of 3 partitions changed, 1 read, 2 nodes made: version 2" in said(
        "run", *HERE, "--here"
    )
    old = ("channel=#en", "hour=2015-09-12T01", "--version", "1", "--json")
    assert json.loads(said("read", "edits", *old))["value"]["n"] == 10
    explained = json.loads(said("explain", "edits", "channel=#en", "hour=2015-09-12T01", "--json"))
    assert [(one["partition"][-7:], one["rows"]) for one in explained] == [("01.json", 15)]
    assert "3 partitions came out the same" in said("verify", *HERE, "--here")
    assert "version 1 is served" in said("rollback", "edits", "1")
    assert "removed 0 versions" in said("gc")
    shown = said("show", "edits")
    assert "set aside" in shown
    assert "n = Count(), added = Sum('added'), who = TopK('user', k=2)" in shown


def test_lists_load_nothing_that_computes(said, tmp_path):
    said("run", *HERE, "--here")
    code = (
        "import sys\nfrom farm.cli.main import app\ntry:\n    app(sys.argv[1:])\nfinally:\n"
        "    print({'pyarrow', 'duckdb', 'numpy'} & {*sys.modules})"
    )
    words = ["aggregates", "list", "--quiet", "--catalog", str(tmp_path / "c.db")]

    found = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=True
    )

    assert "edits" in found.stdout
    assert found.stdout.endswith("set()\n")


@pytest.mark.parametrize("words", [("list",), ("plan", "edits"), ("read", "edits", "channel=#en")])
def test_without_what_computes_the_remedy_is_said(said, monkeypatch, words):
    monkeypatch.setitem(sys.modules, "duckdb", None)

    assert "pip install 'compute-farm[aggregates]'" in said(*words, code=11)


def test_two_of_one_name_are_refused_with_the_remedy(said, tmp_path):
    second = tmp_path / "second_aggregates.py"
    second.write_text((tmp_path / f"{DEFINED}.py").read_text())

    refused = said("plan", *HERE, "-f", second.name, code=3)

    assert "there is an aggregate 'edits' already; give one of them another name" in refused


def test_what_is_published_is_exported(said, tmp_path):
    import pyarrow.parquet as pq

    said("run", *HERE, "--here")
    said("export", "edits", str(tmp_path / "out.parquet"), "--level", "hour")
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.column("n").to_pylist() == [10, 10, 10]
    assert table.column_names[:2] == ["hour", "channel"]


def test_what_is_not_there_is_named(said):
    said("run", *HERE, "--here")
    assert "did you mean 'edits'" in said("read", "edts", "channel=#en", code=5)
    assert "not kept by 'chanel'" in said("read", "edits", "chanel=x", "day=2015-09-12", code=3)
    assert "no windows of a month" in said("read", "edits", "channel=x", "month=2015-09", code=3)
    assert "not COLUMN=VALUE" in said("read", "edits", "channel", code=2)
