"""Broken rules of bounds, order and memory: of hosts, clients, cancels."""

from __future__ import annotations

from farm.client.session_outbox import Outbox
from farm.client.session_requests import Cancels as SessionCancels
from farm.core import cancels
from farm.core.batch import Batch
from farm.core.delivery import Deliveries
from farm.core.endings import Endings
from farm.core.following import Following
from farm.core.hosts import Host
from farm.core.ledger import Ledger
from farm.core.ready import ReadyQueue
from farm.core.reports import Reports
from farm.core.session_credit import SessionCredit
from farm.core.states import Event
from farm.model import Ending, State
from farm_workers.host_reports import Reports as HostReports
from farm_workers.host_roster import Roster
from farm_workers.host_slots import SlotState
from tests.sim.bites import CUTS, bite

CUT_OFF_AT_ONCE = {
    "hosts": 1,
    "slots": [4],
    "faults": ["isolate"],
    "fault_seconds": 0.4,
    "deaths": False,
    "delay": 0.2,
    "work_seconds": 0.4,
    "submit_seconds": 0.1,
    "tasks": 60,
    "durable": True,
    "blobs": 0.0,
    "nested": 0.0,
    "steps": 4_000,
    "core": {
        "lease_seconds": 2.0,
        "max_tasks": 1000,
        "max_bytes": 1 << 20,
        "max_result_bytes": 1 << 30,
        "session_tasks": 100,
    },
}
WEAK_HOSTS = {"faults": ["weaken host"], "fault_seconds": 0.5, "initializer": True}
SHORT_WORK = {"hosts": 1, "slots": [1], "work_seconds": 0.02, "tasks": 60, "faults": []}

ONE_BY_ONE = {
    **SHORT_WORK,
    "clients": 3,
    "work_seconds": 0.05,
    "tasks": 40,
    "steps": 4_000,
    "nested": 0.0,
    "queues": {},
    "orders": 0.0,
    "core": {"max_tasks": 1000, "max_bytes": 1 << 20, "session_tasks": 100},
}
KILLED_WORKERS = {
    "faults": ["kill worker"],
    "fault_seconds": 0.3,
    "work_seconds": 0.2,
    "submit_seconds": 0.2,
    "steps": 4_000,
    "nested": 0.0,
}
CANCELLING = {"stops": False, "submit_seconds": 0.2, "work_seconds": 0.5, "nested": 0.0}

# ---------------------------------------------------------------- bounds and order


@bite("admission never overshoots", "admission", "invariants")
def _(patch):
    patch.setattr(Ledger, "room", lambda self: (self.settings.max_tasks, self.settings.max_bytes))


@bite("what waits is not said to be started", "started", faults=[])
def _(patch):
    tell = Reports._tell_started
    patch.setattr(
        Reports, "_tell_started", lambda self, batch, _lo, _hi: tell(self, batch, 0, batch.count)
    )


@bite("credit is given once", "credit given")
def _(patch):
    grant = SessionCredit.grant

    def twice(self, session, *among):
        grant(self, session, *among)
        if session.peer is not None:
            session.granted_tasks += self._ledger.settings.session_tasks
            session.refused = True
            grant(self, session, *among)

    patch.setattr(SessionCredit, "grant", twice)


@bite("one client has no more than one may", "invariants", core={"session_max_tasks": 1})
def _(patch):
    patch.setattr(SessionCredit, "room_of", lambda _self, _session: None)


@bite("a client sends no more than its credit", "credit")
def _(patch):
    def everything(_self, group, _entries, _size, *, alone):
        return group.count if alone else 0

    patch.setattr(Outbox, "_fitting", everything)


@bite("results keep within the client's window", "results window")
def _(patch):
    gather = Deliveries._gather
    patch.setattr(Deliveries, "_gather", lambda self, session, _: gather(self, session, 1 << 30))


@bite("a reader gets what it asked for", "not asked for")
def _(patch):
    watch = Following._watch
    patch.setattr(
        Following, "_watch", lambda self, one, batch, *_: watch(self, one, batch, 0, batch.count)
    )


@bite("a host is given no more than its window", "host window", **SHORT_WORK)
def _(patch):
    room = Host.room.fget
    patch.setattr(Host, "room", property(lambda self: room(self) and room(self) + 50))


