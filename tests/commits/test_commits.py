"""Stops at some commits, some power cuts and damages; ``make commits`` does them by the hundred."""

import subprocess
import sys

import pytest

from farm.store.sqlite import SqliteStore
from tests.commits import power
from tests.commits.__main__ import quick_folder, stops
from tests.commits.damage import damage
from tests.commits.full import SKIPPED
from tests.commits.killed import kill_after_commits
from tests.commits.power import Broken, fail_power, record
from tests.conftest import REPOSITORY
from tests.sim.truth import Violation

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def recording():
    with quick_folder() as folder:
        yield record(power.Path(folder))


@pytest.fixture
def folder():
    with quick_folder() as name:
        yield power.Path(name)


def test_stopped_after_one_commit_or_another_nothing_is_lost():
    counts = stops(2, seed=12)
    assert counts["commits of the workload"] >= 300
    assert counts["stopped after, and whole"] == 2


def test_a_store_that_forgets_is_noticed(monkeypatch):
    commit = SqliteStore.commit

    def forgetful(store, changes):
        commit(store, [one for one in changes if type(one).__name__ != "Append" or one.ref % 9])

    monkeypatch.setattr(SqliteStore, "commit", forgetful)
    with pytest.raises((Violation, AssertionError, KeyError)):
        stops(30)


def test_a_real_coordinator_killed_after_its_commits_loses_nothing():
    report = kill_after_commits(3)
    assert not report.broken, str(report)
    assert report.faults["kill coordinator"] == 3
    assert report.history.acknowledged


def test_when_the_power_fails_what_was_committed_is_there(recording, folder):
    assert fail_power(recording, 60, folder)["recovered"] == 60


def test_a_disk_that_lies_about_syncing_is_noticed(recording, folder):
    with pytest.raises(Broken):
        fail_power(recording, 60, folder, lying=True)


def test_what_is_cut_short_is_recovered_exactly_or_refused(recording, folder):
    counts = damage(recording, 60, folder)
    assert {"log cut short: recovered", "store cut short: refused"} <= set(counts)


def test_a_full_disk_stops_nothing_for_good():
    done = subprocess.run(
        [sys.executable, "-m", "tests.commits.full"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    if done.returncode == SKIPPED:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout + done.stderr
    assert "acknowledged" in done.stdout
