"""One chaos run: a coordinator, three hosts and two clients under faults; rest; judgement."""

import os
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.chaos import tasks
from tests.chaos.faults import KINDS, Faults
from tests.chaos.history import TOLD, History, judge, read
from tests.processes import Place

__all__ = ["Report", "run"]

HOSTS, SLOTS, CLIENTS = 3, 2, 2
CORE = {"lease_seconds": 2.0, "beat_seconds": 0.5, "recovery_seconds": 3.0}
REST_SECONDS = 120.0
"""After the faults, all that is on the way has to end within this."""
LOOK_SECONDS = 0.02


@dataclass
class Report:
    """What a run came to."""

    seed: int
    seconds: float
    faults: Counter[str] = field(default_factory=Counter)
    history: History = field(default_factory=History)
    broken: dict[str, list[str]] = field(default_factory=dict)

    @property
    def lost(self):
        return len(self.broken.get("lost", ()))

    @property
    def twice(self):
        return len(self.broken.get("published twice", ()))

    def __str__(self):
        known = self.history
        endings = Counter(outcome.ending for found in known.published.values() for outcome in found)
        once = sum(len(found) == 1 for found in known.published.values())
        lines = [f"seed {self.seed}: {sum(self.faults.values())} faults in {self.seconds:.0f} s"]
        lines += [f"  {kind:18}{self.faults[kind]:5}" for kind in KINDS]
        lines += [
            f"tasks acknowledged      {len(known.acknowledged):8}",
            f"published once          {once:8}   "
            + ", ".join(f"{ending} {count}" for ending, count in endings.most_common()),
            f"lost                    {self.lost:8}",
            f"published twice         {self.twice:8}",
            f"executions              {sum(known.executions.elements()):8}   tasks by executions: "
            + ", ".join(f"{times}× {count}" for times, count in sorted(known.executions.items())),
            f"overtaken executions    {known.overtaken:8}   none published",
            f"longest stall           {known.longest_stall:8.1f} s",
        ]
        for what, sentences in self.broken.items():
            lines.append(f"BROKEN: {what}: {len(sentences)}")
            lines += [f"  {sentence}" for sentence in sentences[:TOLD]]
        return "\n".join(lines)


def run(seed, seconds, *, keep=None):
    """Run and judge; the folder of the run is copied to ``keep`` if that is given."""
    with Place("chaos", tcp=bool(seed % 2)) as place:
        report = Report(seed, seconds)
        for name in ("executions", "clients", "jobs"):
            (place.folder / name).mkdir()
        environ = {tasks.EXECUTIONS: str(place.folder / "executions")}
        coordinator = place.coordinator(CORE)
        agents = [place.agent(f"host-{n}", SLOTS, **environ) for n in range(HOSTS)]
        clients = [_client(place, seed, n) for n in range(CLIENTS)]
        for service in (coordinator, *agents, *clients):
            service.start()
        faults = Faults(random.Random(seed), coordinator, agents, clients)
        problems = _suffer(faults, (coordinator, *agents, *clients), seconds)
        problems += _rest(place, faults, clients, (coordinator, *agents))
        report.faults = faults.counts
        report.history = read(place.folder)
        report.broken = judge(report.history)
        if problems := problems + place.complaints() + _leave(place, coordinator, agents):
            report.broken["services"] = problems
        if keep is not None:
            place.copy(keep)
    return report


def _client(place, seed, number):
    """A client's service: every start of it is another life, that takes up after the last."""
    name = f"client-{number}"
    words = [place.folder, place.address, name, seed, "{life}", os.getpid()]
    return place.service(name, [sys.executable, "-m", "tests.chaos.client", *map(str, words)])


def _suffer(faults, services, seconds):
    """The time of faults; returns which services ended although nothing had ended them."""
    problems = []
    until = time.monotonic() + seconds
    while (now := time.monotonic()) < until:
        faults.strike(now)
        for service in services:
            if not service.alive and not faults.is_away(service):
                problems.append(
                    f"{service.name} ended by itself, with {service.process.returncode}"
                )
                service.start()
        time.sleep(max(0.0, min(faults.due, until, now + LOOK_SECONDS) - now))
    return problems


def _rest(place, faults, clients, services):
    """No faults any more: clients finish what they have; returns what did not end as it should."""
    faults.stop()
    (place.folder / "stop").touch()
    problems = []
    until = time.monotonic() + REST_SECONDS
    while any(client.alive for client in clients) and time.monotonic() < until:
        time.sleep(LOOK_SECONDS)
    for client in clients:
        if client.alive:
            problems.append(f"{client.name} did not finish within {REST_SECONDS:.0f} s of rest")
        elif client.process.returncode:
            problems.append(f"{client.name} ended with {client.process.returncode}")
    problems += [f"{one.name} is gone in the rest" for one in services if not one.alive]
    return problems


def _leave(place, coordinator, agents):
    """Everybody leaves in order, and nothing may be left."""
    problems = []
    for service in (*agents, coordinator):
        code = service.end()
        if code:
            problems.append(f"{service.name} was told to leave and ended with {code}")
    return problems
