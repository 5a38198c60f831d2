"""``python -m tests.benchmarks``: the farm beside the standard library's executors.

``docs/benchmarks.md`` says what is measured and how to read it.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from tests.benchmarks.against import base_tree, commit_of
from tests.benchmarks.case import Case
from tests.benchmarks.cases import CASES
from tests.benchmarks.judge import changes, verdicts
from tests.benchmarks.measurement import ROOT
from tests.benchmarks.plot import draw
from tests.benchmarks.rounds import NOW, Series, run
from tests.benchmarks.table import show

__all__ = ["main"]


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description=(__doc__ or "").split("\n", maxsplit=1)[0]
    )
    parser.add_argument("--base", metavar="REF", help="measure this commit, too, by turns")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="default: 5")
    parser.add_argument("--only", nargs="+", choices=CASES, metavar="NAME", help=", ".join(CASES))
    parser.add_argument(
        "--size",
        nargs="+",
        type=_size,
        default=[],
        metavar="NAME=N",
        help="another size of a case, such as overload=20 (seconds)",
    )
    parser.add_argument(
        "--json",
        type=Path,
        metavar="PATH",
        default=ROOT / "build" / "bench.json",
        help="where the numbers are written; default: build/bench.json",
    )
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes: whether it runs, not how fast"
    )
    arguments = parser.parse_args(argv)
    if arguments.rounds < 1:
        parser.error("--rounds has to be at least 1")
    return arguments


def _size(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    if name not in CASES or not number.isdigit() or not int(number):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a case and its size, such as overload=20"
        )
    return name, int(number)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write; 1 if a measurement failed. Goals that are not met are no failure."""
    arguments = _arguments(argv)
    wanted = [CASES[name] for name in arguments.only or CASES]
    reasons = {case.name: case.why_not() for case in wanted}
    cases = [case for case in wanted if not reasons[case.name]]
    for name in (name for name, reason in reasons.items() if reason):
        print(f"{name} is skipped: {reasons[name]}")
    commits = {"now": commit_of("HEAD")}
    with ExitStack() as stack:
        trees = [NOW]
        if arguments.base:
            commits["base"] = commit_of(arguments.base)
            trees.append(stack.enter_context(base_tree(arguments.base)))
        measured = run(
            cases,
            trees,
            arguments.rounds,
            quick=arguments.quick,
            say=lambda line: print(line, file=sys.stderr, flush=True),
            sizes=dict(arguments.size),
        )
    print(", ".join(f"{name}: {commit}" for name, commit in commits.items()))
    show(cases, measured, verdicts(cases, measured), changes(cases, measured))
    _write(arguments, commits, cases, measured)
    if any(case.name == "overload" for case in cases):
        print(f"The memory under overload: {draw(ROOT / 'build')}")
    return 1 if any(series.errors for series in measured) else 0


def _write(
    arguments: argparse.Namespace,
    commits: dict[str, str],
    cases: Sequence[Case],
    measured: Sequence[Series],
) -> None:
    content = {
        "version": 1,
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "commits": commits,
        "machine": {
            "cpus": os.cpu_count(),
            "system": platform.system(),
            "architecture": platform.machine(),
            "python": platform.python_version(),
        },
        "rounds": arguments.rounds,
        "quick": arguments.quick,
        "sizes": {case.name: case.quick if arguments.quick else case.size for case in cases}
        | dict(arguments.size),
        "measured": [
            {**asdict(one), "medians": {name: median(all_) for name, all_ in one.values.items()}}
            for one in measured
        ],
        "goals": [asdict(verdict) for verdict in verdicts(cases, measured)],
        "changes": [asdict(change) for change in changes(cases, measured)],
    }
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    sys.exit(main())
