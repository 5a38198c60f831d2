"""Simulated schedulers keep every promise, and a broken rule of theirs is found."""

from collections import Counter

import pytest
from msgspec.structs import replace

from farm_scheduler.core import Machine
from farm_scheduler.service import Scheduler
from farm_scheduler.state import State
from farm_scheduler.submitting import Submitter
from tests.sim.schedulers import find, run_seed

SEEDS = 30
SEEDS_MAX = 30

commit, submit = State.commit, Submitter.submit


@pytest.mark.slow
def test_each_nominal_time_has_one_row_and_each_fire_runs_once():
    stats = Counter()
    for seed in range(SEEDS):
        stats += run_seed(seed)
    met = ["kill", "stop", "clock", "crashes in a turn", "takeovers", "ran", "coalesced", "missed"]
    met += ["too old", "retired", "buffer full", "fires of backfills", "left out of backfills"]
    assert [what for what in met if not stats[what]] == []


def act_before_commit(patch):
    before = Scheduler._commit

    def eager(self):
        self._act(1_772_884_800.0)
        before(self)

    patch.setattr(Scheduler, "_commit", eager)


def forget_who_ran(patch):
    patch.setattr(Scheduler, "_settle", lambda *_: None)


def commit_no_rows_that_are_final(patch):
    def lossy(self, rows, *words):
        commit(self, [row for row in rows if row.reason != "missed"], *words)

    patch.setattr(State, "commit", lossy)


def submit_with_another_key(patch):
    keys = iter(range(10**9))

    def other(self, row, schedule, now):
        return submit(self, replace(row, fire_id=f"{row.fire_id}{next(keys)}"), schedule, now)

    patch.setattr(Submitter, "submit", other)


def let_cursors_go_back(patch):
    tick = Machine.on_tick

    def careless(self, now):
        for entry in self.entries.values():
            if entry.cursor > now + 300:  # the clock was put back
                entry.cursor, entry.next = int(now), entry.schedule.timing.next(int(now))
        tick(self, now)

    patch.setattr(Machine, "on_tick", careless)


def forget_what_a_backfill_has_left(patch):
    patch.setattr(State, "backfills", lambda _: [])


def forget_where_an_interval_begins(patch):
    entries = State._entries

    def forgetful(self, *words):
        for entry, file in entries(self, *words):
            entry.last = None
            yield entry, file

    patch.setattr(State, "_entries", forgetful)


BITES = [
    (act_before_commit, ("a row for each", "runs once")),
    (forget_who_ran, ("ends", "a backfill")),
    (commit_no_rows_that_are_final, ("a row for each",)),
    (let_cursors_go_back, ("a row for each", "runs once", "an interval")),
    (forget_what_a_backfill_has_left, ("a backfill",)),
    (forget_where_an_interval_begins, ("an interval",)),
    (submit_with_another_key, ("a row for each", "runs once", "ends", "a backfill")),
]


@pytest.mark.slow
@pytest.mark.parametrize(("bite", "found_by"), BITES, ids=[bite.__name__ for bite, _ in BITES])
def test_a_broken_rule_is_found(bite, found_by, monkeypatch):
    bite(monkeypatch)
    said = next(filter(None, map(find, range(SEEDS_MAX))), "nothing")
    assert said.startswith(found_by), said
