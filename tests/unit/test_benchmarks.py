import json
import os
from collections.abc import Mapping
from contextlib import ExitStack
from math import inf

import pytest

from tests.benchmarks import __main__ as program
from tests.benchmarks.case import FARM, MEMORY, PPE, Case, Goal
from tests.benchmarks.cases import CASES
from tests.benchmarks.judge import changes, verdicts
from tests.benchmarks.measurement import ROOT, Measurement, MeasurementFailed
from tests.benchmarks.rounds import Series

RATE = "tasks_per_second"


def series(contender: str, *values: float, tree: str = "now", metric: str = RATE) -> Series:
    return Series("case", contender, tree, {metric: list(values)})


def case(*goals: Goal) -> Case:
    def measure(order: object) -> Mapping[str, float]:
        raise NotImplementedError

    return Case("case", "a case", (FARM, PPE), 1, 1, measure, goals)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["submit", "backlog", "many-hosts"])
def test_a_case_runs_once_in_its_smallest_size(name, tmp_path, capsys):
    """One of each kind of rig: `make bench QUICK=1` does so with all of them."""
    path = tmp_path / "bench.json"

    code = program.main(
        ["--quick", "--rounds", "1", "--only", name, "--json", os.fspath(path)],
    )

    said = capsys.readouterr()
    assert code == 0, said.out
    assert "NOT MET" in said.out or " met" in said.out
    written = json.loads(path.read_text("utf-8"))
    assert {one["case"] for one in written["measured"]} == {name}
    assert all(values for one in written["measured"] for values in one["values"].values())
    assert not any(one["errors"] for one in written["measured"])


def test_a_goal_is_judged_by_the_medians_against_the_best_rival():
    goal = Goal(RATE, over=(PPE, "Pool"), at_least=2.0)
    measured = [series(FARM, 10, 50, 30), series(PPE, 1, 2, 3), series("Pool", 10, 10, 20)]

    (verdict,) = verdicts([case(goal)], measured)

    assert (verdict.over, verdict.value, verdict.met) == ("Pool", 3.0, True)
    assert (verdict.low, verdict.high) == (1.0, 5.0)


def test_where_less_is_better_the_best_rival_is_the_least():
    goal = Goal("p50_ms", over=(PPE, "Pool"), at_most=2.0)
    measured = [
        series(name, value, metric="p50_ms")
        for name, value in ((FARM, 9.0), (PPE, 3.0), ("Pool", 5.0))
    ]

    (verdict,) = verdicts([case(goal)], measured)

    assert (verdict.over, verdict.value, verdict.met) == (PPE, 3.0, False)


def test_a_measurement_that_failed_meets_no_goal():
    broken = series(FARM, 100.0)
    broken.errors.append("it failed")

    (verdict,) = verdicts([case(Goal(RATE, over=(PPE,), at_least=2.0))], [broken, series(PPE, 1)])

    assert (verdict.value, verdict.met) == (None, False)


@pytest.mark.parametrize(
    ("now", "said"), [(11.0, "within the spread"), (20.0, "better"), (5.0, "WORSE")]
)
def test_a_change_is_one_beyond_the_spread_of_the_base(now, said):
    measured = [series(FARM, now), series(FARM, 10.0, 11.0, 12.0, tree="base"), series(PPE, 1.0)]

    (change,) = changes([case()], measured)

    assert (change.beyond, change.ratio) == (said, now / 11.0)


@pytest.mark.parametrize(
    ("now", "ratio", "said"), [(0, 1.0, "within the spread"), (2, inf, "WORSE")]
)
def test_of_what_the_base_has_none_there_may_be_none(now, ratio, said):
    lost = {
        tree: series(FARM, value, tree=tree, metric="lost_tasks")
        for tree, value in (("now", now), ("base", 0))
    }

    (change,) = changes([case()], [*lost.values(), series(PPE, 1.0)])

    assert (change.ratio, change.beyond) == (ratio, said)


def test_what_works_by_turns_does_so_one_part_after_the_other(tmp_path):
    order: dict[str, object] = {"case": "round-trip", "size": 20, "spin": 1}
    contenders = [order | {"contender": name} for name in (PPE, MEMORY)]
    parts = CASES["round-trip"].parts

    with ExitStack() as stack:
        running = [stack.enter_context(Measurement(ROOT, one, 60.0)) for one in contenders]
        for one in running:
            one.wait()
        for _ in range(parts - 1):
            for one in running:
                one.go()
                one.wait()
        for one in running:
            one.go()
        numbers = [one.numbers() for one in running]

    assert all(0 < one["p50_ms"] <= one["p99_ms"] for one in numbers)


def test_a_measurement_that_fails_says_its_last_words():
    order: dict[str, object] = {"case": "round-trip", "size": 20, "spin": 1, "contender": "-"}

    with (
        Measurement(ROOT, order | {"nobody": "knows"}, 60.0) as one,
        pytest.raises(MeasurementFailed, match=r"failed with 1: TypeError.*nobody"),
    ):
        one.wait()


def test_a_measurement_that_takes_too_long_is_ended():
    order: dict[str, object] = {"case": "round-trip", "size": 20, "spin": 1, "contender": PPE}

    with Measurement(ROOT, order, 3.0) as one:
        one.wait()
        with pytest.raises(MeasurementFailed, match="no end after 3 s"):
            one.wait()  # it waits for its turn
