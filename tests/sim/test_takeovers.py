"""Whoever takes over from a scheduler knows what that has kept."""

from collections import Counter

import pytest

from farm_scheduler.loading import Loader
from tests.sim.schedulers import Broken
from tests.sim.takeovers import run_seed

SEEDS = 12
SEEDS_MAX = 40


def run_many(seeds):
    """What these lives met in all."""
    return sum(map(run_seed, range(seeds)), Counter())


def test_what_is_kept_is_known_to_whoever_takes_over():
    stats = run_many(SEEDS)
    for met in ("takeovers", "edits", "looks of who stands by", "pause", "backfill"):
        assert stats[met] >= SEEDS, met


def test_one_that_kept_what_is_forgotten_is_found(monkeypatch):
    monkeypatch.setattr(Loader, "gone", lambda _: [])
    with pytest.raises(Broken, match="knows what is kept"):
        run_many(SEEDS_MAX)
