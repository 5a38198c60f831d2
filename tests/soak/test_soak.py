"""Some seconds of a soak, and that a leak would be noticed."""

import pytest

from tests.soak.run import Report, run
from tests.soak.samples import Series, slope


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_farm_soaks_for_some_seconds():
    report = run(5.0, top_seconds=1.0, sample_seconds=0.5, kill_seconds=1.0)
    assert not report.problems, str(report)
    assert report.tasks
    assert report.killed
    assert {"coordinator", "agent", "client", "fork server"} <= set(report.series)
    assert {"store", "store in use", "history"} <= set(report.series["coordinator"])
    assert report.forgotten


def line(per_second, *, start=1000.0, seconds=600, noise=0.0):
    series = Series()
    for at in range(0, seconds, 2):
        series.add(at, start + per_second * at + noise * (at % 3 - 1))
    return series


@pytest.mark.parametrize("per_second", [-2.0, 0.0, 0.5])
def test_the_slope_is_that_of_the_line(per_second):
    assert slope(line(per_second)) == pytest.approx(per_second)
    assert slope(line(per_second, noise=50.0)) == pytest.approx(per_second, abs=0.05)


def test_too_little_has_no_slope():
    assert slope(Series()) == 0.0
    assert slope(Series([1.0], [5.0])) == 0.0


@pytest.mark.parametrize(
    ("what", "per_second", "start"),
    [
        ("resident memory", 30.0, 40_000.0),
        ("open files", 1 / 60, 20.0),
        ("threads", 1 / 200, 5.0),
        ("store", 100.0, 32_000.0),
        ("store in use", 20.0, 8_000.0),
        ("history", 20.0, 5_000.0),
    ],
)
def test_a_leak_is_noticed_and_noise_is_not(what, per_second, start):
    leaking = Report(600.0, series={"one": {what: line(per_second, start=start)}})
    leaking.judge()
    assert [problem.split(" of ")[0] for problem in leaking.problems] == [what]
    flat = Report(600.0, series={"one": {what: line(0.0, start=start, noise=start / 50)}})
    flat.judge()
    assert flat.problems == []


def test_a_history_that_forgets_nothing_is_noticed():
    """Its store may be flat because nothing comes to it, or because there is room in it."""
    told = {}
    for name, fall in (("never", 0.0), ("now and then", 3.0)):
        rows = line(0.0, start=5_000.0)
        rows.values[200] -= fall
        report = Report(600.0, series={"coordinator": {"history": rows}}, history=30.0)
        report.judge()
        told[name] = report.problems
    assert told["now and then"] == []
    assert told["never"] == ["nothing was forgotten that was older than 30 s"]


def test_nothing_is_judged_before_the_first_is_forgotten():
    assert Report(600.0, history=30.0).settled == 60.0
    assert Report(100.0, history=30.0).settled == pytest.approx(33.0)


def test_the_first_minute_counts_for_nothing():
    series = line(0.0)
    series.values[:30] = [value * at / 30 for at, value in enumerate(series.values[:30])]
    report = Report(600.0, series={"one": {"resident memory": series}})
    report.judge()
    assert report.problems == []
