"""Prints what was measured: tables on a terminal, plain aligned lines elsewhere."""

import sys
from collections.abc import Sequence
from statistics import median

from tests.benchmarks.case import Case
from tests.benchmarks.judge import Change, Verdict
from tests.benchmarks.rounds import Series

__all__ = ["show"]

Rows = list[tuple[str, ...]]


def show(
    cases: Sequence[Case],
    measured: Sequence[Series],
    verdicts: Sequence[Verdict],
    changes: Sequence[Change],
) -> None:
    """Print the numbers, the goals, and the comparison with a base if there is one."""
    titles = {case.name: case.title for case in cases}
    _print(
        "Measured (median over the rounds)",
        ("case", "contender", "metric", "median", "min .. max"),
        [row for series in measured for row in _measured(series, titles[series.case])],
    )
    for series in measured:
        for error in dict.fromkeys(series.errors):
            print(f"{series.case}, {series.contender} ({series.tree}): {error}")
    _print(
        "Goals (ratio of the medians; spread of the rounds' ratios)",
        ("case", "contender", "metric", "divided by", "value", "min .. max", "target", ""),
        [_goal(verdict, titles[verdict.case]) for verdict in verdicts],
    )
    if changes:
        _print(
            "Now divided by base",
            ("case", "contender", "metric", "ratio", "median of now"),
            [
                (titles[one.case], one.contender, one.metric, f"{one.ratio:.3f}", one.beyond)
                for one in changes
            ],
        )


def _measured(series: Series, title: str) -> Rows:
    who = series.contender + (" at base" if series.tree == "base" else "")
    if series.errors:
        return [(title, who, "FAILED", "-", "")]
    return [
        (title, who, metric, _number(median(one)), f"{_number(min(one))} .. {_number(max(one))}")
        for metric, one in series.values.items()
    ]


def _goal(verdict: Verdict, title: str) -> tuple[str, ...]:
    if verdict.value is None or verdict.low is None or verdict.high is None:
        value = spread = "-"
    else:
        value = _number(verdict.value)
        spread = f"{_number(verdict.low)} .. {_number(verdict.high)}"
    met = {True: "met", False: "NOT MET", None: ""}[verdict.met]
    return (
        title,
        verdict.contender,
        verdict.metric,
        verdict.over or "-",
        value,
        spread,
        verdict.target,
        met,
    )


def _number(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _print(title: str, head: tuple[str, ...], rows: Rows) -> None:
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table

        table = Table(*head, title=title, title_justify="left")
        for row in rows:
            table.add_row(*row)
        Console().print(table)
        return
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    print(f"\n{title}\n")
    for row in (head, tuple("-" * width for width in widths), *rows):
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )
