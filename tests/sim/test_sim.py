"""Three hundred seeds of the simulated farm keep every promise, and a seed repeats exactly."""

import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest

from farm.protocol.messages import Rejected
from tests.sim.plan import FAULTS, Plan
from tests.sim.run import run_seed, run_seeds
from tests.sim.world import World

SEEDS = 300
PART = 25

stats: Counter[str] = Counter()


@pytest.mark.slow
@pytest.mark.parametrize("start", range(0, SEEDS, PART))
def test_every_promise_is_kept(start):
    report = run_seeds(start, PART)
    assert not report.failures, str(report.failures[0])
    stats.update(report.stats)


@pytest.mark.slow
def test_everything_was_met():
    if stats["seeds"] < SEEDS:
        pytest.skip("only some of the seeds were run")
    met = ["stale executions", "adopted", "fenced", "refused", "loaded", "rewritten", "progress"]
    met += ["dropped", "forgotten", "bursts", "duplicates", "payloads read back"]
    met += ["waits", "told to be busy"]
    assert [what for what in (*FAULTS, *met) if not stats[what]] == []


ONE = {  # every credit is 1
    "window_bytes": 1,
    "lookahead": False,
    "core": {
        "session_tasks": 1,
        "grant_tasks": 1,
        "resident_result_bytes": 1,
        "max_result_bytes": 1 << 30,
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("start", range(0, 50, 25))
def test_every_promise_is_kept_with_every_credit_set_to_one(start):
    failures = [run_seed(seed, **ONE) for seed in range(start, start + 25)]
    assert not any(failures), str(next(filter(None, failures)))


def test_an_old_disk_is_not_served():
    plan = replace(Plan.of(8), durable=True, faults=[], holes=0.0, hosts=2, slots=[2, 2], clients=2)
    plan.blobs = 0.0  # a backup without its folder misses some
    world = World(plan)
    backups = []
    world.clock.at(1.0, lambda: backups.append(world.disk.copy()))
    while world.clock.now < 4.0:
        world._step()
    assert all(client.machine.commit_seen > backups[0].commit for client in world.clients)
    world.disk, whole = backups[0], world.disk
    world.crash_coordinator(restart_after=0.1)
    said = []
    world.said = lambda who, to, what: said.append((who, what)) if to != "world" else None
    while not world.stats["stops"]:
        world._step()
    told = {type(what) for who, what in said if who == "coordinator"}
    assert told <= {list, Rejected, str}  # at most deletions, a refusal, and why it stops
    world.disk = whole
    world.run()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [3, 28])
def test_a_seed_repeats(seed):
    runs = {
        subprocess.run(
            [sys.executable, "-m", "tests.sim", "--seed", str(seed), "-v"],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
            timeout=60,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(runs) == 1
