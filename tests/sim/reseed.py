"""``python -m tests.sim.reseed``: looks for broken rules that their seeds find no more.

``bites.json`` has the seed that found each rule when it was looked for last; the test begins with
it. It is right without, and slower: so this is for when what seeds do has changed, and bites take
long. It prints what moved, and what nobody finds.
"""

import argparse
import json
import sys
from concurrent.futures import ProcessPoolExecutor
from os import cpu_count

import pytest

from tests.sim.bites import BITES
from tests.sim.run import run_seed
from tests.sim.test_bites import LAST_FOUND, SEEDS, seeds_for


def main() -> int:
    """Writes the seeds; 1 if a rule is not found, or by another checker."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim.reseed")
    parser.add_argument("--jobs", type=int, default=cpu_count() or 1, help="processes")
    options = parser.parse_args()
    seeds: dict[str, int] = {}
    with ProcessPoolExecutor(options.jobs) as pool:
        for bite, seed in zip(BITES, pool.map(_find, range(len(BITES))), strict=True):
            before = LAST_FOUND.get(bite.rule)
            if seed is None:
                print(f"{bite.rule}: not found", flush=True)
                continue
            seeds[bite.rule] = seed
            if seed != before:
                print(f"{bite.rule}: {before} -> {seed}", flush=True)
    SEEDS.write_text(json.dumps(seeds, indent=1, sort_keys=True) + "\n")
    return int(len(seeds) < len(BITES))


def _find(index: int) -> int | None:
    """The first seed that finds the broken rule of this number, by the checker that is for it."""
    bite = BITES[index]
    with pytest.MonkeyPatch.context() as patch:
        bite.patch(patch)
        for seed in seeds_for(bite):
            if failure := run_seed(seed, **bite.plan):
                return seed if failure.check in bite.found_by else None
    return None


if __name__ == "__main__":
    sys.exit(main())
