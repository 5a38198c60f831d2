"""Broken rules of limits and of the workers that they end."""

from __future__ import annotations

import msgspec

from farm.core.dead import DeadTasks
from farm.core.evidence import Evidence
from farm.core.loading import Loading
from farm.core.reports import Reports
from farm_workers.host_limits import Limits
from farm_workers.host_roster import Roster
from tests.sim.bites import bite

LONG_WORK = {"work_seconds": 0.8, "deaths": True, "faults": []}


@bite("a task over its time limit is ended", "limits", **LONG_WORK)
def _(patch):
    tick = Limits.tick

    def patient(self, slot, now):
        slot.deadline = float("inf")
        tick(self, slot, now)

    patch.setattr(Limits, "tick", patient)


@bite(
    "a worker that does not end when it is asked is killed",
    *("limits", "stop", "stuck"),
    **LONG_WORK,
)
def _(patch):
    end = Roster.end

    def ask(self, slot, now):
        end(self, slot, now)
        slot.kill_at = float("inf")

    patch.setattr(Roster, "end", ask)


@bite("a task over its memory limit is ended", "limits", **LONG_WORK)
def _(patch):
    patch.setattr(Limits, "measured", lambda *_: None)


@bite("what the kernel ends for its memory has passed its limit", "limits", fuse=1.0, **LONG_WORK)
def _(patch):
    patch.setattr(Limits, "convict", lambda *_: False)


@bite(
    "the kernel convicts the item that was running",
    "limits",
    fuse=1.0,
    steps=4_000,
    **LONG_WORK,
)
def _(patch):
    convict = Limits.convict

    def the_first(self, slot, ordinal):
        head = slot.pipe[0] if slot.pipe else None
        return head is not None and convict(self, slot, head.part.offset)

    patch.setattr(Limits, "convict", the_first)


@bite("a limit ends nobody else", "limits", "retries", **LONG_WORK)
def _(patch):
    measured = Limits.measured
    patch.setattr(Limits, "measured", lambda self, slot, _, now: measured(self, slot, 1000, now))


@bite("a slot is busy until its process is gone", "slot", **LONG_WORK)
def _(patch):
    end = Roster.end

    def at_once(self, slot, now):
        end(self, slot, now)
        self._spawn(slot.number, now)

    patch.setattr(Roster, "end", at_once)


@bite("what must not be tried again is not", "retries", "stuck")
def _(patch):
    fail = Reports._fail

    def forgive(self, batch, index, ended, payloads, now):
        if batch.template.retries:
            batch.template = msgspec.structs.replace(batch.template, retries=99)
        failure = ended.failure
        again = failure is not None and failure.final
        if again and batch.diverge(index).retries < batch.template.retries:
            self._endings.retry(batch, index, failure, now)
        else:
            fail(self, batch, index, ended, payloads, now)

    patch.setattr(Reports, "_fail", forgive)


@bite("a worker that has run enough is replaced", "recycling", max_tasks_per_worker=2)
def _(patch):
    patch.setattr(Limits, "given", lambda *_: None)
    patch.setattr(Limits, "room", lambda *_: 1 << 30)


@bite("a worker is replaced only when it has nothing to do", "recycling", max_tasks_per_worker=2)
def _(patch):
    def hasty(self, slot, now):
        if slot.worn:
            self._roster.retire(slot, now)

    patch.setattr(Limits, "relieve", hasty)
    patch.setattr(Limits, "room", lambda *_: 1 << 30)


# ---------------------------------------------------------------- evidence

DEATHS = {"core": {"dead_tasks": 1000}, "deaths": True, "durable": True}


@bite("a dead task is kept", "evidence", **DEATHS)
def _(patch):
    patch.setattr(DeadTasks, "bury", lambda *_: None)


@bite("what attempts have left is remembered", "evidence", **DEATHS)
def _(patch):
    patch.setattr(Evidence, "add", lambda *_: None)


@bite("and after a restart, too", "evidence", **DEATHS, faults=["crash coordinator", "kill worker"])
def _(patch):
    patch.setattr(Loading, "_restore_evidence", lambda *_: None)


@bite("a dead task is kept for its time", "evidence", **DEATHS)
def _(patch):
    tick = DeadTasks.on_tick

    def hasty(self, now):
        tick(self, now + 50.0)

    patch.setattr(DeadTasks, "on_tick", hasty)
