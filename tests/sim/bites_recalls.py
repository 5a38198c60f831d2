"""Broken rules of recalls: what has not begun is taken back for a host that is idle."""

from __future__ import annotations

from farm.core.endings import Endings
from farm.core.recalls import Recalls
from farm_workers.host_work import Work
from tests.sim.bites import bite

UNEVEN = {
    "hosts": 2,
    "slots": [2, 2],
    "clients": 2,
    "work_seconds": 0.02,
    "long": 0.15,
    "submit_seconds": 0.2,
    "tasks": 80,
    "steps": 5_000,
    "delay": 0.0005,
    "commit_seconds": 0.001,
    "faults": [],
    "holes": 0.0,
    "deaths": False,
    "stops": False,
    "blobs": 0.0,
    "queues": {},
    "orders": 0.0,
    "max_tasks_per_worker": 0,
    "max_memory_per_worker": 0,
    "core": {
        "max_tasks": 1000,
        "max_bytes": 1 << 20,
        "max_result_bytes": 1 << 30,
        "session_tasks": 100,
        "short_seconds": 1.0,
    },
}
UNEVEN_FOR_LONG = {**UNEVEN, "steps": 20_000, "nested": 0.0}


@bite(
    "what waits behind something long is taken back for an idle host",
    "idle host",
    **UNEVEN_FOR_LONG,
)
def _(patch):
    patch.setattr(Recalls, "look", lambda _self, _now: None)


@bite("no more is taken back than others have room for", "recall", **UNEVEN)
def _(patch):
    ask = Recalls._ask
    patch.setattr(Recalls, "_ask", lambda self, host, _most, _free: ask(self, host, 100, 100))


@bite("a host that is asked gives back", "idle host", **UNEVEN_FOR_LONG)
def _(patch):
    patch.setattr(Work, "recall", lambda *_, **__: None)


@bite("what is given back spends no retry", "retries", "invariants", "losses", **UNEVEN)
def _(patch):
    give_back = Endings.give_back

    def spend(self, batch, lo, hi, **more):
        give_back(self, batch, lo, hi, **more)
        for index in range(lo, hi):
            if batch.template.retries:
                batch.diverge(index).retries += 1

    patch.setattr(Endings, "give_back", spend)
