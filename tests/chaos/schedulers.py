"""``python -m tests.chaos.schedulers``: three schedulers on one state, killed and stopped.

A coordinator and a host are let alone; one scheduler decides and two stand by. Afterwards each fire
must have run exactly once, and each nominal time must have exactly one row that is final.
"""

import argparse
import math
import random
import re
import shutil
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from farm_scheduler.core import State as Fate
from farm_scheduler.state import State
from farm_scheduler.turns import holder
from tests.chaos import scheduled
from tests.processes import Place

__all__ = ["Report", "run"]

SCHEDULERS = 3
REST_SECONDS = 60.0
"""After the faults, all that was submitted has to end within this."""
LOOK_SECONDS = 0.02
FAULT_SECONDS = (0.1, 0.7)
FAULTS_MIN = 3
"""However long that takes where everything takes long."""
STOP_SECONDS = (0.1, 0.5)
FILE = """
[defaults]
overlap = "allow"
late_after = "1s"

[schedules.a]
run = "tests.chaos.scheduled:note"
cron = "@every 1s"
args = ["a"]
misfire = "all"

[schedules.b]
run = "tests.chaos.scheduled:note"
cron = "* * * * * *"
args = ["b"]
late_after = "300ms"

[schedules.c]
run = "tests.chaos.scheduled:note"
cron = "*/2 * * * * *"
args = ["c"]
jitter = "700ms"
overlap = "buffer_one"

[schedules.d]
run = "tests.chaos.scheduled:note"
cron = "@every 3s"
args = ["d"]
misfire = "skip"
""" + "".join(
    f"""
[schedules.more{number}]
run = "tests.chaos.scheduled:note"
cron = "@every 1s"
args = ["more"]
jitter = "900ms"
"""
    for number in range(20)
)


@dataclass
class Report:
    """What a run came to; ``broken`` is empty if all was well."""

    seed: int
    seconds: float
    faults: Counter[str] = field(default_factory=Counter)
    fates: Counter[str] = field(default_factory=Counter)
    runs: Counter[int] = field(default_factory=Counter)
    holders: set[int] = field(default_factory=set)
    kills: list[tuple[float, bool]] = field(default_factory=list)
    """When the one that decided was killed, and whether another one stood by."""
    others: list[float] = field(default_factory=list)
    """When else something happened to one that decided."""
    takeovers: dict[bool, list[float]] = field(default_factory=lambda: {True: [], False: []})
    """From a SIGKILL to the first decision, with one standing by, and with none yet."""
    without_row: int = 0
    rows_twice: int = 0
    broken: list[str] = field(default_factory=list)

    def __str__(self):
        rows = [
            (
                f"three schedulers, seed {self.seed}: {sum(self.faults.values())} faults in "
                f"{self.seconds:.0f} s"
            ),
            *(f"  {kind:30}{count:5}" for kind, count in self.faults.most_common()),
            f"schedulers that decided         {len(self.holders):5}",
            _times("decisions after a SIGKILL", self.takeovers[True]),
            _times("  while the others started", self.takeovers[False]),
            f"nominal times                   {sum(self.fates.values()):5}   "
            + ", ".join(f"{fate} {count}" for fate, count in self.fates.most_common()),
            f"without a row                   {self.without_row:5}   with two: {self.rows_twice}",
            f"fires that ran                  {sum(self.runs.values()):5}   runs per fire: "
            + ", ".join(f"{times}× {count}" for times, count in sorted(self.runs.items())),
            *(f"BROKEN: {sentence}" for sentence in self.broken[:20]),
        ]
        return "\n".join(rows)


def _times(what, found):
    return f"{what:32}{len(found):5}   longest {max(found, default=0.0):.2f} s"


def run(seed, seconds, *, keep=None):
    """Faults for so many seconds, rest, judgement; ``keep``: where to copy its logs."""
    report = Report(seed, seconds)
    with Place("schedulers") as place:
        ran = place.folder / "ran"
        ran.mkdir()
        (place.folder / "schedules.toml").write_text(FILE)
        coordinator = place.coordinator()
        host = place.agent("host", 2, **{scheduled.RAN: str(ran)})
        schedulers = [_scheduler(place, number) for number in range(SCHEDULERS)]
        for service in (coordinator, host, *schedulers):
            service.start()
        state = place.folder / "schedules.db"
        _await(lambda: holder(state) > 0, "a scheduler decides")
        _faults(schedulers, state, random.Random(f"schedulers{seed}"), report)
        _rest(schedulers, state, report)
        for service in schedulers:
            service.end()
        _judge(State(state), ran, report)
        _time_takeovers([service.log for service in schedulers], report)
        report.broken += place.complaints()
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            for log in place.folder.glob("*.log"):
                shutil.copy(log, keep)
    return report


def _scheduler(place, number):
    told = {
        "files": [str(place.folder / "schedules.toml")],
        "address": place.address,
        "state": str(place.folder / "schedules.db"),
    }
    return place.module(f"scheduler{number}", "farm_scheduler", told)


