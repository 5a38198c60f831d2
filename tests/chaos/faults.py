"""What goes wrong in a chaos run, and when: a seed decides the kinds, their order and times."""

import contextlib
import heapq
import signal
import time
from collections import Counter
from functools import partial

import psutil

__all__ = ["KINDS", "Faults"]

KINDS = {
    "kill coordinator": 7,
    "stop coordinator": 8,
    "end coordinator": 3,
    "kill agent": 10,
    "stop agent": 12,
    "end agent": 4,
    "kill fork server": 4,
    "stop fork server": 4,
    "kill worker": 20,
    "stop worker": 11,
    "kill client": 10,
    "stop client": 8,
    "kill gateway": 8,
    "stop gateway": 4,
    "end gateway": 3,
}
"""The kinds of faults and how common they are: SIGKILL, SIGSTOP for a while, SIGTERM."""
ENDED = {0, -signal.SIGKILL, -signal.SIGTERM}
"""How what was told to end may end: in order, killed meanwhile, or too young to have heard it."""
FAULT_SECONDS = 1.0
"""The mean time between two."""
STOP_SECONDS = (0.3, 1.0, 3.0, 6.0)
"""How long something is stopped; a lease is 2 s, a beat 0.5 s."""
AWAY_SECONDS = (0.0, 0.3, 3.0)
"""How long something that was killed stays away."""


class Faults:
    """Injects faults into the services of a run; ``counts`` has how many of which kind.

    ``problems``: whoever was told to end and did not do so in order.
    """

    def __init__(self, chance, coordinator, agents, clients, gateways=(), kinds=KINDS):
        self.problems = []
        self._chance = chance
        self._coordinator = coordinator
        self._agents = agents
        self._clients = clients
        self._gateways = gateways
        self._services = [coordinator, *agents, *clients, *gateways]
        self._kinds = {kind: n for kind, n in kinds.items() if gateways or "gateway" not in kind}
        self.counts = Counter(dict.fromkeys(self._kinds, 0))
        self._later = []  # (when, number, action): what is to go on, or to start again
        self._number = 0
        self._next = time.monotonic() + self._gap()
        self._awaited = set()
        self._leaving = set()

    def _gap(self):
        return self._chance.expovariate(1.0 / FAULT_SECONDS)

    @property
    def due(self):
        """When ``strike`` is next needed, monotonic seconds."""
        return min([self._next, *(when for when, _, _ in self._later[:1])])

    def strike(self, now):
        """Do what is due: faults, and the ends of earlier ones."""
        while self._later and self._later[0][0] <= now:
            heapq.heappop(self._later)[2]()
        for service in [one for one in self._leaving if not one.alive]:
            self._gone(service, now)
        if now >= self._next:
            kind = self._chance.choices([*self._kinds], [*self._kinds.values()])[0]
            if self._inject(*kind.split(" ", 1), now):
                self.counts[kind] += 1
            self._next = now + self._gap()

    def stop(self):
        """Nothing goes wrong any more: what was stopped goes on, what was killed is back."""
        for _, _, action in self._later:
            action()
        self._later = []
        for service in [*self._leaving]:
            service.wait()
            self._gone(service, 0.0)
        for _, _, action in self._later:
            action()

    def _inject(self, what, whom, now):
        target = self._target(whom)
        if target is None:
            return False
        try:
            if what == "stop":
                target.send_signal(signal.SIGSTOP)
                self._after(now, self._chance.choice(STOP_SECONDS), partial(_go_on, target))
            elif what == "end" and not any(one.pid == target.pid for one in self._leaving):
                target.terminate()  # a second one would mean "at once"
            elif what == "kill":
                target.kill()
            else:
                return False
        except psutil.Error:
            return False
        for service in self._services:
            if service.process.pid == target.pid and what == "kill":
                service.wait()
                self._gone(service, now)
            elif service.process.pid == target.pid and what == "end":
                self._leaving.add(service)
        return True

    def _gone(self, service, now):
        """It has ended because of us, and is back in a while."""
        if service.process.returncode not in ENDED:
            self.problems.append(f"{service.name} was ended, with {service.process.returncode}")
        self._leaving.discard(service)
        self._awaited.add(service)
        self._after(now, self._chance.choice(AWAY_SECONDS), partial(self._back, service))

    def _after(self, now, seconds, action):
        self._number += 1
        heapq.heappush(self._later, (now + seconds, self._number, action))

    def _back(self, service):
        self._awaited.discard(service)
        service.start()

    def is_away(self, service):
        """Whether it was killed or told to end, and is to be started again."""
        return service in self._awaited or service in self._leaving

    def _target(self, whom):
        """A process of this kind, as one that signals cannot be sent to by mistake."""
        found = self._named(whom)
        living = [one for one in found if one.alive]
        if not living:
            return None
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self._chance.choice(living).pid)
            if whom in {"worker", "fork server"}:
                process = self._child(process)
            if whom == "worker" and process is not None:
                process = self._child(process)
            return process
        return None

    def _named(self, whom):
        """The services of this kind; those of workers and fork servers are the agents."""
        known = {
            "coordinator": [self._coordinator],
            "gateway": self._gateways,
            "client": self._clients,
        }
        return known.get(whom, self._agents)

    def _child(self, process):
        children = sorted(process.children(), key=lambda child: child.pid)
        return self._chance.choice(children) if children else None


def _go_on(process):
    with contextlib.suppress(psutil.Error):
        process.send_signal(signal.SIGCONT)
