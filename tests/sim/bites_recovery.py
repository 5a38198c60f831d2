"""Broken rules of durability, fencing and recovery."""

from __future__ import annotations

from copy import copy

from farm.client.session_requests import Jobs
from farm.core import cancels, recovery
from farm.core.admission import Admission
from farm.core.connections import Connections
from farm.core.delivery import Deliveries
from farm.core.endings import Endings
from farm.core.following import Following
from farm.core.functions import Functions
from farm.core.hosts import Lease
from farm.core.ledger import Ledger
from farm.core.loading import Loading
from farm.core.ready import ReadyQueue
from farm.core.recovery import Recovery
from farm.core.reports import Reports
from farm.core.retention import Retention
from farm.model import State
from farm_workers.host_work import Work
from tests.sim.bites import CUTS, MUCH_MEMORY, PARTITIONS, RESTARTS, bite

SLEEP = {**PARTITIONS, "faults": ["pause coordinator"], "fault_seconds": 0.5}
CUT_OFF = {**PARTITIONS, "faults": ["isolate"], "fault_seconds": 0.5, "deaths": False}
FULL_DISK = {"faults": ["full disk"], "fault_seconds": 0.3, "submit_seconds": 0.4}
CUT_OFF_AND_RESTARTS = {
    **CUT_OFF,
    "faults": ["isolate", "isolate", "restart coordinator"],
    "durable": True,
    "fault_seconds": 0.4,
    "commit_seconds": 0.005,
    "work_seconds": 4.0,
    "nested": 0.0,  # with work that long, children of children would not end in time
    "slots": [4, 4, 4],
    "core": {
        "lease_seconds": 2.0,
        "recovery_seconds": 0.5,
        "max_tasks": 1000,
        "max_bytes": 1 << 20,
    },
}
LATE_CLAIMS = {
    **PARTITIONS,
    "faults": ["crash coordinator", "isolate"],
    "durable": True,
    "fault_seconds": 0.5,
    "steps": 4_000,
}
AWAY = {
    "faults": ["crash coordinator", "isolate", "crash host"],
    "fault_seconds": 0.5,
    "submit_seconds": 0.4,
    "work_seconds": 0.8,
    "core": MUCH_MEMORY,
}
DRAINS = {"faults": ["drain host", "crash host"], "fault_seconds": 0.3, "commit_seconds": 0.3}
RESTARTS_OFTEN = {"faults": RESTARTS, "fault_seconds": 0.5, "commit_seconds": 0.05}
PARTITIONS_AND_RESTARTS = {
    **PARTITIONS,
    "faults": ["isolate", "pause host", *RESTARTS],
    "fault_seconds": 0.7,
    "durable": True,
    "commit_seconds": 0.005,
    "work_seconds": 3.0,
    "core": {
        "recovery_seconds": 0.5,
        "lease_seconds": 4.0,
        "max_tasks": 1000,
        "session_tasks": 100,
    },
}

# ---------------------------------------------------------------- durability


@bite("a submission is acknowledged after its commit", "acknowledged before commit")
def _(patch):
    def at_once(self, session, connection, taken):
        for batch, _ in taken:
            self._accepted(session, connection, batch.first, batch.count, 0.0)

    patch.setattr(Admission, "_written", at_once)


@bite(
    "a full disk dispatches nothing uncommitted",
    "dispatched uncommitted",
    **{**FULL_DISK, "task_keys": 0},
)
def _(patch):
    patch.setattr(Ledger, "is_committed", lambda _self, _batch: True)


@bite("what a full disk held back goes on", "priority", "order", "stuck", **FULL_DISK)
def _(patch):
    patch.setattr(ReadyQueue, "resume", lambda _self: None)


@bite("an outcome is published after its commit", "published before commit")
def _(patch):
    after_commit = Ledger.after_commit

    def at_once(self, action, now):
        if getattr(getattr(action, "func", None), "__name__", "") == "_publish":
            action(now)
        else:
            after_commit(self, action, now)

    patch.setattr(Ledger, "after_commit", at_once)


@bite("a seal is answered after its commit", "acknowledged before commit")
def _(patch):
    seal = Following._seal

    def at_once(self, session, message, now):
        after_commit, self._ledger.after_commit = self._ledger.after_commit, _do
        try:
            seal(self, session, message, now)
        finally:
            self._ledger.after_commit = after_commit

    patch.setattr(Following, "_seal", at_once)


def _do(action, now):
    action(now)


@bite("a seal is said until it is answered", "stuck", faults=[*CUTS, *RESTARTS])
def _(patch):
    patch.setattr(Jobs, "said_nothing", lambda _self: None)


