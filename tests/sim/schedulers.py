"""Three schedulers on one state, simulated: a lock, crashes between any two steps, clocks.

What runs is the scheduler's own code, with its state in SQLite; simulated are the farm, time and
the kernel that gives the lock on. A scheduler may be killed before and after each step of a turn:
what it has not committed is gone, what it has submitted goes on. The clock is set back and forth.

``python -m tests.sim.schedulers --seeds N`` runs many; a seed is one life of some hours.
"""

import argparse
import logging
import random
import sys
import tempfile
from collections import Counter
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack
from os import cpu_count
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

from farm_scheduler import service, wishes
from farm_scheduler.core import Kind, backfills, machine, missed
from farm_scheduler.core import State as Fate
from farm_scheduler.settings import SchedulerSettings
from farm_scheduler.state import State

__all__ = ["World", "find", "run_seed"]

NOON = 1_772_884_800.0
SCHEDULERS = 3
STEPS = 120
REST_STEPS = 400
DAY = 86_400.0
FILE = """
[schedules.plain]
cron = "*/5 * * * *"
run = "math:sqrt"
args = [4]
overlap = "allow"

[schedules.all]
cron = "@every 7m"
run = "math:sqrt"
args = [4]
misfire = "all(5)"
jitter = "3m"
overlap = "buffer_all(3)"

[schedules.cancel]
cron = "*/10 * * * *"
run = "math:sqrt"
args = [4]
overlap = "cancel"
catch_up = "1h"
"""


class Crash(BaseException):
    """A scheduler was killed: nothing more of it happens."""


class Broken(AssertionError):
    """A promise was broken."""


class Farm:
    """Runs what it accepts, once for each key, for as long as it remembers keys: a day."""

    def __init__(self, world):
        self.world = world
        self.tasks = {}  # by id: [fire, when it ends, how]
        self.keys = {}  # by fire: its task
        self.runs = Counter()  # of fires
        self.watching = []  # (task, future, the life that watches)

    def submit(self, life, fire):
        self.world.may_crash(life)
        task = self.keys.get(fire)
        if task is None:
            self.runs[fire] += 1
            task = self.keys[fire] = f"{self.runs.total():031x}1-1"
            seconds = self.world.rng.choice([0.0, 5.0, 200.0, 2000.0])
            self.tasks[task] = [fire, self.world.passed + seconds, "succeeded"]
        self.world.may_crash(life)
        return self.watch(life, task)

    def watch(self, life, task):
        future = Future()
        future.id = task
        future.stop = lambda: self.stop(task)
        self.watching.append((task, future, life))
        return future

    def stop(self, task):
        if self.tasks[task][1] > self.world.passed:
            self.tasks[task][1:] = [self.world.passed, "cancelled"]

    def tell(self):
        """Tell those who live of tasks that are over."""
        left = []
        for task, future, life in self.watching:
            if life.dead:
                continue
            if self.tasks[task][1] > self.world.passed:
                left.append((task, future, life))
            elif self.tasks[task][2] == "cancelled":
                future.cancel()
                future.set_running_or_notify_cancel()
            else:
                future.set_result(2.0)
        self.watching = left


class Client:
    """What a scheduler knows of the farm."""

    def __init__(self, farm, life):
        self.farm, self.life = farm, life

    def options(self, **options):
        fire = options["idempotency_key"]
        return SimpleNamespace(submit=lambda *_, **__: self.farm.submit(self.life, fire))

    def future(self, task):
        return self.farm.watch(self.life, task)


class Life:
    """One process that was started: it decides, or stands by; ``stopped`` until a time."""

    def __init__(self, world):
        self.world = world
        self.dead = False
        self.stopped = 0.0
        self.decides = False
        self.scheduler = None

    def stand_by(self):
        """Read along."""
        if self.world.path.exists():
            self._make().follow()

    def decide(self):
        """Take over, if it has not, and do a turn; it may be killed in the middle."""
        world = self.world
        try:
            if not self.decides:
                self.decides = True
                self._make().take_over()
            else:
                self.scheduler.turn()
        except Crash:
            world.stats["crashes in a turn"] += 1
            self.die()

    def _make(self):
        if self.scheduler is None:
            world = self.world
            settings = SchedulerSettings(files=[str(world.file)], address="", state=str(world.path))
            alarm = SimpleNamespace(wake=lambda: None)
            self.scheduler = service.Scheduler(settings, Client(world.farm, self), alarm)
            self.scheduler._aside = SimpleNamespace(
                submit=lambda work, *words: work(*words), shutdown=lambda **_: None
            )
            # Who is killed here leaves the machine alone, so nothing need be on its disk.
            self.scheduler.state._db.execute("PRAGMA synchronous=OFF")
            self._die_beside_commits()
        return self.scheduler

    def _die_beside_commits(self):
        commit = self.scheduler.state.commit

        def mortal(*words):
            self.world.may_crash(self)
            commit(*words)
            self.world.may_crash(self)

        self.scheduler.state.commit = mortal

    def die(self):
        self.dead = True
        if self.scheduler is not None:
            self.scheduler.state.close()


