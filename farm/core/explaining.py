"""Why a task is where it is: what it waits for, where it runs, how it ended."""

from datetime import UTC, datetime
from itertools import islice
from typing import Any

from farm.core.batch import SETTLED, Batch, Outcome
from farm.core.explaining_queues import explain_needs, explain_queue, lacking
from farm.core.hosts import Host, Lease
from farm.core.ledger import Ledger
from farm.core.needs import Needs
from farm.core.needs_above import why_kept
from farm.core.rights import find_task, had_task
from farm.core.sessions import Session
from farm.model import Ending, State, TaskId
from farm.protocol.parts import Failure
from farm.protocol.records import Memory

__all__ = ["Explaining", "state_of"]

HOSTS_MAX = 20
ENTRIES_MAX = 10_000
"""How many entries of the queue are looked at to say how many tasks go first."""
Row = dict[str, Any]

_STATES = {
    Ending.OK: State.SUCCEEDED,
    Ending.LOST: State.DEAD,
    Ending.CANCELLED: State.CANCELLED,
    Ending.EXPIRED: State.EXPIRED,
}


def state_of(ending: Ending) -> str:
    """The final state that an ending puts a task in, by name."""
    return _STATES.get(ending, State.FAILED).name.lower()


_ENDED = {
    Ending.OK: "it succeeded",
    Ending.LOST: "it is dead, for its workers died",
    Ending.CANCELLED: "it was cancelled",
    Ending.EXPIRED: "it expired before it was started",
}


