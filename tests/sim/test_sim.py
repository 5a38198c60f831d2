"""Three hundred seeds of the simulated farm keep every promise, and a seed repeats exactly."""

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest

from farm.protocol.messages import Rejected
from farm.protocol.records import Remembered, SessionMark, Submitted
from tests.sim.plan import FAULTS, Plan
from tests.sim.run import run_seed, run_seeds
from tests.sim.world import World

SEEDS = 200
PART = 25

MET = ["stale executions", "adopted", "fenced", "refused", "loaded", "rewritten", "progress"]
MET += ["dropped", "forgotten", "bursts", "duplicates", "payloads read back"]
MET += ["waits", "told to be busy", "revoked", "thefts", "orders of strangers"]


@pytest.fixture
def counts(tmp_path_factory):
    """A folder for what each part counts, of whichever process it runs in."""
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    (folder / "counts").mkdir(exist_ok=True)
    return folder / "counts"


@pytest.mark.slow
@pytest.mark.parametrize("start", range(0, SEEDS, PART))
def test_every_promise_is_kept(start, counts):
    """The part that ends last looks whether everything was met."""
    report = run_seeds(start, PART)
    assert not report.failures, str(report.failures[0])
    whole = counts / f"{start}.json"
    whole.with_suffix(".part").write_text(json.dumps(report.stats))
    whole.with_suffix(".part").replace(whole)
    stats: Counter[str] = Counter()
    for path in counts.glob("*.json"):
        stats.update(json.loads(path.read_text()))
    if stats["seeds"] == SEEDS:
        assert [what for what in (*FAULTS, *MET) if not stats[what]] == []


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
@pytest.mark.parametrize("start", range(0, 30, 15))
def test_every_promise_is_kept_with_every_credit_set_to_one(start):
    failures = [run_seed(seed, **ONE) for seed in range(start, start + 15)]
    assert not any(failures), str(next(filter(None, failures)))


def test_a_seed_has_a_bounded_number_of_steps():
    report = run_seeds(0, 30)
    assert not report.failures
    assert 0 < report.most_steps_of_work < report.most_steps <= Plan.steps == 1_000
    assert 0 < report.stats["impatient"] < 15  # most end without being cancelled


def test_what_needs_more_steps_than_there_are_has_failed():
    failure = run_seed(0, steps=5, durable=True)
    assert (failure.check, failure.detail) == ("stuck", "stuck: not over after 5 steps")


def test_where_only_beats_pass_there_is_no_step():
    world = _idle_world()
    steps, messages = world.steps, world.network.messages
    _pass(world, 3.0)
    assert world.network.messages > messages + 5
    assert world.steps == steps


def test_who_waits_for_the_coordinator_takes_no_steps():
    world = _idle_world()
    steps = world.steps
    world.crash_coordinator(restart_after=60.0)
    while world.coordinator is None:
        world._step()
    dealers = [*world.clients, *world.hosts]
    assert not any(dealer.connection for dealer in dealers)
    assert world.steps - steps < 3 * len(dealers)
    _pass(world, 3.0)
    assert all(dealer.connection for dealer in dealers)


def _idle_world():
    world = World(replace(Plan.of(8), faults=[], holes=0.0, submit_seconds=1e9, owners=0))
    _pass(world, 3.0)
    return world


def _pass(world, seconds):
    until = world.clock.now + seconds
    while world.clock.now < until:
        world._step()


def test_an_old_disk_is_not_served():
    plan = replace(Plan.of(8), durable=True, faults=[], holes=0.0, hosts=2, slots=[2, 2], clients=2)
    plan.blobs = 0.0  # a backup without its folder misses some
    world = World(plan)
    backups = []
    world.clock.at(1.0, lambda: backups.append((world.disk.copy(), world.truth.committed.copy())))
    while world.clock.now < 4.0 or not _have_all_seen_more(world, backups[0][0].commit):
        world._step()
    whole = world.disk, world.truth.committed
    world.disk, world.truth.committed = backups[0]
    world.crash_coordinator(restart_after=0.1)
    said = []
    world.said = lambda who, to, what: said.append((to, what)) if who == "coordinator" else None
    while not world.stats["stops"]:
        world._step()
    written = {type(what[1]) for to, what in said if to == "journal"}
    # As on any start: what is over is forgotten, and what lives among it is copied.
    assert written <= {Remembered, SessionMark, Submitted}
    told = {type(what) for to, what in said if to != "journal"}
    assert told <= {list, Rejected, str}  # at most deletions, a refusal, and why it stops
    world.disk, world.truth.committed = whole
    world.truth.crashed()
    world.run()


def _have_all_seen_more(world, commit):
    """Whether anybody who says HELLO first tells that a copy of that commit is too old."""
    if None in world.hosts:
        return False
    clients = [client.machine.commit_seen for client in world.clients]
    return min(clients + [host.machine._commit_seen for host in world.hosts]) > commit


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
