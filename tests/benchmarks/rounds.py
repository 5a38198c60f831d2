"""Makes the measurements: all contenders of a case by turns, round after round.

Each measurement has a process of its own, and nothing else works beside it. So whatever else slows
the machine down for a while slows all of them down alike, and the ratios stand. Where a while of
seconds would be too long they take turns within a round, too, part by part.
"""

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType

from tests.benchmarks.case import FARM, Case
from tests.benchmarks.case_pure_python import spins_of
from tests.benchmarks.measurement import ROOT, Measurement, MeasurementFailed

__all__ = ["NOW", "ROOT", "Series", "Tree", "run"]


@dataclass(frozen=True)
class Tree:
    """A checkout of the farm whose packages are measured; ``name`` is ``now`` or ``base``."""

    name: str
    folder: Path


NOW = Tree("now", ROOT)


@dataclass
class Series:
    """What was measured for one contender of a case: a list by metric, one value a round."""

    case: str
    contender: str
    tree: str
    values: dict[str, list[float]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


def run(
    cases: Sequence[Case],
    trees: Sequence[Tree],
    rounds: int,
    *,
    quick: bool,
    say: Callable[[str], None],
    sizes: Mapping[str, int] = MappingProxyType({}),
) -> list[Series]:
    """Measure every case for each contender, and the farm's contenders in each tree.

    ``sizes`` has other sizes of cases by name.
    Their modules are compiled before, as an installer does.
    """
    spin = spins_of()
    for tree in trees:
        packages = [str(tree.folder / name) for name in ("farm", "workers", "scheduler")]
        subprocess.run([sys.executable, "-m", "compileall", "-q", *packages], check=True)
    everything = [
        (case, Series(case.name, contender, tree.name), tree)
        for case in cases
        for contender in case.contenders
        for tree in (trees if contender.startswith(FARM) else trees[:1])
    ]
    for number in range(rounds):
        for case in cases:
            if number >= (case.rounds_max or rounds):
                continue
            mine = [(series, tree) for one, series, tree in everything if one is case]
            turn = number % len(mine)  # nobody is always first, or always behind the same one
            mine = mine[turn:] + mine[:turn]
            size = sizes.get(case.name, case.quick if quick else case.size)
            order: dict[str, object] = {"case": case.name, "size": size}
            order["spin"] = spin // 20 if quick else spin
            orders = [order | {"contender": series.contender} for series, _ in mine]
            if case.parts > 1:
                _by_turns(mine, orders, case)
            for (series, tree), one in zip(mine, orders, strict=True):
                if case.parts == 1:
                    _in_one_go(series, tree, one, case.limit)
                say(f"round {number + 1} of {rounds}: {_last(series)}")
    return [series for _, series, _ in everything]


def _in_one_go(series: Series, tree: Tree, order: dict[str, object], limit: float) -> None:
    try:
        with Measurement(tree.folder, order, limit) as measurement:
            _keep(series, measurement.numbers())
    except MeasurementFailed as error:
        series.errors.append(str(error))


def _by_turns(
    mine: Sequence[tuple[Series, Tree]], orders: Sequence[dict[str, object]], case: Case
) -> None:
    """All of them are there at once, and one at a time does a part of its work."""
    with ExitStack() as stack:
        running = []
        for (series, tree), order in zip(mine, orders, strict=True):
            one = stack.enter_context(Measurement(tree.folder, order, case.limit))
            running.append((series, one))
            _step(series, one.wait)
        for part in range(case.parts):
            first = part % len(running)
            for series, one in running[first:] + running[:first]:
                one.go()
                _step(series, one.wait if part + 1 < case.parts else partial(_end, series, one))


def _step(series: Series, step: Callable[[], None]) -> None:
    """Do it, unless that measurement has failed before."""
    if not series.errors:
        try:
            step()
        except MeasurementFailed as error:
            series.errors.append(str(error))


def _end(series: Series, measurement: Measurement) -> None:
    _keep(series, measurement.numbers())


def _keep(series: Series, numbers: Mapping[str, float]) -> None:
    for metric, value in numbers.items():
        series.values.setdefault(metric, []).append(value)


def _last(series: Series) -> str:
    who = f"{series.case}, {series.contender} ({series.tree}): "
    if series.errors:
        return who + series.errors[-1]
    return who + ", ".join(f"{metric} {one[-1]:,.5g}" for metric, one in series.values.items())
