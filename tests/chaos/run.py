"""One chaos run: a coordinator, three hosts, two clients, a gateway under faults; rest; judgement.

A caller of the gateway is let alone, and has to come to an end whatever happens to the others.
"""

import os
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.chaos import tasks
from tests.chaos.faults import Faults
from tests.chaos.history import TOLD, History, judge, read
from tests.processes import Place, free_ports

__all__ = ["CORE", "Crew", "Report", "finish", "run", "suffer"]

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

    @property
    def stale(self):
        return len(self.broken.get("stale", ()))

    def __str__(self):
        known = self.history
        endings = Counter(outcome.ending for found in known.published.values() for outcome in found)
        once = sum(len(found) == 1 for found in known.published.values())
        lines = [f"seed {self.seed}: {sum(self.faults.values())} faults in {self.seconds:.0f} s"]
        lines += [f"  {kind:18}{count:5}" for kind, count in self.faults.items()]
        lines += [
            f"tasks acknowledged      {len(known.acknowledged):8}",
            f"published once          {once:8}   "
            + ", ".join(f"{ending} {count}" for ending, count in endings.most_common()),
            f"calls with a key        {len(known.keyed):8}",
            f"lost                    {self.lost:8}",
            f"published twice         {self.twice:8}",
            f"executions              {sum(known.executions.elements()):8}   tasks by executions: "
            + ", ".join(f"{times}× {count}" for times, count in sorted(known.executions.items())),
            f"overtaken executions    {known.overtaken:8}   published: {self.stale}",
            f"longest stall           {known.longest_stall:8.1f} s",
        ]
        for what, sentences in self.broken.items():
            lines.append(f"BROKEN: {what}: {len(sentences)}")
            lines += [f"  {sentence}" for sentence in sentences[:TOLD]]
        return "\n".join(lines)


class Crew:
    """The services of a run around one coordinator, and what is wrong when they have left.

    ``http``: with a gateway, and a caller of it.
    """

    def __init__(self, place, coordinator, seed, *, http=False):
        for name in ("executions", "clients", "jobs"):
            (place.folder / name).mkdir()
        environ = {tasks.EXECUTIONS: str(place.folder / "executions")}
        self.place = place
        self.coordinator = coordinator
        modules = [tasks.__name__]
        self.agents = [place.agent(f"host-{n}", SLOTS, modules, **environ) for n in range(HOSTS)]
        self.gateways, self.callers = [], []
        if http:
            listen = f"127.0.0.1:{free_ports()}"
            told = {"address": place.address, "listen": listen, "modules": modules}
            self.gateways = [place.module("gateway", "farm.gateway", told)]
            self.callers = [self._caller("caller", f"http://{listen}", seed)]
        # Every start of a client is another life, that takes up after the last.
        self.clients = [self._client(f"client-{n}", seed) for n in range(CLIENTS)]
        for service in self.services:
            service.start()

    def _client(self, name, seed):
        address = self.place.address_for(name)
        words = [self.place.folder, address, name, seed, "{life}", os.getpid()]
        command = [sys.executable, "-m", "tests.chaos.client", *map(str, words)]
        return self.place.service(name, command)

    def _caller(self, name, url, seed):
        words = [self.place.folder, url, name, seed, os.getpid()]
        command = [sys.executable, "-m", "tests.chaos.caller", *map(str, words)]
        return self.place.service(name, command)

    @property
    def services(self):
        return (self.coordinator, *self.agents, *self.gateways, *self.users)

    @property
    def users(self):
        """Those who submit, and end when they have what they wait for."""
        return (*self.callers, *self.clients)

    def rest(self):
        """Clients finish what they have; returns what did not end as it should."""
        (self.place.folder / "stop").touch()
        problems = []
        until = time.monotonic() + REST_SECONDS
        while any(client.alive for client in self.users) and time.monotonic() < until:
            time.sleep(LOOK_SECONDS)
        for client in self.users:
            if client.alive:
                problems.append(f"{client.name} did not finish within {REST_SECONDS:.0f} s of rest")
            elif client.process.returncode:
                problems.append(f"{client.name} ended with {client.process.returncode}")
        gone = [one for one in (self.coordinator, *self.gateways, *self.agents) if not one.alive]
        return problems + [f"{one.name} is gone in the rest" for one in gone]

    def leave(self):
        """Everybody leaves in order, and nothing may be left; returns what is not as it should."""
        problems = self.place.complaints()
        for service in (*self.gateways, *self.agents, self.coordinator):
            if code := service.end():
                problems.append(f"{service.name} was told to leave and ended with {code}")
        return problems + [f"left behind: {what}" for what in self.place.settle()]


def run(seed, seconds, *, keep=None):
    """Run and judge; the folder of the run is copied to ``keep`` if that is given."""
    with Place("chaos", tcp=bool(seed % 2)) as place:
        crew = Crew(place, place.coordinator(CORE), seed, http=True)
        faults = Faults(
            random.Random(seed), crew.coordinator, crew.agents, crew.clients, crew.gateways
        )
        problems = suffer(faults, crew.services, seconds)
        faults.stop()
        problems += faults.problems
        report = finish(crew, Report(seed, seconds, faults.counts), problems)
        if keep is not None:
            place.copy(keep)
    return report


def finish(crew, report, problems):
    """Nothing goes wrong any more: rest, leave, judge."""
    problems = problems + crew.rest() + crew.leave()
    report.history = read(crew.place.folder)
    report.broken = judge(report.history)
    if problems:
        report.broken["services"] = problems
    return report


def suffer(faults, services, seconds):
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
