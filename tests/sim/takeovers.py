"""Three schedulers as in ``schedulers``, with edits of files, orders, and rows soon forgotten.

Whoever takes over must know what is kept, whatever it has read along before and whatever it missed,
and so it must after each turn: schedules, pauses, rows that are open, backfills.
"""

import logging
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

from farm_scheduler import service
from farm_scheduler.state import State
from tests.sim.schedulers import Broken, Life, World

__all__ = ["run_seed"]

STEPS = 120
REST_STEPS = 400
CALL = 'run = "math:sqrt"\nargs = [4]\n'
VARIANTS = {
    "plain": [
        'cron = "*/5 * * * *"\noverlap = "allow"\nkeep = "20m"',
        'cron = "*/7 * * * *"\noverlap = "skip"\nkeep = "10m"',
    ],
    "all": [
        'cron = "@every 7m"\nmisfire = "all(5)"\njitter = "3m"\nkeep = "5m"',
        'cron = "@every 9m"\noverlap = "buffer_all(3)"\nkeep = "0s"',
    ],
    "rare": [
        'cron = "*/10 * * * *"\noverlap = "cancel"\ncatch_up = "1h"\nkeep = "1m"',
        'cron = "0 0 1 1 *"\nkeep = "0s"',
    ],
    "wrong": ['cron = "never"'],
}


class Watched(Life):
    """A life that is looked at after each turn."""

    def decide(self):
        super().decide()
        if not self.dead:
            compare(self.scheduler)


class Edited(World):
    """A world with people in it."""

    def __init__(self, seed, folder):
        super().__init__(seed, folder)
        self.lives = [Watched(self) for _ in self.lives]
        self.holder = self.lives[0]
        self.edit()

    def edit(self):
        text = "[schedules]\n"
        for name, variants in VARIANTS.items():
            if self.rng.random() < 0.6:
                text += f"[schedules.{name}]\n{self.rng.choice(variants)}\n{CALL}"
        self.file.write_text(text)
        if self.holder.scheduler is not None:
            self.holder.scheduler.reload = True
        self.stats["edits"] += 1

    def step(self, *, faults=True):
        if faults and self.rng.random() < 0.1:
            self.edit()
        if faults and self.rng.random() < 0.15 and self.path.exists():
            self._order()
        super().step(faults=faults)
        self.lives = [Watched(self) if one.dead else one for one in self.lives]

    def _order_backfill(self):
        """Others are ordered here."""

    def _order(self):
        state = State(self.path)
        state._db.execute("PRAGMA synchronous=OFF")
        what = self.rng.choice(["pause", "resume", "run", "backfill", "end backfill"])
        told = {
            "pause": {"until": self.rng.choice([None, self.now + 600]), "who": "ada", "why": ""},
            "backfill": {
                "begin": int(self.now) - 6000,
                "end": int(self.now),
                "at_once": 3,
                "again": self.rng.random() < 0.5,
            },
            "end backfill": {"who": "ada"},
        }
        for name in state.names()[:1] if self.rng.random() < 0.3 else state.names()[1:2]:
            state.order(self.now, what, {"name": name, **told.get(what, {})})
            self.stats[what] += 1
        state.close()

    def run(self):
        for _ in range(STEPS):
            self.step()
        self.crashing = 0.0
        self.file.write_text("[schedules]\n")
        self.holder.die()
        for _ in range(REST_STEPS):
            self.step(faults=False)
            if self.holder.decides and not self.holder.scheduler.machine.open_rows():
                break
        if twice := [fire for fire, times in self.farm.runs.items() if times != 1]:
            raise Broken(f"runs once: {twice}")
        if self.holder.scheduler.machine.open_rows():
            raise Broken("ends: some fires never do")
        self.holder.die()


def compare(scheduler):
    """What a scheduler knows is what is kept."""
    machine, state = scheduler.machine, scheduler.state
    kept, known = {entry.name: (entry, file) for entry, file in state.entries()}, machine.entries
    if more := [one.name for one in known.values() if one.retired is None and one.name not in kept]:
        raise Broken(f"knows what is kept: {more} are not")
    for name, (entry, file) in kept.items():
        own = known.get(name)
        if own is None or _facts(own) != _facts(entry):
            raise Broken(f"knows what is kept: {own and _facts(own)}, not {_facts(entry)}")
        if entry.retired is None and scheduler._loader.file.get(name) != file:
            raise Broken(f"knows what is kept: not the file of {name}")
    rows = {row.fire_id: row for row in state.open_rows()}
    if {row.fire_id: row for row in machine.open_rows()} != rows:
        raise Broken(f"knows what is kept: rows that are open, of {len(rows)}")
    left = [one for some in machine._fires.backfills.values() for one in some]
    if _left(left) != _left(state.backfills()):
        raise Broken("knows what is kept: backfills")


def _facts(entry):
    retired = entry.retired is None
    facts = entry.cursor, entry.next, entry.last, entry.pauses, entry.at_once, retired
    return entry.schedule, *facts


def _left(backfills):
    return sorted((one.number, one.taken, len(one)) for one in backfills)


def run_seed(seed):
    """One life; what it met, or raises ``Broken``."""
    logger, look = logging.getLogger("farm.scheduler"), service.Scheduler._look_at_zones

    def take_over(scheduler):
        compare(scheduler)  # all is read, and nothing decided
        look(scheduler)

    with tempfile.TemporaryDirectory(prefix="farm-sim-") as folder, ExitStack() as stack:
        stack.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.CRITICAL)
        world = Edited(seed, Path(folder))
        stack.enter_context(patch.object(service, "time", world))
        stack.enter_context(patch.object(service, "wait", lambda *_: None))
        stack.enter_context(patch.object(service, "FORGET_SECONDS", 300.0))
        stack.enter_context(patch.object(service.Scheduler, "_look_at_zones", take_over))
        world.run()
        return Counter(world.stats)
