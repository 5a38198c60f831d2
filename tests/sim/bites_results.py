"""Broken rules of what is kept, of restored stores and of clocks."""

from __future__ import annotations

from farm.core.admission import Admission
from farm.core.dead import DeadTasks
from farm.core.history import History
from farm.core.loading import Loading
from farm.core.retention import Retention
from tests.sim.bites import bite

SMALL_ROOM = {"core": {"max_result_bytes": 150}, "durable": True}
CLOCKS = {
    "faults": ["set clock", "crash coordinator"],
    "fault_seconds": 0.5,
    "durable": True,
    "commit_seconds": 0.005,
}
RESTORES = {
    "faults": ["restore store"],
    "fault_seconds": 0.5,
    "durable": True,
    "commit_seconds": 0.005,
    "work_seconds": 0.8,
    "core": {"max_tasks": 1000, "session_tasks": 100},
}


@bite("while unread results fill the room nothing is admitted", "unread results", **SMALL_ROOM)
def _(patch):
    patch.setattr(Admission, "_shortage", lambda self: self._ledger.short)


@bite("results that nobody has taken are not dropped", "dropped unread", "invariants", **SMALL_ROOM)
def _(patch):
    make_room = Retention._make_room

    def unread_too(self):
        ledger = self._ledger
        for session in ledger.sessions.values():
            for batch in session.batches:
                if batch.durable and not batch.open and batch.finished_at is not None:
                    ledger.settle(batch, 0, batch.count)
                    ledger.kept.append(batch)
        make_room(self)

    patch.setattr(Retention, "_make_room", unread_too)


@bite("results are dropped only for room", "dropped", durable=True)
def _(patch):
    on_tick = Retention.on_tick

    def whenever(self, now):
        bound = self._ledger.settings
        self._ledger.settings = _Tight(bound)
        self._make_room()
        self._ledger.settings = bound
        on_tick(self, now)

    patch.setattr(Retention, "on_tick", whenever)


class _Tight:
    """Settings with no room for results."""

    max_result_bytes = 0

    def __init__(self, settings):
        self._settings = settings

    def __getattr__(self, name):
        return getattr(self._settings, name)


@bite("history goes when its time is over", "left behind")
def _(patch):
    patch.setattr(History, "_keep_within_bounds", lambda _self, _now: [])


@bite(
    "a wall clock that is set moves nothing",
    "stuck",
    "too early",
    "too late",
    "pruned early",
    stops=False,
    **CLOCKS,
)
def _(patch):
    read = Loading._offset

    def anew(self, offset, boot):
        read(self, offset, boot)
        return offset

    patch.setattr(Loading, "_offset", anew)


@bite(
    "what ran when a copy was made counts for nothing in the restored store",
    "stale token",
    "stale",
    "ran twice",
    "dispatched before recovery",
    "left behind",
    **RESTORES,
)
def _(patch):
    patch.setattr(Loading, "_restore_restored", lambda *_: None)


@bite(
    "arguments that the dead have in common go with the last of them",
    "evidence",
    faults=["crash host"],
    fault_seconds=0.5,
    durable=True,
    work_seconds=0.8,
)
def _(patch):
    let_go = DeadTasks._let_go

    def at_once(self, called):
        self._in_common[called].needed = 1
        let_go(self, called)

    patch.setattr(DeadTasks, "_let_go", at_once)
