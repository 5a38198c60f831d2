"""Broken rules of queues: their bounds, what may run, at which rate, and whose turn it is."""

from __future__ import annotations

from farm.client.session_outbox import Outbox
from farm.core.bucket import TokenBucket
from farm.core.lanes import Lane, Line
from farm.core.queue import Queue
from farm.core.queue_orders import QueueOrders
from farm.core.queues import Queues
from farm.core.ready import ReadyQueue
from farm.core.recovery import Recovery
from farm.model import State
from tests.sim.bites import RESTARTS, bite

CROWD = {
    "hosts": 1,
    "slots": [2],
    "clients": 3,
    "work_seconds": 0.2,
    "submit_seconds": 0.2,
    "tasks": 40,
    "steps": 4_000,
    "deaths": False,
    "faults": [],
    "holes": 0.0,
    "blobs": 0.0,
    "keys": 2,
    "core": {
        "max_tasks": 1000,
        "max_bytes": 1 << 20,
        "max_result_bytes": 1 << 30,
        "session_tasks": 100,
        "short_seconds": 0.0001,
    },
}
UNEQUAL = {**CROWD, "queues": {"mail": {"weight": 4.0}, "bulk": {"weight": 0.25}}}
LIMITED = {**CROWD, "queues": {"default": {"max_running": 1}, "mail": {"max_running_per_key": 1}}}
BOUNDED = {**CROWD, "queues": {"default": {"max_tasks": 3, "max_bytes": 1500}}}
BULKY = {**CROWD, "queues": {"default": {"max_bytes": 1500}}}
SLOW = {**CROWD, "slots": [4], "work_seconds": 0.02, "queues": {"default": {"rate": 5.0}}}
SLOW_AGAIN = {**SLOW, "faults": RESTARTS, "fault_seconds": 0.5, "durable": True}
AGEING = {**CROWD, "queues": {"default": {"ageing_seconds": 0.05}}}
RESTARTED = {**LIMITED, "slots": [4], "faults": RESTARTS, "fault_seconds": 0.5, "durable": True}
RECOVERING = {
    **RESTARTED,
    "hosts": 3,
    "slots": [2, 2, 2],
    "work_seconds": 0.8,
    "faults": [*RESTARTS, "isolate"],
    "core": {**CROWD["core"], "recovery_seconds": 5.0, "lease_seconds": 4.0},
}
ORDERED = {**CROWD, "orders": 0.3, "queues": {"default": {}, "mail": {}}}


@bite("queues are served by weight", "starvation", **UNEQUAL)
def _(patch):
    weigh = Queues.weigh

    def alike(self):
        weigh(self)
        for queue in self.all.values():
            queue.quantum = self._turn_seconds

    patch.setattr(Queues, "weigh", alike)


@bite("sessions of a queue take turns", "starvation", **CROWD)
def _(patch):
    patch.setattr(Lane, "line", lambda self, _turn: self.ring[0])


@bite("what a session submits is served in the order of its arrival", "order", **CROWD)
def _(patch):
    add = Line.add
    patch.setattr(Line, "add", lambda self, entry, *, front: add(self, entry, front=not front))


@bite("what waits long rises", "ageing", **AGEING)
def _(patch):
    init = ReadyQueue.__init__
    patch.setattr(ReadyQueue, "__init__", lambda self, turn, _age: init(self, turn, 1e9))


@bite("a queue takes no task too many", "queue bound", **BOUNDED)
def _(patch):
    room = Queue.room
    patch.setattr(Queue, "room", lambda self: (room(self)[0] + 1, room(self)[1]))


@bite("a queue takes no byte too many", "queue bound", **BULKY)
def _(patch):
    room = Queue.room
    patch.setattr(Queue, "room", lambda self: (room(self)[0], room(self)[1] + 100))


@bite("no more of a queue run than may", "queue running", **LIMITED)
def _(patch):
    patch.setattr(Queue, "allowed", lambda _self, _batch, _now: 1 << 62)


@bite("no more of a key run than may", "queue running", **LIMITED)
def _(patch):
    def head(self, now, *, holds_back):
        return None if self.closed(now, holds_back=holds_back) else self.ready.head()

    patch.setattr(Queue, "head", head)
    patch.setattr(Queue, "allowed", lambda _self, _batch, _now: 1)


@bite("what is adopted counts as running", "queue running", "invariants", **RESTARTED)
def _(patch):
    adopt = Recovery._adopt

    def uncounted(self, host, claim, batch, run, now):
        lease = adopt(self, host, claim, batch, run, now)
        self._ledger.queues.let_go(batch, lease.units)
        return lease

    patch.setattr(Recovery, "_adopt", uncounted)


@bite("a limited queue waits until it is known what runs", "queue running", **RECOVERING)
def _(patch):
    closed = Queue.closed
    patch.setattr(Queue, "closed", lambda self, now, **_: closed(self, now, holds_back=False))


@bite("a rate is kept", "queue rate", **SLOW)
def _(patch):
    patch.setattr(TokenBucket, "room", lambda _self, _now: 1000)


@bite("a rate is kept over a restart", "queue rate", **SLOW_AGAIN)
def _(patch):
    begin = Queue.begin
    patch.setattr(Queue, "begin", lambda self, now, **_: begin(self, now, fresh=True))


@bite("a client sends to a full queue what it may", "queue credit", **BOUNDED)
def _(patch):
    credit = Outbox.credit

    def more(self, message):
        credit(self, message)
        for queue in self._may:
            self._may[queue] += 1

    patch.setattr(Outbox, "credit", more)


@bite("a paused queue gives nothing", "paused queue", **ORDERED)
def _(patch):
    fit = Queue._fit

    def plain(self, now, tokens):
        fit(self, now, tokens)
        self.plain = not self.limits_running

    patch.setattr(Queue, "_fit", plain)


@bite(
    "a pause outlives the coordinator",
    "paused queue",
    **{**ORDERED, "faults": RESTARTS, "fault_seconds": 0.5, "durable": True},
)
def _(patch):
    restore = QueueOrders.restore

    def forget(self, ref, record):
        restore(self, ref, record)
        self._ledger.queues.all[record.name].set({}, paused=False, now=0.0)

    patch.setattr(QueueOrders, "restore", forget)


@bite("a purge ends all that waits", "purge", **ORDERED)
def _(patch):
    def queued(self, queue, now):
        count = 0
        for session in self._ledger.sessions.values():
            for batch in session.batches:
                for lo, hi in list(batch.runs(0, batch.count, State.QUEUED)):
                    if batch.queue is queue:
                        self._endings.cancel(batch, lo, hi)
                        count += hi - lo
        self._endings.flush(now)
        self._ledger.counters["purged"] += count
        return {"name": queue.name, "purged": count}

    patch.setattr(QueueOrders, "_cancel_all", queued)
