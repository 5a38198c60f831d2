"""Types are guessed from the first rows of a file; what comes after them is read as it is."""

import json

import pytest

from farm_scheduler import Aggregate, Count, Distinct, Files, Sum
from farm_scheduler.aggregates.sources import files
from tests.unit.aggregates_helpers import Desk

HEAD = {"json": 40, "csv": 5000}
"""More rows than are guessed from: of a CSV DuckDB looks at some thousands at least."""
DAY = "2015-09-12"


@pytest.fixture
def desk(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "SAMPLE_ROWS", "20")
    desk = Desk(tmp_path)
    yield desk
    desk.catalog.close()


@pytest.fixture
def read(tmp_path, desk):
    """The one window of a file of these rows, in which ``v`` is measured."""

    def read(kind, rows, measure, *, by="c", hour=f"{DAY}T00", **how):
        path = tmp_path / f"rows.{kind}"
        rows = [{"time": f"{DAY}T00:00:00", "c": "all", **row} for row in rows]
        if kind == "json":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        else:
            lines = [f"{row['time']},{row['c']},{row['v']}\n" for row in rows]
            path.write_text("".join(["time,c,v\n", *lines]))
        measures = {"n": Count(), "m": measure}
        source = Files(str(path), time="time", **how)
        built = desk.build(Aggregate("a", source, by=[by], every="1h", measures=measures))
        assert not built.failures
        found = desk.snapshot("a").read(**{by: rows[-1][by]}, hour=hour).value
        return found["n"], found["m"]

    return read


@pytest.mark.parametrize(
    ("kind", "nothing"), [("json", {"v": None}), ("json", {}), ("csv", {"v": ""})]
)
@pytest.mark.parametrize("where", ["", "c IS NOT NULL"])
def test_a_column_that_begins_with_nothing_is_read_to_its_end(read, kind, nothing, where):
    rows = [nothing] * HEAD[kind] + [{"v": number} for number in (1, 2, 3)]
    assert read(kind, rows, Sum("v"), where=where) == (HEAD[kind] + 3, 6)


def test_a_condition_may_name_what_begins_later(read):
    rows = [{}] * HEAD["json"] + [{"v": number} for number in (1, 2, 3)]
    assert read("json", rows, Sum("v"), where="v > 1") == (2, 5)


@pytest.mark.parametrize("nothing", [{"v": None}, {"v": ""}])
def test_a_column_of_nothing_is_one(read, nothing):
    kind = "json" if nothing["v"] is None else "csv"
    assert read(kind, [nothing] * HEAD[kind], Sum("v"))[0] == HEAD[kind]


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_a_key_that_begins_with_nothing_is_one(read, kind):
    rows = [{"v": None if kind == "json" else ""}] * HEAD[kind] + [{"v": 7}]
    assert read(kind, rows, Count(), by="v") == (1, 1)


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_days_are_times_as_soon_as_one_is(read, kind):
    rows = [{"time": DAY, "v": 1}] * HEAD[kind] + [{"time": f"{DAY}T13:30:00", "v": 5}]
    assert read(kind, rows, Sum("v"), hour=f"{DAY}T13") == (1, 5)


def test_not_all_that_is_not_nothing_is_true(read):
    rows = [{"v": True}] * HEAD["json"] + [{"v": 5}, {"v": 6}]
    assert read("json", rows, Distinct("v")) == (HEAD["json"] + 2, 3)


def test_texts_of_digits_are_texts_where_others_are(read):
    rows = [{"v": "12"}] * HEAD["csv"] + [{"v": "x"}]
    assert read("csv", rows, Distinct("v")) == (HEAD["csv"] + 1, 2)
    assert read("csv", rows, Distinct("v"), columns={"v": "VARCHAR"}) == (HEAD["csv"] + 1, 2)