@bite("higher priorities go first", "priority", **ONE_BY_ONE)
def _(patch):
    push = ReadyQueue.push

    def alike(self, batch, lo, hi, *, front=False):
        template = batch.template
        batch.template = type(template)()
        push(self, batch, lo, hi, front=front)
        batch.template = template

    patch.setattr(ReadyQueue, "push", alike)


# ---------------------------------------------------------------- hosts, clients, cancels


@bite("a host keeps outcomes until they are noted", "host forgot", faults=CUTS)
def _(patch):
    connected = HostReports.connected

    def forget(self):
        self._kept.clear()
        connected(self)

    patch.setattr(HostReports, "connected", forget)


@bite("a worker that was ready did start", "broken host", **WEAK_HOSTS)
def _(patch):
    replace = Roster.replace

    def it_did_not(self, slot, death, now):
        if slot.state is SlotState.READY and not slot.worked and not slot.pipe:
            slot.state = SlotState.STARTING
        replace(self, slot, death, now)

    patch.setattr(Roster, "replace", it_did_not)
    patch.setattr(Roster, "ready", lambda self, n: setattr(self.slots[n], "state", SlotState.READY))


@bite("a client keeps submissions until they are accepted", "stuck", "lost", faults=CUTS)
def _(patch):
    patch.setattr(Outbox, "disconnected", lambda self: self.unacked.take_all() and None)


@bite("a client's floor is below all that it may send again", "floor", faults=CUTS)
def _(patch):
    patch.setattr(Outbox, "floor", property(lambda self: self._next))


@bite("a client asks for cancels again after a reconnect", "stuck", faults=CUTS)
def _(patch):
    patch.setattr(SessionCancels, "said_nothing", lambda _self: None)


@bite("a task that has begun is not cancelled", "cancelled task ran", "host window", **CANCELLING)
def _(patch):
    def at_once(self, request, batch, lo, hi, _recalls):
        for host in self._ledger.hosts.all.values():
            for lease in list(host.leases.values()):
                for a, b in lease.live_in(lo, hi) if lease.batch is batch else ():
                    self._endings.finish(batch, a, b, Event.CANCEL, Ending.CANCELLED)
                    request.add(batch, a, b, stopped=False)
                    before = lease.units
                    lease.left -= b - a
                    host.held -= before - lease.units
                    self._ledger.queues.let_go(batch, before - lease.units)
                    if not lease.left:
                        host.end_lease(lease)

    patch.setattr(cancels.Cancels, "_recall", at_once)


@bite("what has begun before is stopped, not cancelled", "cancelled task ran")
def _(patch):
    patch.setattr(Batch, "tried_runs", lambda _self, lo, hi: [(lo, hi, False)])


@bite(
    "what a lost host may have begun is stopped, not cancelled",
    "cancelled task ran",
    stops=False,
    **CUT_OFF_AT_ONCE,
)
def _(patch):
    give_back = Endings.give_back

    def unbegun(self, batch, lo, hi, **_):
        give_back(self, batch, lo, hi)

    patch.setattr(Endings, "give_back", unbegun)


@bite("a failed task is tried again as often as it may", "retries")
def _(patch):
    def give_up(self, batch, index, ended, payloads, _now):
        size = sum(map(len, payloads))
        hi = index + 1
        self._endings.finish(
            batch, index, hi, Event.FAIL, ended.ending, payloads=payloads, size=size
        )

    patch.setattr(Reports, "_fail", give_up)


@bite("only the item that died spends a loss", "losses", "invariants", **KILLED_WORKERS)
def _(patch):
    lose = Endings.lose

    def all_of_it(self, batch, lo, hi, failure, *instance):
        for index in range(batch.count):
            if batch.states[index] == State.QUEUED:
                batch.diverge(index).losses += 1
        lose(self, batch, lo, hi, failure, *instance)

    patch.setattr(Endings, "lose", all_of_it)


@bite("a record does not change once it is handed over", "journal", steps=4_000)
def _(patch):
    init = Batch.__init__

    def share(self, session, group, *rest):
        init(self, session, group, *rest)
        self.payloads = group.payloads

    patch.setattr(Batch, "__init__", share)
