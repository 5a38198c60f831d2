"""What is asked of queues, and what they are told: pause, resume, set, purge.

An order is answered once it is durable, and holds over restarts until it is taken back.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from farm.core.endings import Endings
from farm.core.ledger import Ledger
from farm.core.policy import nearest_queue
from farm.core.queue import Queue
from farm.model import State
from farm.protocol.records import QueueChanged

__all__ = ["Order", "QueueOrders", "queue_rows"]

Row = dict[str, Any]


class Order(NamedTuple):
    """Something to be done; ``act`` does it, and its result is answered when that is durable.

    ``knowing``: not before it is known what runs. ``act`` raises ``ValueError`` with what is to be
    answered instead.
    """

    act: Callable[[float], Row]
    knowing: bool = False


class QueueOrders:
    """``kinds`` has the questions and orders that are answered here."""

    def __init__(self, ledger: Ledger, endings: Endings) -> None:
        self._ledger = ledger
        self._endings = endings
        self.kinds: dict[str, Callable[[Row, float], Any]] = {
            "queues": self._list,
            "pause_queue": lambda arguments, _now: self._pause(arguments, paused=True),
            "resume_queue": lambda arguments, _now: self._pause(arguments, paused=False),
            "set_queue": self._set,
            "purge_queue": self._purge,
        }

    def _list(self, _arguments: Row, now: float) -> list[Row]:
        return queue_rows(self._ledger, now)

    def _find(self, arguments: Row) -> Queue:
        name = str(arguments.get("name", ""))
        queue = self._ledger.queues.all.get(name)
        if queue is None:
            raise ValueError(nearest_queue(name, self._ledger.queues.all))
        return queue

    # ------------------------------------------------------------ what is changed

    def _pause(self, arguments: Row, *, paused: bool) -> Order:
        """Place nothing more of a queue, or again; what runs runs on."""
        queue = self._find(arguments)
        return Order(lambda now: self._change(queue, queue.changes, paused=paused, now=now))

    def _set(self, arguments: Row, _now: float) -> Order:
        """Set values of a queue's policy: ``changes``; ``reset``: the others as configured."""
        queue = self._find(arguments)
        changes, reset = arguments.get("changes") or {}, bool(arguments.get("reset"))
        if not isinstance(changes, dict):
            raise TypeError(f"changes are {changes!r}; expected values by name")
        all_of_it = {} if reset else queue.changes

        def act(now: float) -> Row:
            return self._change(queue, all_of_it | changes, paused=queue.paused, now=now)

        queue.configured.changed(all_of_it | changes)  # raises here, before anything is done
        return Order(act)

    def _change(self, queue: Queue, changes: Row, *, paused: bool, now: float) -> Row:
        ledger, before = self._ledger, queue.ref
        queue.set(changes, paused=paused, now=now)
        ledger.queues.weigh()
        ledger.queues.wake(queue)
        queue.ref = 0
        if changes or paused or before:  # or nobody could say when the end of it is durable
            queue.ref = ledger.persist(QueueChanged(queue.name, paused, changes))
        if before:
            ledger.port.prune([before])
        if queue.ref and not (changes or paused):
            ledger.port.prune([queue.ref])
            queue.ref = 0
        return {"name": queue.name, "paused": paused, "set": changes}

    # ------------------------------------------------------------ purging

    def _purge(self, arguments: Row, _now: float) -> Order:
        """End what waits in a queue as cancelled; what runs runs on."""
        queue = self._find(arguments)
        return Order(lambda now: self._cancel_all(queue, now), knowing=True)

    def _cancel_all(self, queue: Queue, now: float) -> Row:
        count = 0
        for session in self._ledger.sessions.values():
            for batch in session.batches:
                if batch.queue is not queue or not batch.open or batch.same is not None:
                    continue  # a duplicate waits in no queue
                for state in (State.QUEUED, State.SCHEDULED):
                    for lo, hi in list(batch.runs(0, batch.count, state)):
                        self._endings.cancel(batch, lo, hi)
                        count += hi - lo
        self._endings.flush(now)
        self._ledger.counters["purged"] += count
        return {"name": queue.name, "purged": count}

    # ------------------------------------------------------------ after a restart

    def restore(self, ref: int, record: QueueChanged) -> None:
        """A stored record, when all tasks are known."""
        ledger = self._ledger
        queue = ledger.queues.all.get(record.name)
        if queue is None:  # it is configured no more, and has no tasks
            ledger.port.prune([ref])
            return
        if queue.ref:  # the deletion of the older one was not committed
            ledger.port.prune([queue.ref])
        queue.ref = ref
        try:
            queue.set(record.changes, paused=record.paused, now=0.0)
        except ValueError as error:
            ledger.port.warn(f"what was set of queue {queue.name} cannot be any more: {error}")
            queue.set({}, paused=record.paused, now=0.0)


def queue_rows(ledger: Ledger, now: float) -> list[Row]:
    """All queues: their policies, what waits and runs, and at which rates."""
    waiting, delayed, leased = (
        dict.fromkeys(ledger.queues.all, 0),
        dict.fromkeys(ledger.queues.all, 0),
        dict.fromkeys(ledger.queues.all, 0),
    )
    for session in ledger.sessions.values():
        for batch in session.batches:
            if batch.open:
                name = batch.queue.name
                waiting[name] += batch.states.count(State.QUEUED)
                delayed[name] += batch.states.count(State.SCHEDULED)
                leased[name] += batch.states.count(State.LEASED)
    rows: list[Row] = []
    slots = sum(host.slots for host in ledger.hosts.all.values() if host.peer is not None)
    for name, queue in ledger.queues.all.items():
        policy = {key: getattr(queue.policy, key) for key in queue.policy.__struct_fields__}
        rows.append(
            {
                "name": name,
                "waiting": waiting[name],
                "delayed": delayed[name],
                "running": leased[name],
                "open_tasks": queue.open_tasks,
                "open_bytes": queue.open_bytes,
                "paused": queue.paused,
                "configured": queue.known,
                "held_by": queue.closed(now, holds_back=ledger.holds_back),
                "refused_clients": len(queue.refused),
                "policy": policy,
                "set": queue.changes,
                "arrived": queue.meter.arrived,
                "placed": queue.meter.placed,
                "ended": queue.meter.ended,
                **queue.meter.numbers(now, min(slots, queue.policy.max_running or slots)),
            }
        )
    return rows