class World:
    """Time, three processes and a lock; ``step`` does something at random."""

    def __init__(self, seed, folder):
        self.rng = random.Random(f"schedulers{seed}")
        self.path, self.file = folder / "schedules.db", folder / "schedules.toml"
        self.file.write_text(FILE)
        self.now, self.passed = NOON + 0.5, 0.0
        self.farm = Farm(self)
        self.crashing = 0.03
        self.stats = Counter()
        self.lives = [Life(self) for _ in range(SCHEDULERS)]
        self.holder = self.lives[0]
        self.orders = []

    def time(self):
        return self.now

    def monotonic(self):
        return self.passed

    def may_crash(self, life):
        if self.rng.random() < self.crashing:
            life.dead = True
            raise Crash

    def step(self, *, faults=True):
        """Some time passes, perhaps somebody is killed or stopped; whoever has the lock decides."""
        seconds = self.rng.choice([0.5, 20.0, 60.0, 300.0])
        self.now, self.passed = self.now + seconds, self.passed + seconds
        if faults:
            self._fault()
        self.lives = [Life(self) if one.dead else one for one in self.lives]
        if self.holder.dead:
            self.holder = self.rng.choice([one for one in self.lives if not one.dead])
            self.stats["takeovers"] += 1
        self.farm.tell()
        for life in self.lives:
            if life is not self.holder and self.rng.random() < 0.2:
                life.stand_by()
                self.stats["looks of who stands by"] += 1
        if faults and self.holder.decides and self.rng.random() < 0.02:
            self._order_backfill()
        if self.holder.stopped <= self.passed:
            self.holder.decide()

    def _order_backfill(self):
        """Of up to twenty fires, perhaps of some that another one runs already."""
        end = int(NOON) - self.rng.choice([0, 1800])
        told = {"begin": end - self.rng.choice([600, 6000]), "end": end, "at_once": 3}
        told |= {"name": "plain", "again": self.rng.random() < 0.5}
        state = State(self.path)
        key = f"{len(self.orders)}"  # answers to those with a key are kept for a day
        self.orders.append(state.order(self.now, "backfill", told, key))
        state.close()

    def _fault(self):
        kind = self.rng.choice(["kill", "stop", "clock", *["none"] * 9])
        self.stats[kind] += kind != "none"
        if kind == "kill":
            self.rng.choice(self.lives).die()
        elif kind == "stop":
            self.rng.choice(self.lives).stopped = self.passed + self.rng.choice([10.0, 900.0])
        elif kind == "clock":
            self.now += self.rng.choice([-3600.0, -600.0, -5.0, 5.0, 600.0, 7200.0])

    def run(self):
        """All of it, then rest and judgement."""
        for _ in range(STEPS):
            self.step()
        self.crashing = 0.0
        for _ in range(REST_STEPS):
            self.step(faults=False)
            if self.holder.decides and self._backfills_are_over():
                break
        self.file.write_text("[schedules]\n")  # nothing new, so that all comes to an end
        self.holder.die()
        for _ in range(REST_STEPS):
            self.step(faults=False)
            if self.holder.decides and not self.holder.scheduler.machine.open_rows():
                break
        self.judge()
        self.holder.die()

    def _backfills_are_over(self):
        scheduler = self.holder.scheduler
        past = [row for row in scheduler.machine.open_rows() if row.kind is Kind.BACKFILL]
        return not (past or scheduler.state.backfills() or scheduler.state.waiting_orders())

    def judge(self):
        """Each nominal time has one row, and each fire that ran has run once."""
        state = State(self.path)
        rows = list(state.rows("1"))
        entries = [entry for entry, _ in state.entries()]
        self._judge_backfills([state.answer(one) for one in self.orders], rows)
        state.close()
        rows_of_time = [row for row in rows if row.kind is Kind.TIME]
        for fire, times in self.farm.runs.items():
            _check(times == 1, "runs once", f"{fire} ran {times} times")
        known = {row.fire_id: row for row in rows}
        for row in rows:
            _check(row.state.is_final, "ends", f"{row.schedule} {row.nominal}: {row.state}")
            ran = self.farm.runs[row.fire_id]
            good = ran <= 1 if row.outcome == "cancelled" else ran == (row.state is Fate.RAN)
            _check(good, "runs once", f"{row.schedule} {row.nominal}: {row.state}, ran {ran}×")
            _check(row.outcome != "lost", "runs once", f"{row.fire_id} was lost")
            self.stats[row.reason or str(row.state)] += 1
        _check(set(self.farm.runs) <= set(known), "a row for each", "a fire ran without a row")
        of = {
            one.name: [row for row in rows_of_time if row.schedule == one.name] for one in entries
        }
        for check in (self._judge_times, self._judge_intervals):
            for entry in entries:
                check(entry, of[entry.name])

    def _judge_backfills(self, answers, rows):
        ordered = sum(answer["fires"] for answer in answers)
        made = sum(row.kind is Kind.BACKFILL and row.state is Fate.RAN for row in rows)
        _check(made == ordered, "a backfill", f"{ordered} fires were ordered, and {made} ran")
        self.stats["fires of backfills"] += made
        self.stats["left out of backfills"] += sum(answer["left_out"] for answer in answers)

    def _judge_times(self, entry, rows):
        times = sorted(row.nominal for row in rows)
        expected, timing = [], entry.schedule.timing
        at = min(times, default=None)
        while at is not None and at <= entry.cursor:
            expected.append(at)
            at = timing.next(at)
        missing, twice = set(expected) - set(times), len(times) - len(set(times))
        name = entry.schedule.name
        _check(not missing, "a row for each", f"{name}: no row for {sorted(missing)[:3]}")
        more = sorted(set(times) - set(expected))
        _check(not twice, "a row for each", f"{name}: {twice} rows twice")
        _check(
            not more, "a row for each", f"{name}: rows that are none: {more[:3]}, {entry.cursor}"
        )

    @staticmethod
    def _judge_intervals(entry, rows):
        """What runs after some that were coalesced has their intervals, too."""
        first = None  # of those
        for row in sorted(rows, key=lambda one: one.nominal):
            if row.state is Fate.COALESCED:
                first = row if first is None else first
                continue
            if first is not None and row.state is Fate.RAN:
                begin = entry.schedule.timing.previous(first.nominal)
                said = f"{row.schedule} {row.nominal} begins at {row.since}, not {begin}"
                _check(begin is None or row.since <= begin, "an interval", said)
            first = None