@bite("a cancel is answered after its commit", "acknowledged before commit")
def _(patch):
    def flush(self, now):
        decided, self.decided = self.decided, []
        for request in decided:
            self._send(request, now)

    patch.setattr(cancels.Cancels, "flush", flush)


@bite("a report is noted after its commit", "noted before commit")
def _(patch):
    after_commit = Ledger.after_commit

    def at_once(self, action, now):
        if getattr(getattr(action, "func", None), "__name__", "") == "_note":
            action(now)
        else:
            after_commit(self, action, now)

    patch.setattr(Ledger, "after_commit", at_once)


@bite("an outcome's record outlives the row that names its tasks", "pruned early")
def _(patch):
    on_taken = Deliveries.on_taken

    def prune_at_once(self, session, number, now):
        refs = {
            delivery.outcome.ref
            for n, _, deliveries in session.inflight
            for delivery in deliveries
            if n <= number and delivery.outcome.ref
        }
        on_taken(self, session, number, now)
        if refs:
            self._ledger.port.prune(sorted(refs))

    patch.setattr(Deliveries, "on_taken", prune_at_once)


@bite("a row is pruned when every outcome of it was taken", "pruned early", "left behind")
def _(patch):
    def of_published_ones(_self, batch, _now):
        return not batch.open and batch.finished_at is not None

    patch.setattr(Retention, "_is_over", of_published_ones)


@bite(
    "a session's mark remembers every id ever accepted",
    *("id forgotten", "pruned early", "rejected"),
)
def _(patch):
    patch.setattr(Ledger, "mark", lambda _self, _session, _now: [])


@bite("outcomes not yet taken are delivered after a restart", "stuck", faults=RESTARTS)
def _(patch):
    patch.setattr(Deliveries, "restore", lambda _self: None)


@bite("a reader's taking consumes nothing", "pruned early", "lost", "stuck", "invariants")
def _(patch):
    on_taken = Deliveries.on_taken

    def taken_by_anybody(self, session, number, now):
        for n, _, deliveries in session.inflight:
            for delivery in deliveries:
                batch = delivery.outcome.batch
                if n <= number and batch is not None and not batch.gone:
                    lo = delivery.first - batch.first
                    batch.settle(lo, lo + delivery.count)
                    if batch.row is not None:
                        self._ledger.rows.touched[batch.row] = None
        on_taken(self, session, number, now)

    patch.setattr(Deliveries, "on_taken", taken_by_anybody)


# ---------------------------------------------------------------- fencing and recovery


@bite(
    "a late duplicate of a submission is known",
    *("ran after its outcome", "two outcomes", "invariants", "token"),
)
def _(patch):
    patch.setattr(Admission, "_fresh", lambda _self, _session, group, _known: [group])


@bite(
    "the end of an attempt is committed before the next",
    *("dispatched before commit", "noted before commit"),
)
def _(patch):
    def forget(self, _now):
        self._ended.clear()

    patch.setattr(Endings, "_flush_ended", forget)


@bite(
    "a report under a stale token is dropped",
    "stale token",
    "host window",
    stops=False,
    steps=4_000,
    **PARTITIONS,
)
def _(patch):
    ever: dict[tuple[int, int], Lease] = {}
    init, held = Lease.__init__, Reports._held

    def remember(self, key, *arguments):
        init(self, key, *arguments)
        ever[key] = self

    def accept(self, host, key, first, count):
        if key in host.leases or key not in ever:
            return held(self, host, key, first, count)
        batch = ever[key].batch
        return [
            (lease, lo, hi)
            for other in self._ledger.hosts.all.values()
            for lease in other.leases.values()
            if lease.batch is batch
            for lo, hi in lease.live_in(first - batch.first, first - batch.first + count)
        ]

    def end(self, host, ended, now):
        for lease, lo, hi in self._held(host, (ended.epoch, ended.lease), ended.first, ended.count):
            if not ended.packed or hi - lo == ended.count:
                self._cancels.resolve(lease.batch, lo, hi, cancelled=False)
                self._end(lease.batch, lo, hi, ended, now)
                self._let_go(lease, hi - lo)

    patch.setattr(Lease, "__init__", remember)
    patch.setattr(Reports, "_held", accept)
    patch.setattr(Reports, "_on_ended", end)


@bite(
    "a claim that was fenced off is not adopted",
    "stale token",
    "noted before commit",
    tasks=20,
    steps=4_000,
    nested=0.0,
    **PARTITIONS_AND_RESTARTS,
)
def _(patch):
    adoptable = recovery._adoptable

    def of_any_epoch(batch, claim, run):
        claim = copy(claim)
        claim.epoch = 1 << 62
        return adoptable(batch, claim, run)

    patch.setattr(recovery, "_adoptable", of_any_epoch)


