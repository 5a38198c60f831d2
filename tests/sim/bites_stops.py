"""Broken rules of stops."""

from __future__ import annotations

from farm.client.session_requests import Cancels as SessionCancels
from farm.core.batch import Batch
from farm.core.cancels import Cancels
from farm.core.loading import Loading
from farm.core.recovery import Recovery
from farm.ranges import RangeSet
from farm_workers.host_lease import Lease
from farm_workers.host_limits import Limits
from tests.sim.bites import RESTARTS, bite

STOPS = {"stops": True, "work_seconds": 0.8, "submit_seconds": 0.2}


@bite("after the answer to a stop no success counts", "stopped task ended otherwise", **STOPS)
def _(patch):
    patch.setattr(Batch, "stopping_runs", lambda _self, lo, hi: [(lo, hi, None)])


@bite("a stop is answered after its commit", "acknowledged before commit", **STOPS)
def _(patch):
    patch.setattr(Cancels, "_persist_stop", lambda *_: None)


@bite(
    "a stop outlives the coordinator",
    "stopped task ended otherwise",
    "stopped task ran",
    faults=RESTARTS,
    **STOPS,
)
def _(patch):
    patch.setattr(Loading, "_restore_stopping", lambda *_: None)


@bite("what was to be stopped and nobody has does not run again", "stopped task ran",
      "stopped task ended otherwise", faults=[*RESTARTS, "crash host"], **STOPS)  # fmt: skip
def _(patch):
    patch.setattr(Recovery, "_stop_waiting", lambda *_: None)


@bite("who ignores a stop is ended with the worker", "stop", faults=[], **STOPS)
def _(patch):
    patch.setattr(Limits, "_end_stopped", lambda _self, slot, _now: setattr(slot, "stop", None))


@bite("a host is told once to stop something", "recall", faults=[], **STOPS)
def _(patch):
    mark = Batch.mark_stopping

    def marked(self, lo, hi, grace):
        mark(self, lo, hi, grace)
        return RangeSet([(lo, hi)])

    patch.setattr(Batch, "mark_stopping", marked)


@bite("a host does what a stop says", "stop", faults=[], **STOPS)
def _(patch):
    patch.setattr(Lease, "stop", lambda *_: None)


@bite(
    "a client sends nothing again that is being stopped",
    "stopped task ended otherwise",
    durable=False,
    faults=RESTARTS,
    fault_seconds=0.5,
    tasks=20,
    steps=4_000,
    **STOPS,
)
def _(patch):
    init = SessionCancels.__init__

    def forgetful(self):
        init(self)
        self.stopping = _Forgetful()

    patch.setattr(SessionCancels, "__init__", forgetful)


class _Forgetful(RangeSet):
    def __iter__(self):
        return iter(())
