"""Broken rules of what people are told: questions to hosts, output, hosts in trouble, liveness."""

from __future__ import annotations

from farm.core import delivery
from farm.core.questions import Questions
from farm.core.ready import ReadyQueue
from farm.core.watchdog import Watchdog
from farm_workers.host import Host
from tests.sim.bites import MUCH_MEMORY, bite

GONE = {
    "faults": ["crash host"],
    "fault_seconds": 0.5,
    "hosts": 2,
    "slots": [2, 2],
    "work_seconds": 2.0,
    "submit_seconds": 0.05,
    "delay": 0.1,
    "core": MUCH_MEMORY,
}


@bite("questions to hosts that are gone are answered", "stuck", **GONE)
def _(patch):
    patch.setattr(Questions, "on_tick", lambda _self, _now: None)
    patch.setattr(Questions, "_plan", lambda _self: None)


@bite("a host in trouble wants nothing", "host window", faults=["fill host"], fault_seconds=0.4)
def _(patch):
    window = Host._window

    def open_window(self):
        trouble, self._trouble = self._trouble, ""
        try:
            return window(self)
        finally:
            self._trouble = trouble

    patch.setattr(Host, "_window", open_window)


@bite("of what attempts leave behind only the output is published", "output", durable=True)
def _(patch):
    patch.setattr(delivery, "_as_published", lambda entry: entry)


@bite("nobody is suspected who only waits for the store", "invariants", commit_seconds=1.0)
def _(patch):
    patch.setattr(ReadyQueue, "snapshot", lambda _self: [])
    judge = Watchdog._judge

    def twice(self, suspects):
        judge(self, suspects)
        judge(self, suspects)

    patch.setattr(Watchdog, "_judge", twice)
