"""``python -m tests.sim --seeds N [--start S]``, or ``--seed X -v`` to see one seed in full."""

import argparse
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from os import cpu_count

from tests.sim.plan import Plan
from tests.sim.run import Report, run_seed, run_seeds

SEEDS_PER_PART = 25


def main() -> int:
    """Runs what the command line asks for; 1 if a seed failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim")
    parser.add_argument("--seeds", type=int, default=200, help="how many seeds to run")
    parser.add_argument("--start", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="run this one seed")
    parser.add_argument("--jobs", type=int, default=cpu_count() or 1, help="processes")
    parser.add_argument("-v", "--verbose", action="store_true", help="print every message")
    options = parser.parse_args()
    if options.seed is not None:
        return _one(options.seed, verbose=options.verbose)
    return _many(options.start, options.seeds, options.jobs)


def _one(seed: int, *, verbose: bool) -> int:
    print(Plan.of(seed))
    report = Report()
    failure = run_seed(seed, report, verbose=verbose)
    print(failure or f"seed {seed}: {report.steps} steps, every promise kept")
    return int(failure is not None)


def _many(start: int, seeds: int, jobs: int) -> int:
    starts = range(start, start + seeds, SEEDS_PER_PART)
    counts = [min(SEEDS_PER_PART, start + seeds - first) for first in starts]
    with ProcessPoolExecutor(jobs) as pool:
        reports = list(pool.map(run_seeds, starts, counts))
    failures = sorted((f for r in reports for f in r.failures), key=lambda failure: failure.seed)
    if failures:
        print(failures[0], end="\n\n")
        print("failing seeds:", ", ".join(f"{f.seed} ({f.check})" for f in failures[:40]))
    stats: Counter[str] = Counter()
    for report in reports:
        stats.update(report.stats)
    steps, busy = sum(r.steps for r in reports), sum(r.seconds for r in reports)
    print(", ".join(f"{name} {count}" for name, count in sorted(stats.items())))
    print(
        f"{sum(r.seeds for r in reports)} seeds, {len(failures)} failed; {steps} steps, "
        f"{steps / busy:.0f} steps per second and process"
    )
    most, of_work = (
        max((getattr(report, name) for report in reports), default=0)
        for name in ("most_steps", "most_steps_of_work")
    )
    print(f"at most {most} steps in a seed, {of_work} of them with faults and new tasks")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