def _check(good, what, said):
    if not good:
        raise Broken(f"{what}: {said}")


def find(seed):
    """What a life broke, as text; empty if nothing."""
    try:
        run_seed(seed)
    except Broken as error:
        return str(error)
    return ""


def run_seed(seed):
    """One life; what it met, or raises ``Broken``."""
    logger = logging.getLogger("farm.scheduler")
    with tempfile.TemporaryDirectory(prefix="farm-sim-") as folder, ExitStack() as stack:
        stack.callback(logger.setLevel, logger.level)  # also if a promise is broken
        logger.setLevel(logging.CRITICAL)
        world = World(seed, Path(folder))
        stack.enter_context(patch.object(service, "time", world))
        stack.enter_context(patch.object(service, "wait", lambda *_: None))
        stack.enter_context(patch.object(backfills, "SLICE", 3))
        stack.enter_context(patch.object(wishes, "LOOK_TIMES", 4))
        stack.enter_context(patch.object(missed, "SLICE", 3))
        stack.enter_context(patch.object(machine, "SLICES_MAX", 2))
        world.run()
        return world.stats


def _try(seed):
    """A seed, what it met, and what it broke."""
    try:
        return seed, run_seed(seed), ""
    except Broken as error:
        return seed, Counter(), str(error)


def main():
    """Run seeds; 1 if one broke a promise."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim.schedulers")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=cpu_count() or 1)
    told = parser.parse_args()
    stats, failed = Counter(), []
    seeds = range(told.start, told.start + told.seeds)
    with ProcessPoolExecutor(told.jobs) as pool:
        for seed, met, broken in pool.map(_try, seeds, chunksize=5):
            stats += met
            if broken:
                failed.append(seed)
                print(f"seed {seed}: {broken}")
    print(", ".join(f"{name} {count}" for name, count in sorted(stats.items())))
    print(f"{told.seeds} seeds, {len(failed)} failed")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
