"""Makes the measurements: all contenders of a case by turns, round after round.

Each measurement has a process of its own, and nothing else runs beside it. So whatever else slows
the machine down for a while slows all of them down alike, and the ratios stand.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from tests.benchmarks.case import FARM, Case
from tests.benchmarks.case_pure_python import spins_of

__all__ = ["NOW", "ROOT", "MeasurementFailed", "Series", "Tree", "run"]

ROOT = Path(__file__).resolve().parents[2]


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


class MeasurementFailed(Exception):
    """A measurement's process failed; the message has its last words."""


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
            for series, tree in mine[turn:] + mine[:turn]:
                size = sizes.get(case.name, case.quick if quick else case.size)
                order = {"case": case.name, "contender": series.contender}
                order |= {"size": size, "spin": spin // 20 if quick else spin}
                _measure(series, tree, order, case.limit)
                say(f"round {number + 1} of {rounds}: {_last(series)}")
    return [series for _, series, _ in everything]


def _measure(series: Series, tree: Tree, order: dict[str, object], limit: float) -> None:
    try:
        numbers = _run_child(tree.folder, order, limit)
    except MeasurementFailed as error:
        series.errors.append(str(error))
        return
    for metric, value in numbers.items():
        series.values.setdefault(metric, []).append(value)


def _last(series: Series) -> str:
    who = f"{series.case}, {series.contender} ({series.tree}): "
    if series.errors:
        return who + series.errors[-1]
    return who + ", ".join(f"{metric} {one[-1]:,.5g}" for metric, one in series.values.items())


def _run_child(tree: Path, order: dict[str, object], limit: float) -> dict[str, float]:
    """One measurement in a process of its own, with a folder of its own on the project's disk."""
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=build))
    path = [str(tree), str(tree / "workers"), str(tree / "scheduler")]
    child = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.benchmarks.child",
            json.dumps({**order, "folder": str(folder)}),
        ],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # so that all it started can be ended with it
    )
    try:
        said, complained = child.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        raise MeasurementFailed(f"no end after {limit:.0f} s") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        shutil.rmtree(folder, ignore_errors=True)
    try:
        numbers: dict[str, float] = json.loads(said.splitlines()[-1])
    except (IndexError, ValueError):
        last = complained.strip().splitlines()[-1:] or ["it said nothing"]
        raise MeasurementFailed(f"failed with {child.returncode}: {last[0]}") from None
    return numbers
