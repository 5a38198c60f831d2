"""One soak: a farm at half its top speed, a worker killed now and then, everything sampled."""

import os
import select
import signal
import sqlite3
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise

import psutil

import farm
from tests.conftest import REPOSITORY
from tests.processes import Place, own_environment
from tests.soak.samples import BOUNDS, Series, sample_process, slope

__all__ = ["Report", "run"]

SLOTS = 2
TOP_SECONDS = 10.0
SAMPLE_SECONDS = 2.0
KILL_SECONDS = 7.0
"""A worker is killed so often."""
HISTORY_SECONDS = 30.0
"""So long it is remembered how tasks ended, as if this farm had run for longer than 7 days; in a
short run for a quarter of it."""
SETTLED_SHARE = 0.25
SETTLED_SECONDS = 60.0
"""Nothing is judged in the first minute, or in the first quarter of a short run; nor before the
first that was remembered is forgotten."""


@dataclass
class Report:
    """What a soak came to; ``series`` by process and quantity."""

    seconds: float
    top: float = 0.0
    rate: float = 0.0
    tasks: int = 0
    killed: int = 0
    series: dict[str, dict[str, Series]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    history: float = 0.0

    @property
    def settled(self):
        return max(self.history * 1.1, min(SETTLED_SECONDS, self.seconds * SETTLED_SHARE))

    @property
    def forgotten(self):
        """How many memories of ended tasks went, of those that were seen to go."""
        rows = self.series.get("coordinator", {}).get("history", Series()).values
        return sum(max(0.0, before - after) for before, after in pairwise(rows))

    def judge(self):
        """Whatever grows beyond its bound is a problem, and so is what is flat as nothing comes."""
        if self.history and self.seconds > 2 * self.history and not self.forgotten:
            self.problems.append(f"nothing was forgotten that was older than {self.history:g} s")
        for who, quantities in self.series.items():
            for what, series in quantities.items():
                after = series.after(self.settled)
                if len(after.times) < 2:
                    continue
                growth = slope(after) * (after.times[-1] - after.times[0])
                if not BOUNDS[what].allows(growth, max(after.values)):
                    self.problems.append(
                        f"{what} of {who} grew by {growth:.0f} {BOUNDS[what].unit} in "
                        f"{after.times[-1] - after.times[0]:.0f} s"
                    )

    def __str__(self):
        said = (
            f"top speed {self.top:,.0f} tasks/s; soaked {self.seconds:.0f} s at "
            f"{self.rate:,.0f} tasks/s: {self.tasks:,} tasks, {self.killed} workers killed; "
            f"remembered for {self.history:g} s, {self.forgotten:,.0f} memories seen to go; "
            f"judged after {self.settled:.0f} s"
        )
        heads = f"{'first':>12}{'last':>12}{'most':>12}{'slope a minute':>18}"
        lines = [said, f"{'process':14}{'quantity':18}{heads}"]
        for who, quantities in self.series.items():
            for what, series in quantities.items():
                after = series.after(self.settled)
                if not after.values:
                    continue
                lines.append(
                    f"{who:14}{what:18}{after.values[0]:12,.0f}{after.values[-1]:12,.0f}"
                    f"{max(after.values):12,.0f}{slope(after) * 60:+14,.1f} {BOUNDS[what].unit}"
                )
        return "\n".join(lines + [f"BROKEN: {problem}" for problem in self.problems])


class _Load:
    """The client's process."""

    def __init__(self, place):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.soak.load", place.address, str(os.getpid())],
            cwd=REPOSITORY,
            env=own_environment(place.folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, rate, seconds):
        self.process.stdin.write(f"{rate} {seconds}\n")
        self.process.stdin.flush()

    def answered(self, seconds):
        """Whether it has answered, or does within a time."""
        return bool(select.select([self.process.stdout], [], [], seconds)[0])

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError("the client of the soak has ended")
        return int(line)

    def close(self):
        self.process.stdin.close()
        code = self.process.wait(60.0)
        self.process.stdout.close()
        return code


class _Store:
    """What the coordinator has in its store, and remembers, as another program sees it."""

    def __init__(self, place):
        self._folder = place.store.parent
        self._client = farm.Client(place.address, connect_timeout=60.0)
        self._connection = sqlite3.connect(f"file:{place.store}?mode=ro", uri=True)

    def sample(self):
        free, pages, size = (
            self._connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("freelist_count", "page_count", "page_size")
        )
        return {
            "store": sum(path.stat().st_size for path in self._folder.iterdir()) / 1024,
            "store in use": (pages - free) * size / 1024,
            "history": self._client.query("status")["history"]["rows"],
        }

    def close(self):
        self._connection.close()
        self._client.shutdown()


def run(
    seconds,
    *,
    top_seconds=TOP_SECONDS,
    sample_seconds=SAMPLE_SECONDS,
    kill_seconds=KILL_SECONDS,
    history_seconds=None,
):
    """Measure the top speed, soak, judge."""
    if history_seconds is None:
        history_seconds = min(HISTORY_SECONDS, seconds * SETTLED_SHARE)
    report = Report(seconds, history=history_seconds)
    with Place("soak") as place:
        coordinator = place.coordinator({"history_ttl": history_seconds})
        agent = place.agent("host", SLOTS)
        coordinator.start()
        agent.start()
        load = _Load(place)
        load.ask(0, top_seconds)
        report.top = load.answer() / top_seconds
        report.rate = report.top / 2
        load.ask(report.rate, seconds)
        pids = {"coordinator": coordinator.pid, "agent": agent.pid, "client": load.process.pid}
        with closing(_Store(place)) as store:
            _watch(report, store, pids, load, (sample_seconds, kill_seconds))
        report.tasks = load.answer()
        codes = [load.close(), agent.end(), coordinator.end()]
        report.problems += place.complaints()
        if any(codes):
            report.problems.append(f"client, agent and coordinator ended with {codes}")
    report.judge()
    return report


def _watch(report, store, pids, load, paces):
    """Sample everything until the load is over, and kill a worker now and then."""
    sample_seconds, kill_seconds = paces
    processes = {who: psutil.Process(pid) for who, pid in pids.items()}
    series = defaultdict(lambda: defaultdict(Series))
    began = time.monotonic()
    kill_at = began + kill_seconds
    while not load.answered(sample_seconds):
        now = time.monotonic()
        every, workers = dict(processes), []
        for server in processes["agent"].children()[:1]:
            every["fork server"] = server
            workers = server.children()
        for who, process in every.items():
            for what, value in sample_process(process).items():
                series[who][what].add(now - began, value)
        series["workers, sum"]["resident memory"].add(now - began, _resident(workers) / 1024)
        for what, value in store.sample().items():
            series["coordinator"][what].add(now - began, value)
        if now >= kill_at and workers:
            kill_at = now + kill_seconds
            workers[report.killed % len(workers)].send_signal(signal.SIGKILL)
            report.killed += 1
    report.series = {who: dict(quantities) for who, quantities in series.items()}


def _resident(processes):
    total = 0
    for process in processes:
        try:
            total += process.memory_info().rss
        except psutil.Error:  # it was killed, or recycled
            continue
    return total