class Explaining:
    """Reads the ledger; what it looks at is bounded."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def explain(self, task: TaskId, now: float, who: Session) -> Row | None:
        """What is known of a task, with ``why`` in sentences; None if the ledger has it no more."""
        found = find_task(self._ledger, task, who)
        if found is None:
            return None
        batch, index = found
        state = batch.states[index]
        template, own = batch.template, batch.diverged.get(index)
        row: Row = {
            "id": str(task),
            "state": "delivered" if state == SETTLED else State(state).name.lower(),
            "function": self._ledger.functions.name(batch.function),
            "job": batch.job.id if batch.job else "",
            "job_name": batch.job.name if batch.job else "",
            "age_seconds": max(0.0, now - batch.at),
            "attempt": batch.attempt(index),
            "retries": [own.retries if own else 0, template.retries],
            "losses": [own.losses if own else 0, template.max_losses],
            "priority": template.priority,
            "queue": batch.queue.name,
            "needs": str(batch.needs or ""),
            "durable": batch.durable,
            "host": "",
            "hosts": [],
            "why": [],
        }
        if batch.keys and self._ledger.keys.held_by(batch, index):
            row["key"] = batch.keys[index].text
        match state:
            case State.SCHEDULED:
                self._scheduled(row, batch, index, now)
            case State.QUEUED:
                self._queued(row, batch, index, now)
            case State.LEASED:
                self._leased(row, batch, index, now)
            case _:
                self._ended(row, batch, index, now)
        return row

    # ------------------------------------------------------------ waiting

    def _scheduled(self, row: Row, batch: Batch, index: int, now: float) -> None:
        if batch.same is not None:
            first = TaskId(batch.same[0], batch.same[1] + index)
            row["same_as"] = str(first)
            row["why"].append(f"it was submitted with the key of {first}, and ends as that does")
            return
        own, template = batch.diverged.get(index), batch.template
        due = batch.starts_at if own is None or own.due is None else own.due
        row["due_seconds"] = max(0.0, due - now)
        if own is not None and own.retries:
            row["why"].append(
                f"its attempt {own.attempt - 1} failed ({_text(own.failure)}); it is tried again "
                f"in {due - now:.1f} s, as retry {own.retries} of {batch.template.retries}"
            )
        elif template.eta is not None:
            when = datetime.fromtimestamp(template.eta, UTC).isoformat(" ", "seconds")
            row["why"].append(f"it was submitted to start at {when}, in {due - now:.1f} s")
        else:
            later = due - batch.at
            row["why"].append(f"it was submitted to start {later:g} s later, in {due - now:.1f} s")
        self._may_expire(row, batch, now)

    def _queued(self, row: Row, batch: Batch, index: int, now: float) -> None:
        ledger, why = self._ledger, row["why"]
        own = batch.diverged.get(index)
        if own is not None and own.failure is not None:
            why.append(f"its last attempt ended early: {_text(own.failure)}")
        if ledger.recovering and batch.fence < ledger.epoch:
            why.append("the coordinator was restarted, and waits for the hosts that it had before")
        ahead = batch.queue.ready.ahead(batch, index, ENTRIES_MAX)
        row["ahead"] = ahead
        if batch.stored:
            why.append("its arguments are in the store, and read when its turn is near")
        if ahead is None and not batch.stored:
            why.append("what was decided about it is being written to the store")
        elif ahead:
            why.append(f"{ahead} tasks of its queue {batch.queue.name} go first")
        held = explain_queue(batch, now, holds_back=ledger.holds_back)
        if batch.needs is not None:
            held += explain_needs(batch.needs, ledger.hosts, why_kept(ledger, batch))
        why += held
        hosts = ledger.hosts.all.values()
        row["hosts"] = [self._host(host, batch.needs, now) for host in islice(hosts, HOSTS_MAX)]
        if not any(host.peer is not None for host in hosts):
            why.append("no host is connected")
        elif not any(host.room for host in hosts):
            why.append("no host has room: it waits for one to say that it takes more")
        elif not ahead and not held:
            why.append("it is next, as soon as a host has a free slot")
        self._may_expire(row, batch, now)

    def _host(self, host: Host, needs: Needs | None, now: float) -> Row:
        if host.peer is None:
            says = f"is gone; it was last heard {now - host.last_seen:.0f} s ago"
        elif host.unusable:
            says = host.unusable
        elif host.draining:
            says = "drains: it finishes what it has"
        elif host.trouble:
            says = f"takes nothing now: {host.trouble}"
        elif not host.window:
            says = "takes nothing now: it drains, or cannot start workers, or cannot report"
        elif needs is not None and (lacks := lacking(needs, host)):
            says = f"cannot run it now: {lacks}"
        elif host.waiting:
            says = (
                f"is busy: it holds {host.held} tasks, with {host.slots} slots; {host.waiting} of"
                " them wait for others"
            )
        elif host.held >= host.slots:
            says = f"is busy: it holds {host.held} tasks, with {host.slots} slots"
        else:
            says = f"has room: it holds {host.held} tasks, with {host.slots} slots"
        return {"name": host.name, "says": says}

    def _may_expire(self, row: Row, batch: Batch, now: float) -> None:
        if batch.expires_at is not None:
            row["why"].append(f"it expires in {max(0.0, batch.expires_at - now):.1f} s")

    # ------------------------------------------------------------ running

    def _leased(self, row: Row, batch: Batch, index: int, now: float) -> None:
        if index in batch.stopping:
            row["why"].append(
                "somebody asked to stop it: it ends as cancelled, whatever it comes to, and within "
                f"{batch.stopping[index]:g} s of its host's hearing of that"
            )
        lease = self._lease(batch, index)
        if lease is None:
            return
        host = lease.host
        started = bool(lease.started.overlap(index, index + 1))
        row["host"], row["started"] = host.name, started
        row["running_seconds"] = now - lease.since
        what = "runs" if started else "was given"
        if started:
            row["why"].append(f"it {what} on host {host.name} since {now - lease.since:.1f} s")
        else:
            row["why"].append(
                f"it {what} to host {host.name} {now - lease.since:.1f} s ago, and has not been "
                "reported to run: it is short, or waits there for a worker"
            )
        silent = now - host.last_seen
        if host.peer is None or silent > self._ledger.settings.beat_seconds * 1.5:
            left = max(0.0, self._ledger.settings.lease_seconds - silent)
            row["why"].append(
                f"its host is silent for {silent:.1f} s; in {left:.1f} s its lease ends and the "
                "task goes to another"
            )
        if index in batch.cancelling:
            row["why"].append("its cancel waits for the host to say whether it has begun")

    def _lease(self, batch: Batch, index: int) -> Lease | None:
        for host in self._ledger.hosts.all.values():
            for lease in host.leases.values():
                if lease.batch is batch and lease.live_in(index, index + 1):
                    return lease
        return None

    # ------------------------------------------------------------ over

    def _ended(self, row: Row, batch: Batch, index: int, now: float) -> None:
        counter = batch.first + index
        outcome = next((o for o in batch.outcomes if o.first <= counter < o.first + o.count), None)
        if outcome is None:
            row["why"].append("its outcome is being written to the store")
            return
        self._outcome(row, outcome, now)
        if batch.states[index] != SETTLED:
            row["why"].append("its owner has not taken the result yet")
        elif batch.is_kept:
            row["why"].append("its owner has the result, which is kept for other readers")
        else:
            row["why"].append("its owner has the result, which is kept no longer")

    def _outcome(self, row: Row, outcome: Outcome, now: float) -> None:
        row["ending"] = outcome.ending.name.lower()
        row["host"], row["error"] = outcome.host, outcome.error
        row["attempt"] = max(outcome.attempt, row["attempt"])
        row["ended_seconds_ago"] = max(0.0, now - outcome.at)
        row["running_seconds"] = outcome.seconds
        row["why"].append(
            _how(outcome.ending, outcome.host, outcome.seconds, now - outcome.at, outcome.error)
        )

    def gone(self, task: TaskId, memory: Memory | None, now: float, who: Session) -> Row:
        """A task that the ledger does not have, and what the history remembers of it, if it does.

        Raises ``ValueError`` if the farm has never heard of it.
        """
        if memory is None and not had_task(self._ledger, task, who):
            raise ValueError(
                f"the farm has no task {task}: it was never accepted, or is forgotten, or the "
                "store was restored from a copy that is older"
            )
        row: Row = {"id": str(task), "state": "gone", "function": "", "job": "", "host": ""}
        row |= {"attempt": 0, "error": "", "hosts": [], "why": []}
        if memory is not None:
            ago = self._ledger.wall(now) - memory.ended
            seconds = memory.ended - memory.started if memory.started else 0.0
            row |= {
                "state": state_of(memory.ending),
                "ending": memory.ending.name.lower(),
                "function": memory.function,
                "job": memory.job,
                "job_name": memory.name,
                "host": memory.host,
                "attempt": memory.attempt,
                "error": memory.error,
                "ended_seconds_ago": max(0.0, ago),
                "running_seconds": seconds,
                "age_seconds": max(0.0, self._ledger.wall(now) - memory.submitted),
            }
            row["why"].append(_how(memory.ending, memory.host, seconds, ago, memory.error))
        row["why"].append(self._what_became(task))
        return row

    def _what_became(self, task: TaskId) -> str:
        session = self._ledger.sessions.get(task.session)
        if session is not None and task.counter in session.dropped:
            return "its result was dropped to make room for newer ones"
        if session is not None and task.counter in session.outlived:
            return "nobody took its result in the time that results are kept"
        return "its result was delivered to its owner, or its time is over, and is kept no longer"


def _how(ending: Ending, host: str, seconds: float, ago: float, error: str) -> str:
    where = f" on host {host}" if host else ""
    ran = f", after it ran {seconds:.3g} s" if host and seconds else ""
    ended = _ENDED.get(ending, "it failed")
    return f"{ended}{where}, {max(0.0, ago):.0f} s ago{ran}" + (f": {error}" if error else "")


def _text(failure: Failure | None) -> str:
    if failure is None:
        return "no reason is known"
    text = f"{failure.type_name}: {failure.message}" if failure.type_name else failure.message
    return (text or failure.cause)[:300]