def _faults(schedulers, state, rng, report):
    until = time.monotonic() + report.seconds
    while time.monotonic() < until or report.faults.total() < FAULTS_MIN:
        time.sleep(rng.uniform(*FAULT_SECONDS))
        report.holders.add(holder(state))
        for one in schedulers:
            if not one.alive:  # SIGHUP came before Python itself had started
                report.faults["SIGHUP of who started"] += 1
                one.start()
        decides = [one for one in schedulers if one.pid == holder(state)]
        victim = decides[0] if decides and rng.random() < 0.7 else rng.choice(schedulers)
        kind = rng.choice(["SIGKILL", "SIGKILL", "SIGSTOP", "SIGTERM", "SIGHUP"])
        role = "of who decides" if victim in decides else "of who stands by"
        report.faults[f"{kind} {role}"] += 1
        if victim in decides:
            if kind == "SIGKILL":
                report.kills.append((time.time(), stands_by(state)))
            else:
                report.others.append(time.time())
        if kind == "SIGSTOP":
            victim.signal(signal.SIGSTOP)
            time.sleep(rng.uniform(*STOP_SECONDS))
            victim.signal(signal.SIGCONT)
        elif kind == "SIGHUP":
            victim.signal(signal.SIGHUP)
        else:
            decided = victim.pid if victim in decides else 0
            victim.kill() if kind == "SIGKILL" else victim.end()
            if kind == "SIGKILL" and decided:
                _await(lambda gone=decided: holder(state) not in {0, gone}, "another decides")
            victim.start()


DECIDES = re.compile(r"^(\S+) info \S+ decides about ", re.MULTILINE)


def stands_by(state):
    """Whether somebody waits for the lock of a state."""
    inode = state.with_name(f"{state.name}.lock").stat().st_ino
    waits = re.compile(rf"-> FLOCK .*:{inode} ")
    return any(map(waits.search, Path("/proc/locks").read_text().splitlines()))


def _time_takeovers(logs, report):
    """How long it took until somebody decided again, where nothing else came between."""
    decided = sorted(
        datetime.fromisoformat(match[1]).timestamp()
        for log in logs
        for match in DECIDES.finditer(log.read_text())
    )
    faults = sorted([*report.others, *(at for at, _ in report.kills), math.inf])
    for killed, standing in report.kills:
        at = next((at for at in decided if at > killed), math.inf)
        if at < next(fault for fault in faults if fault > killed):
            report.takeovers[standing].append(at - killed)


def _rest(schedulers, state, report):
    """Take the schedules away, and wait until nothing is open any more."""
    _await(lambda: holder(state) > 0, "a scheduler decides after the faults")
    file = state.with_name("schedules.toml")
    file.write_text("[schedules]\n")
    for service in schedulers:
        service.signal(signal.SIGHUP)
    found = State(state)
    retired = "all schedules are retired, and their fires over"
    _await(
        lambda: (
            all(entry.retired is not None for entry, _ in found.entries())
            and not list(found.rows("state IN ('waiting', 'running')"))
        ),
        retired,
        report,
    )
    found.close()


def _judge(state, folder, report):
    ran = Counter(line for path in folder.iterdir() for line in path.read_text().split())
    rows = list(state.rows("1"))
    report.fates.update(row.reason or str(row.state) for row in rows)
    report.runs.update(ran[row.fire_id] for row in rows if row.state is Fate.RAN)
    for row in rows:
        expected = int(row.state is Fate.RAN)
        if ran.pop(row.fire_id, 0) != expected:
            report.broken.append(f"{row.schedule} {row.nominal}: {row.state}, not run {expected}×")
        if row.state is Fate.RAN and row.outcome != "succeeded":
            report.broken.append(f"{row.schedule} {row.nominal}: {row.outcome}: {row.detail}")
    report.broken += [f"ran without a row: {fire}" for fire in ran]
    for entry, _ in state.entries():
        name, timing = entry.schedule.name, entry.schedule.timing
        times = [row.nominal for row in rows if row.schedule == name]
        expected, at = [], min(times)
        while at is not None and at <= entry.cursor:
            expected.append(at)
            at = timing.next(at)
        report.without_row += len(set(expected) - set(times))
        report.rows_twice += len(times) - len(set(times))
        if sorted(times) != expected:
            report.broken.append(f"{name}: not one row for each nominal time")
    if not report.runs:
        report.broken.append("nothing ran at all")
    state.close()


def _await(good, what, report=None):
    until = time.monotonic() + REST_SECONDS
    while time.monotonic() < until:
        if good():
            return
        time.sleep(LOOK_SECONDS)
    if report is None:
        raise TimeoutError(f"not within {REST_SECONDS:.0f} s: {what}")
    report.broken.append(f"not within {REST_SECONDS:.0f} s: {what}")


def main():
    """Run, print; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.schedulers")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long there are faults")
    parser.add_argument("--seed", type=int, default=1, help="which faults")
    parser.add_argument("--keep", type=Path, help="copy the run's logs to this folder")
    options = parser.parse_args()
    report = run(options.seed, options.seconds, keep=options.keep)
    print(report)
    return int(bool(report.broken))


if __name__ == "__main__":
    sys.exit(main())