@bite("a claim of an ended attempt is not adopted", "invariants", "stale token", **LATE_CLAIMS)
def _(patch):
    def of_any_attempt(batch, _claim, run):
        states = (State.QUEUED, State.SCHEDULED)
        return [one for state in states for one in batch.runs(*run, state)]

    patch.setattr(recovery, "_adoptable", of_any_attempt)


@bite(
    "recovery fences what is not adopted",
    "dispatched before recovery",
    "cancelled task ran",
    "noted before commit",
    faults=[*RESTARTS, "isolate", "isolate"],
    fault_seconds=0.5,
    work_seconds=0.8,
)
def _(patch):
    persist = Ledger.persist

    def without(self, record):
        if type(record).__name__ == "Recovered":
            return self.last_ref
        return persist(self, record)

    patch.setattr(Ledger, "persist", without)


@bite(
    "the backlog waits for recovery",
    "dispatched before recovery",
    "cancelled task ran",
    stops=False,
    faults=RESTARTS,
)
def _(patch):
    begin = Recovery.begin

    def at_once(self, hosts, owners, now):
        begin(self, hosts, owners, now)
        backlog, self._backlog = self._backlog, []
        self._release(backlog, {}, now)

    patch.setattr(Recovery, "begin", at_once)


@bite("what a host does not claim goes back to wait", "stuck", faults=CUTS)
def _(patch):
    patch.setattr(Recovery, "_return_unclaimed", lambda *_: None)


@bite(
    "the attempts of a task are loaded",
    "token",
    "stale token",
    "two outcomes",
    "noted before commit",
    "cancelled task ran",
)
def _(patch):
    patch.setattr(Loading, "_restore_attempt", lambda *_: None)


@bite("a coordinator that slept ends no leases for it", "lease cut short", steps=4_000, **SLEEP)
def _(patch):
    patch.setattr(Connections, "extend", lambda _self, _gap: None)


@bite("a loss is given back when its host was only cut off", "losses", **CUT_OFF)
def _(patch):
    patch.setattr(Reports, "restore_losses", lambda _self, _host, _now: None)


@bite("a loss is given back after a restart, too", "losses", **CUT_OFF_AND_RESTARTS)
def _(patch):
    patch.setattr(Loading, "_restore_charges", lambda _self, _now: None)


@bite("a cancel waits until it is known what began", "cancelled task ran", **AWAY)
def _(patch):
    on_cancel = cancels.Cancels.on_cancel

    def too_early(self, peer, message, now):
        self._ledger.holds_back = False
        on_cancel(self, peer, message, now)

    patch.setattr(cancels.Cancels, "on_cancel", too_early)


@bite("what a host that stays away may have begun", "cancelled task ran", **AWAY)
def _(patch):
    fence = recovery.fence
    patch.setattr(recovery, "fence", lambda *arguments, tried: fence(*arguments, tried=False))


@bite("what another coordinator may have let begin", "cancelled task ran", **AWAY)
def _(patch):
    admit = Admission._admit

    def anew(self, session, group, now):
        group.tried = False
        return admit(self, session, group, now)

    patch.setattr(Admission, "_admit", anew)


@bite("what was not sent to a lost host never began there", "losses", **DRAINS)
def _(patch):
    patch.setattr(Lease, "sent", property(lambda _: True, lambda *_: None), raising=False)


@bite(
    "what a host that came back never had is not buried",
    "losses",
    **{**RESTARTS_OFTEN, "commit_seconds": 0.2},
)
def _(patch):
    bury = Recovery._bury_begun

    def whoever_came_back(self, batch, lo, hi):
        self._heard.clear()
        bury(self, batch, lo, hi)

    patch.setattr(Recovery, "_bury_begun", whoever_came_back)


@bite("the end of a stale attempt is noted all the same", "stuck", **PARTITIONS)
def _(patch):
    note, held = Reports._note, Reports._held

    def remember(self, host, key, first, count):
        found = held(self, host, key, first, count)
        self.nothing = not found
        return found

    def only_if_it_counted(self, host, connection, number, size, now):
        if not getattr(self, "nothing", False):
            note(self, host, connection, number, size, now)

    patch.setattr(Reports, "_held", remember)
    patch.setattr(Reports, "_note", only_if_it_counted)


@bite("functions are stored with the first task that uses them", "stuck", faults=RESTARTS)
def _(patch):
    acquire = Functions.acquire
    patch.setattr(
        Functions, "acquire", lambda self, digest, durable: acquire(self, digest, durable=False)
    )


@bite("a fenced task is ended on its host", "fenced task ran", "host window", **PARTITIONS)
def _(patch):
    patch.setattr(Work, "drop", lambda *_: None)
