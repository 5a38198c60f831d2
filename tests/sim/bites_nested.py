"""Broken rules of slots that are lent: parents that keep from their children what these need."""

from __future__ import annotations

from farm.client.session_outbox import Outbox
from farm.core import hosts
from farm.core.placement import Placement
from farm.core.queue import Queue
from farm_workers import host_lending
from farm_workers.host_backlog import Backlog
from farm_workers.host_lending import Lending
from farm_workers.host_roster import Roster
from tests.sim.bites import bite

MANY_PARENTS = {
    "hosts": 1,
    "slots": [1],
    "nested": 0.8,
    "max_lent": 2,
    "queues": {},
    "orders": 0.0,
    "faults": [],
    "stops": False,
    "deaths": False,
    "holes": 0.0,
    "tasks": 12,
    "work_seconds": 0.02,
    "submit_seconds": 0.05,
    "max_tasks_per_worker": 0,
    "max_memory_per_worker": 0,
    "core": {
        "max_tasks": 1000,
        "max_bytes": 1 << 20,
        "session_tasks": 100,
        "max_result_bytes": 1 << 30,
    },
}


@bite("each depth has a slot that those above it cannot take", "starved", **MANY_PARENTS)
def _(patch):
    for module in (hosts, host_lending):
        patch.setattr(module, "lendable", lambda most, _depth: most)


@bite("slots that are lent are for the deepest", "starved", **MANY_PARENTS)
def _(patch):
    patch.setattr(Placement, "_place_nested", lambda *_: 0)


@bite("a host that lends keeps nothing that it cannot begin", "starved", **MANY_PARENTS)
def _(patch):
    patch.setattr(Backlog, "keep", lambda *_: None)


LIMITED_PARENTS = {**MANY_PARENTS, "queues": {"default": {"max_running": 1}}}


@bite("who waits lends its place in a queue", "starved", **LIMITED_PARENTS)
def _(patch):
    patch.setattr(Lending, "_waits", lambda _: [])


@bite(
    "a place that is lent is for what others wait for",
    "queue running",
    **{**LIMITED_PARENTS, "slots": [3]},
)
def _(patch):
    for name in ("closed", "allowed"):
        rule = getattr(Queue, name)

        def for_anybody(self, *args, rule=rule, nested=False, **more):
            return rule(self, *args, nested=True, **more)

        patch.setattr(Queue, name, for_anybody)


@bite("no more is lent than may be", "lent too much", "host window", **MANY_PARENTS)
def _(patch):
    patch.setattr(Lending, "may_begin", lambda *_: True)
    for module in (hosts, host_lending):
        patch.setattr(module, "lendable", lambda _most, depth: 50 + depth)


FULL_OF_PARENTS = {
    **MANY_PARENTS,
    "seconds": 0.5,  # then nobody cancels any of them
    "steps": 60_000,  # they ask for room all the time
    "core": {**MANY_PARENTS["core"], "max_tasks": 5},
}


@bite(
    "who finds no room waits for nothing that may wait for it",
    "starved",
    **FULL_OF_PARENTS,
)
def _(patch):
    patch.setattr(Outbox, "may_wait", lambda _self, _refused: True)


@bite(
    "what is waited for fails where no worker starts",
    "starved",
    **{
        **MANY_PARENTS,
        "slots": [3],
        "initializer": True,
        "faults": ["spoil host"],
        "fault_seconds": 0.3,
        "seconds": 0.5,
        "steps": 60_000,
    },
)
def _(patch):
    replace = Roster.replace

    def for_good(self, slot, death, now):
        replace(self, slot, death, now)
        self.retry_at = float("inf") if self.failing else self.retry_at

    patch.setattr(Roster, "replace", for_good)
    patch.setattr(Roster, "gives_up", lambda self, _: self.failing and not self.census()[0])
