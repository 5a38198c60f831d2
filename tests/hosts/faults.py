"""What goes wrong between machines, besides what goes wrong on them: links, routes and a relay."""

from functools import partial

from tests.chaos import faults
from tests.hosts.place import VIA_RELAY

__all__ = ["KINDS", "NetFaults"]

PROCESSES = {
    "kill coordinator": 5,
    "stop coordinator": 4,
    "end coordinator": 2,
    "kill agent": 6,
    "stop agent": 4,
    "end agent": 3,
    "kill worker": 6,
    "kill client": 5,
    "stop client": 3,
    "kill relay": 3,
    "stop relay": 2,
}
LINKS = {
    "cut coordinator": 4,
    "cut host": 8,
    "cut client": 6,
    "cut half": 6,
    "hole towards": 6,
    "hole from": 6,
    "hole half": 4,
    "stall relay": 8,
    "slow relay": 6,
    "reset relay": 5,
    "move coordinator": 3,
}
KINDS = PROCESSES | LINKS
"""The kinds of faults and how common they are."""
CUT_SECONDS = (0.3, 1.0, 3.0, 6.0)
"""How long a link is cut; a lease is 2 s, a beat 0.5 s."""
COORDINATOR, RELAY = "coordinator", "relay"


class NetFaults(faults.Faults):
    """Faults of processes and of the network between them.

    A ``hole`` swallows what goes to a peer, or what comes from it: one direction only, at first
    without a sign to the other end. A ``half`` are some of the peers, at once.
    """

    def __init__(self, chance, place, crew):
        super().__init__(chance, crew.coordinator, crew.agents, crew.clients, kinds=KINDS)
        self._place = place
        self._net = place.net
        self._relay = place.relay
        self._services.append(place.relay)
        self._hosts = [one.name for one in crew.agents]
        self._peers = [*self._hosts, *(one.name for one in crew.clients)]

    def _named(self, whom):
        return [self._relay] if whom == "relay" else super()._named(whom)

    def _inject(self, what, whom, now):
        if f"{what} {whom}" in PROCESSES:
            return super()._inject(what, whom, now)
        heal = partial(getattr(self, f"_{what}"), whom)()
        self._after(now, self._chance.choice(CUT_SECONDS), heal)
        return True

    def _some(self, whom):
        """The namespaces that a fault is for."""
        peers = {"host": self._hosts, "client": self._peers[len(self._hosts) :]}
        if whom == "half":
            return self._chance.sample(self._peers, len(self._peers) // 2)
        return [self._chance.choice(peers.get(whom, self._peers))]

    def _cut(self, whom):
        some = [COORDINATOR] if whom == COORDINATOR else self._some(whom)
        for name in some:
            self._net.link(name, up=False)

        def heal():
            for name in some:
                self._net.link(name, up=True)

        return heal

    def _hole(self, whom):
        pairs = []
        for name in self._some(whom):
            other = RELAY if name in VIA_RELAY else COORDINATOR
            near, far = (name, other) if whom == "from" else (other, name)
            pairs.append((near, self._net.addresses[far]))
        for near, address in pairs:
            self._net.blackhole(near, address, on=True)

        def heal():
            for near, address in pairs:
                self._net.blackhole(near, address, on=False)

        return heal

    def _stall(self, _):
        return self._order("stall")

    def _slow(self, _):
        return self._order("slow")

    def _reset(self, _):
        return self._order("reset")

    def _order(self, mode):
        name = self._chance.choice(VIA_RELAY)
        self._place.order(name, mode)
        return partial(self._place.order, name, "pass")

    def _move(self, _):
        self._place.move()
        return lambda: None
