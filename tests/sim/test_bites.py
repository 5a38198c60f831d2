"""The simulator finds every rule that is broken on purpose, and by the checker that is for it."""

import json
from pathlib import Path

import pytest

from tests.sim import (
    bites_blobs,
    bites_flow,
    bites_inside,
    bites_keys,
    bites_limits,
    bites_memory,
    bites_nested,
    bites_owners,
    bites_queues,
    bites_recalls,
    bites_recovery,
    bites_resources,
    bites_results,
    bites_stops,
)
from tests.sim.bites import BITES
from tests.sim.run import run_seed

SEEDS_MAX = 100
SEEDS = Path(__file__).with_name("bites.json")
"""The seeds that found broken rules when all were looked for last: guesses that save time."""
LAST_FOUND = json.loads(SEEDS.read_text())


def seeds_for(bite):
    """The seeds with which a broken rule is looked for, in turn."""
    return list(dict.fromkeys([LAST_FOUND.get(bite.rule, 0), *range(SEEDS_MAX)]))


def test_there_are_bites_of_every_kind():
    modules = {bite.patch.__module__ for bite in BITES}
    kinds = (
        bites_blobs,
        bites_flow,
        bites_inside,
        bites_keys,
        bites_limits,
        bites_memory,
        bites_nested,
        bites_owners,
        bites_queues,
        bites_recalls,
        bites_recovery,
        bites_resources,
        bites_results,
        bites_stops,
    )
    assert modules == {one.__name__ for one in kinds}
    assert len(BITES) >= 30


@pytest.mark.slow
@pytest.mark.parametrize("bite", BITES, ids=lambda bite: bite.rule)
def test_a_broken_rule_is_found(bite, monkeypatch):
    bite.patch(monkeypatch)
    for seed in seeds_for(bite):
        failure = run_seed(seed, **bite.plan)
        if failure:
            assert failure.check in bite.found_by, str(failure)
            return
    pytest.fail(f"{SEEDS_MAX} seeds did not notice")
