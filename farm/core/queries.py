"""Answers to questions about the farm, as plain data."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from farm.core.batch import SETTLED, Batch
from farm.core.dead import DeadTasks
from farm.core.history import History
from farm.core.hosts import Host, Lease
from farm.core.ledger import Ledger
from farm.core.queries_dead import DeadQueries, Pending
from farm.core.queries_inside import InsideQueries
from farm.core.queries_jobs import JobQueries
from farm.core.queries_needs import cannot_run
from farm.core.queue_orders import QueueOrders, queue_rows
from farm.core.rights import find_task, had_task, why_not_admin
from farm.core.sessions import Session
from farm.core.watchdog import Watchdog
from farm.model import State, TaskId

__all__ = ["Pending", "Queries"]

LIMIT = 100
LIMIT_MAX = 10_000
Row = dict[str, Any]
ORDERS = {
    "pause_queue": "pause a queue",
    "resume_queue": "resume a queue",
    "set_queue": "set limits of a queue",
    "purge_queue": "purge a queue",
}
"""What only an admin may."""


class Queries:
    """Views of the ledger, and the few orders that change it."""

    def __init__(
        self,
        ledger: Ledger,
        dead: DeadTasks,
        history: History,
        watchdog: Watchdog,
        queues: QueueOrders,
    ) -> None:
        self._ledger = ledger
        self._history = history
        self._watchdog = watchdog
        self._dead = DeadQueries(ledger, dead)
        self._kinds: dict[str, Callable[[Row, float, Session], Any]] = {
            "status": self._status,
            "who": _who,
            "hosts": self._hosts,
            "tasks": self._tasks,
            "task": self._task,
            **self._dead.kinds,
            **{name: _of_farm(kind) for name, kind in queues.kinds.items()},
            **JobQueries(ledger).kinds,
            **InsideQueries(ledger, dead).kinds,
        }

    def answer(self, what: str, arguments: Row, now: float, who: Session) -> Any:
        """The answer to a session, or a ``Pending`` or ``Running`` one.

        Raises ``ValueError`` saying what is wrong with the question.
        """
        kind = self._kinds.get(what)
        if kind is None:
            kinds = ", ".join((*self._kinds, "explain", "history"))
            raise ValueError(f"there is no query {what!r}; there are {kinds}")
        if what in ORDERS and (why := why_not_admin(who, ORDERS[what])):
            raise ValueError(why)
        return kind(arguments, now, who)

    def _status(self, _arguments: Row, now: float, who: Session) -> Row:
        ledger = self._ledger
        states: Counter[str] = Counter()
        for batch in self._batches():
            for state in State:
                states[state.name.lower()] += batch.states.count(state)
            states["delivered"] += batch.settled
        hosts = ledger.hosts.all.values()
        return {
            "epoch": ledger.epoch,
            "version": ledger.settings.farm,
            "python": ledger.settings.python,
            "durable": ledger.durable,
            "recovering": ledger.recovering,
            "uptime_seconds": now - ledger.started_at,
            "tasks": {name: count for name, count in states.items() if count},
            "stuck": self._watchdog.stuck,
            "cannot_run": cannot_run(ledger, who),
            "hosts": sum(host.peer is not None for host in hosts),
            "slots": sum(host.slots for host in hosts if host.peer is not None),
            "lent": sum(host.waiting for host in hosts if host.peer is not None),
            "sessions": sum(session.peer is not None for session in ledger.sessions.values()),
            "limits": {
                "max_tasks": ledger.settings.max_tasks,
                "open_tasks": ledger.open_tasks,
                "max_bytes": ledger.settings.max_bytes,
                "open_bytes": ledger.open_bytes,
                "max_result_bytes": ledger.settings.max_result_bytes,
                "result_bytes": ledger.result_bytes,
                "unread_bytes": ledger.unread_bytes,
                "max_keys": ledger.settings.max_keys,
                "keys": len(ledger.keys),
                "max_key_bytes": ledger.settings.max_key_bytes,
                "key_bytes": ledger.keys.bytes,
            },
            "memory": memory_row(ledger),
            "queues": queue_rows(ledger, now),
            "by_host": {
                host.name: host.meter.numbers(now) for host in hosts if host.peer is not None
            },
            "history": {
                "rows": self._history.rows,
                "bytes": self._history.size,
                "pages": len(self._history.pages),
            },
            "journal": {
                "committed": ledger.committed,
                "behind": ledger.last_ref - ledger.committed,
            },
            "counters": dict(ledger.counters),
            "process": ledger.port.counters(),
        }

    def _hosts(self, _arguments: Row, now: float, _who: Session) -> list[Row]:
        return [self._host(host, now) for host in self._ledger.hosts.all.values()]

    def _host(self, host: Host, now: float) -> Row:
        return {
            "name": host.name,
            "instance": host.instance.hex(),
            "slots": host.slots,
            "running": sum(_running(lease) for lease in host.leases.values()),
            "waiting": max(0, host.held - host.waiting - host.slots),
            "held": host.held,
            "lent": host.waiting,
            "window": host.window,
            "connected": host.peer is not None,
            "unusable": host.unusable,
            "trouble": host.trouble,
            "draining": host.draining,
            "last_seen_seconds": max(0.0, now - host.last_seen),
            "load": host.load,
            **host.meter.numbers(now),
            "resources": {
                name: {"total": total / 1000, "used": host.used.get(name, 0) / 1000}
                for name, total in host.total.items()
            },
            "kept_for": str(host.kept_for or ""),
            **host.facts,
        }

    def _tasks(self, arguments: Row, now: float, who: Session) -> list[Row]:
        wanted = _state(arguments.get("state"))
        longer_than = float(arguments.get("longer_than") or 0.0)
        limit = max(1, min(LIMIT_MAX, int(arguments.get("limit") or LIMIT)))
        leases = self._leases()
        found: list[Row] = []
        for batch in self._batches():
            if not who.sees(batch):
                continue
            for row in self._runs(batch, 0, batch.count, wanted, leases, now):
                if (row["running_seconds"] or row["age_seconds"]) >= longer_than:
                    found.append(row)
                if len(found) >= limit:
                    return found
        return found

    def _task(self, arguments: Row, now: float, who: Session) -> Row | Pending:
        """One task, with the evidence of its attempts."""
        task = TaskId.parse(str(arguments.get("id", "")))
        if (found := find_task(self._ledger, task, who)) is not None:
            batch, lo = found
            row = next(self._runs(batch, lo, lo + 1, None, self._leases(), now))
            own = batch.diverged.get(lo)
            failure = own.failure if own else None
            outcome = batch.outcome(lo)
            row |= {
                "retries": own.retries if own else 0,
                "losses": own.losses if own else 0,
                "failure": failure.message or failure.cause if failure else "",
                "ending": outcome.ending.name.lower() if outcome else "",
            }
            return self._dead.of_dead(task, now, who, row) or self._dead.of_batch(row, batch, lo)
        if (pending := self._dead.of_dead(task, now, who)) is not None:
            return pending
        if had_task(self._ledger, task, who):
            raise ValueError(f"task {task} was delivered to its owner and is not kept")
        raise ValueError(f"the farm has no task {task}")

    def _batches(self) -> Iterator[Batch]:
        for session in self._ledger.sessions.values():
            yield from session.batches

    def _leases(self) -> dict[Batch, list[Lease]]:
        found: dict[Batch, list[Lease]] = {}
        for host in self._ledger.hosts.all.values():
            for lease in host.leases.values():
                found.setdefault(lease.batch, []).append(lease)
        return found

    def _runs(
        self,
        batch: Batch,
        lo: int,
        hi: int,
        wanted: int | None,
        leases: dict[Batch, list[Lease]],
        now: float,
    ) -> Iterator[Row]:
        """Runs of tasks in one state, a row each; leased ones by lease."""
        for state in (*State, SETTLED):
            if wanted is not None and state != wanted:
                continue
            for a, b in list(batch.runs(lo, hi, state)):
                if state != State.LEASED:
                    yield self._row(batch, a, b, state, None, now)
                    continue
                for lease in leases.get(batch, []):
                    for c, d in lease.live_runs():
                        if max(a, c) < min(b, d):
                            yield self._row(batch, max(a, c), min(b, d), state, lease, now)

    def _row(
        self, batch: Batch, lo: int, hi: int, state: int, lease: Lease | None, now: float
    ) -> Row:
        return {
            "id": str(TaskId(batch.session.id, batch.first + lo)),
            "count": hi - lo,
            "state": "delivered" if state == SETTLED else State(state).name.lower(),
            "function": self._ledger.functions.name(batch.function),
            "job": batch.job.id if batch.job else "",
            "attempt": batch.attempt(lo),
            "host": lease.host.name if lease else "",
            "age_seconds": max(0.0, now - batch.at),
            "running_seconds": max(0.0, now - lease.since) if lease else 0.0,
            "priority": batch.template.priority,
        }


def _who(_arguments: Row, _now: float, who: Session) -> Row:
    """Who asks, as the farm sees it."""
    identity = who.identity
    return {"name": identity.name, "role": str(identity.role), "scope": identity.scope}


def _of_farm(kind: Callable[[Row, float], Any]) -> Callable[[Row, float, Session], Any]:
    """A question about what belongs to nobody."""
    return lambda arguments, now, _who: kind(arguments, now)


def memory_row(ledger: Ledger) -> Row:
    """What of payloads and results is in memory, in bytes; the budget is None where it has none."""
    residence, settings = ledger.residence, ledger.settings
    return {
        "payload_bytes": residence.bytes,
        "payload_budget": residence.budget,
        "payload_bytes_pinned": residence.pinned_bytes,
        "payload_bytes_stored": residence.stored_bytes,
        "dropped": residence.dropped,
        "read_back": residence.read_back,
        "result_bytes": ledger.held_bytes,
        "sent_result_bytes": ledger.inflight_bytes,
        "result_budget": settings.resident_result_bytes,
    }


def _running(lease: Lease) -> int:
    """How many of its tasks are known to have begun, and have not ended."""
    runs = [run for lo, hi in lease.live_runs() for run in lease.started.overlap(lo, hi)]
    return sum(hi - lo for lo, hi in runs)


def _state(text: object) -> int | None:
    if not text:
        return None
    names = {state.name.lower(): int(state) for state in State} | {"delivered": SETTLED}
    aliases = {"running": int(State.LEASED), "waiting": int(State.QUEUED)}
    found = (names | aliases).get(str(text).lower())
    if found is None:
        raise ValueError(f"there is no state {text!r}; there are {', '.join(names)}")
    return found
