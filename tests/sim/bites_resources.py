"""Broken rules of what tasks need: where they may run, how many at a time, and who is passed."""

from __future__ import annotations

from farm.core.hosts import Host
from farm.core.placement import Placement
from farm.core.recovery import Recovery
from farm.core.reserving import Reserving
from farm_workers.host_filling import Filling
from farm_workers.host_needs import HostNeeds
from tests.sim.bites import RESTARTS, bite
from tests.sim.bites_queues import CROWD

NEEDY = {
    **CROWD,
    "slots": [4],
    "resources": [{"memory": 8, "gpu": 2, "licence": 0.5}],
    "labels": [{"zone": "a"}],
    "needless": 0.2,
    "core": {**CROWD["core"], "reserve_seconds": 0.2},
}
SCARCE = {**NEEDY, "needs": [({"memory": 4}, ()), ({"gpu": 1}, ())]}
WIDE = {**NEEDY, "needs": [({"slots": 3}, ())]}
SEVERAL = {
    **NEEDY,
    "hosts": 2,
    "slots": [2, 2],
    "resources": [{"memory": 8}, {"memory": 8}],
    "labels": [{"zone": "a"}, {"zone": "b"}],
    "needs": [({}, ("zone=a",))],
}
LARGE_AND_SMALL = {
    **NEEDY,
    "slots": [8],
    "tasks": 120,
    "steps": 12_000,
    "submit_seconds": 0.05,
    "needs": [({"memory": 2}, ()), ({"memory": 1}, ()), ({"memory": 8}, ())],
    "needless": 0.0,
}
RESTARTED = {**SCARCE, "faults": RESTARTS, "fault_seconds": 0.5, "durable": True}


@bite("a host is given no more than it has", "resources", "invariants", **SCARCE)
def _(patch):
    patch.setattr(Host, "spare", lambda self, name: self.total.get(name, 0))
    patch.setattr(HostNeeds, "admits", lambda *_: True)


@bite("a host begins no more than it has slots for", "resources", **WIDE)
def _(patch):
    idle = HostNeeds.idle

    def all_of_them(self, slots):
        self.given = False
        return idle(self, slots)

    patch.setattr(HostNeeds, "idle", all_of_them)


@bite("a task runs where its labels are", "resources", **SEVERAL)
def _(patch):
    fits = Host.fits
    patch.setattr(Host, "fits", lambda self, needs: fits(self, needs._replace(labels=())))


@bite("no device is given to two", "devices", **SCARCE)
def _(patch):
    bind = HostNeeds._bind

    def the_first(self, count, idle, now):
        slot = bind(self, count, idle, now)
        if slot is not None:
            slot.devices = self._devices[:count]
        return slot

    patch.setattr(HostNeeds, "_bind", the_first)


@bite("what is adopted counts as used", "resources", "invariants", **RESTARTED)
def _(patch):
    adopt = Recovery._adopt

    def unused(self, host, claim, batch, run, now):
        lease = adopt(self, host, claim, batch, run, now)
        host.used.clear()
        return lease

    patch.setattr(Recovery, "_adopt", unused)


@bite("what needs much is not passed for ever", "passed", **LARGE_AND_SMALL)
def _(patch):
    patch.setattr(Reserving, "_reserve", lambda *_: None)


@bite("what no host has now stands in nobody's way", "passed", **LARGE_AND_SMALL)
def _(patch):
    patch.setattr(Placement, "_place_heads", one_after_the_other)


def one_after_the_other(self, parcels, now, *, lent=False):
    """What cannot be placed holds up all that comes after it."""
    queues, given = self._ledger.queues, 0
    while (head := queues.head(now, holds_back=self._ledger.holds_back)) is not None:
        needs = head[0].needs
        if needs is not None and self._ledger.hosts.pick_for(needs, now) is None:
            break
        size = self._place_head(head, parcels, now, turn=True, lent=lent)
        if size is None:
            break
        given += size
    return given


@bite("short tasks wait behind others, and not beside what needs slots", "resources", **WIDE)
def _(patch):
    fill = Filling.fill

    def eager(self, now, only=None):
        fill(self, now, only)
        for slot in self._roster.slots:
            lease = self._backlog.head()
            if slot.idle and lease is not None and not lease.grant.resources:
                self._hand(slot, lease, 1, now)

    patch.setattr(Filling, "fill", eager)


@bite("a host of another Python gets no work", "environment", hosts=2, slots=[2, 2], strangers=1)
def _(patch):
    leaves = lambda host: host.draining or host.leaving  # noqa: E731
    ready = property(lambda host: host.welcomed and host.peer is not None and not leaves(host))
    patch.setattr(Host, "is_open", ready)
