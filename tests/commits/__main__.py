"""``python -m tests.commits [--only PART ...] [--seed S]``: stops at commits, power cuts, damage.

300 stops in one process and 10 where keys are in use, 30 by SIGKILL of a real one, 600 power
cuts, 600 damaged files, one full disk; 1 if a promise was broken.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from tests.commits import full
from tests.commits.damage import damage
from tests.commits.killed import kill_after_commits
from tests.commits.power import fail_power, record
from tests.commits.simulated import OWNED, PLAN, cut_after
from tests.sim.plan import Plan

__all__ = ["PARTS", "quick_folder", "stops"]


def quick_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder where syncing costs nothing, for what is cut off but never loses its power."""
    memory = Path("/dev/shm")
    return tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None)


def stops(count: int, seed: int = 1, plan: Plan = PLAN) -> Counter[str]:
    """Cut the workload off after commits that are spread over all of it, each run from new."""
    with quick_folder() as folder:
        commits = cut_after(0, Path(folder), plan)
    count = min(count, commits)
    for number in range(count):
        with quick_folder() as folder:
            # The seed moves them a little, for there are more commits than stops.
            cut_after(1 + (number * commits // count + seed) % commits, Path(folder), plan)
    return Counter({"commits of the workload": commits, "stopped after, and whole": count})


def _killed(count: int, seed: int) -> Counter[str]:
    report = kill_after_commits(count, seed)
    print(report)
    if report.broken:
        raise AssertionError("a promise was broken")
    return report.faults


def _recorded(part: Callable[..., Counter[str]]) -> Callable[[int, int], Counter[str]]:
    def run(count: int, seed: int) -> Counter[str]:
        with quick_folder() as folder:
            (Path(folder) / "work").mkdir()
            recording = record(Path(folder) / "work", seed)
            return part(recording, count, Path(folder), seed=seed)

    return run


def _full(_count: int, _seed: int) -> Mapping[str, int]:
    code = full.main([])
    if code not in {0, full.SKIPPED}:
        raise AssertionError("a promise was broken")
    return {"skipped": 1} if code else {"filled and freed": 1}


PARTS: dict[str, tuple[Callable[[int, int], Mapping[str, int]], int]] = {
    "stops": (stops, 300),
    "owners": (partial(stops, plan=OWNED), 10),
    "killed": (_killed, 30),
    "power": (_recorded(fail_power), 600),
    "damage": (_recorded(damage), 600),
    "full": (_full, 1),
}
"""By name: what is done, and how often."""


def main() -> int:
    """Do, print; 1 if something was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.commits")
    parser.add_argument("--only", nargs="+", choices=PARTS, help="default: all")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    failed = False
    for name in options.only or PARTS:
        part, count = PARTS[name]
        began = time.monotonic()
        try:
            counts = part(count, options.seed)
        except AssertionError as broken:
            failed = True
            print(f"{name:8} BROKEN: {broken}", flush=True)
            continue
        told = ", ".join(f"{what} {number:,}" for what, number in sorted(counts.items()))
        print(f"{name:8} in {time.monotonic() - began:.0f} s: {told}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
