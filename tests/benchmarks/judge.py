"""From measured values to what they say: medians, spreads, ratios, targets met or not.

A ratio is that of the medians; its spread is over the ratios of the single rounds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from statistics import median

from tests.benchmarks.case import Case, Goal
from tests.benchmarks.rounds import Series

__all__ = ["Change", "Verdict", "changes", "verdicts"]

Key = tuple[str, str, str]
"""Case, contender and tree."""


@dataclass(frozen=True)
class Verdict:
    """How a goal stands. ``value`` is a ratio if ``over`` names somebody, else the median."""

    case: str
    contender: str
    metric: str
    over: str
    value: float | None
    low: float | None
    high: float | None
    target: str
    met: bool | None


@dataclass(frozen=True)
class Change:
    """This checkout against the base: the ratio of the medians, now divided by base.

    ``beyond`` says whether the median of now lies outside of all rounds of the base.
    """

    case: str
    contender: str
    metric: str
    ratio: float
    beyond: str


def verdicts(cases: Sequence[Case], measured: Sequence[Series]) -> list[Verdict]:
    """All goals of the cases, judged for this checkout."""
    by_key = {(series.case, series.contender, series.tree): series for series in measured}
    return [_judge(case, goal, by_key) for case in cases for goal in case.goals]


def _judge(case: Case, goal: Goal, by_key: Mapping[Key, Series]) -> Verdict:
    def values(contender: str) -> list[float]:
        series = by_key[case.name, contender, "now"]
        return [] if series.errors else series.values.get(goal.metric, [])

    mine = values(goal.contender)
    rivals = {name: values(name) for name in goal.over if values(name)}
    best = ""
    value = low = high = None
    if mine and len(rivals) == len(goal.over):
        value, low, high = median(mine), min(mine), max(mine)
        if rivals:
            choose = max if goal.more_is_better else min
            best = choose(rivals, key=lambda name: median(rivals[name]))
            each = [one / other for one, other in zip(mine, rivals[best], strict=True)]
            value, low, high = value / median(rivals[best]), min(each), max(each)
    met: bool | None = None
    target = ""
    if goal.at_least is not None:
        target = f">= {goal.at_least:g}"
        met = value is not None and value >= goal.at_least
    elif goal.at_most is not None:
        target = f"<= {goal.at_most:g}"
        met = value is not None and value <= goal.at_most
    over = best or (goal.over[0] if goal.over else "")
    return Verdict(case.name, goal.contender, goal.metric, over, value, low, high, target, met)


def changes(cases: Sequence[Case], measured: Sequence[Series]) -> list[Change]:
    """Each metric of the farm that was measured in both trees."""
    base = {(one.case, one.contender): one for one in measured if one.tree == "base"}
    found = []
    for now in measured:
        old = base.get((now.case, now.contender))
        if now.tree == "base" or old is None:
            continue
        for metric, values in now.values.items():
            if before := old.values.get(metric):
                more = Goal(metric).more_is_better
                found.append(
                    Change(
                        now.case,
                        now.contender,
                        metric,
                        _over(median(values), median(before)),
                        _beyond(median(values), before, more_is_better=more),
                    )
                )
    return found


def _over(now: float, before: float) -> float:
    """The ratio; of nothing to nothing, such as lost tasks, it is 1."""
    if before:
        return now / before
    return inf if now else 1.0


def _beyond(value: float, before: Sequence[float], *, more_is_better: bool) -> str:
    if min(before) <= value <= max(before):
        return "within the spread"
    return "better" if (value > max(before)) is more_is_better else "WORSE"
