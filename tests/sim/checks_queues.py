"""The checkers of queues: their bounds, what may run, at which rate, and whose turn it is."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

from farm.core.policy import QueuePolicy
from farm.model import State
from tests.sim.truth import Violation

if TYPE_CHECKING:
    from collections.abc import Callable

    from farm.core import Core
    from farm.core.hosts import Host, Lease
    from farm.core.ledger import Ledger
    from farm.core.queue import Queue
    from farm.protocol.messages import Assign
    from tests.sim.checks import Checks
    from tests.sim.truth import Execution, Task

__all__ = ["QueueChecks"]

ROUNDS = 5
"""By how many rounds of turns two may be apart that both wait all the time."""
EPSILON = 1e-6
WAITING, CANCELLED = (State.QUEUED, State.SCHEDULED), State.CANCELLED
Flow = tuple[Any, ...]


class _Waiting(NamedTuple):
    """Who waits, and could be served: the quantum of each, in tasks."""

    quanta: dict[Flow, float]


class QueueChecks:
    """Watches the queues of one coordinator after the other."""

    def __init__(self, checks: Checks) -> None:
        self._checks = checks
        self._truth = checks.truth
        self._tokens: dict[str, tuple[float, float]] = {}  # and when there were so many
        self._waited = _Waiting({})
        self._lead: dict[tuple[Flow, Flow], float] = {}  # in rounds, since both wait
        self._asked: dict[tuple[Any, int], tuple[str, str]] = {}  # orders without an answer
        self._disputed: set[tuple[Any, int]] = set()  # pauses asked for while a resume was
        self._paused: set[str] = set()  # somebody was told so, and nobody wants it otherwise
        self.purged: set[str] = set()

    def policy(self, name: str) -> QueuePolicy:
        """The configured policy of a queue."""
        return self._checks.settings.queues.get(name) or QueuePolicy()

    def restarted(self) -> None:
        """Another coordinator: who waits now has waited for nothing yet."""
        self._waited = _Waiting({})
        self._lead.clear()
        if not self._checks.disk.durable:
            self._tokens.clear()
            self._paused.clear()

    def restored(self) -> None:
        """The store is a copy from before the last orders, perhaps."""
        self._paused.clear()

    # ------------------------------------------------------------ orders

    def ordered(self, client: Any, request: int, what: str, name: str) -> None:
        """A client tells a queue something."""
        self._asked[client, request] = what, name
        if what == "resume_queue":
            self._paused.discard(name)
            self._disputed.update(a for a, b in self._asked.items() if b == ("pause_queue", name))
        elif what == "pause_queue" and ("resume_queue", name) in self._asked.values():
            self._disputed.add((client, request))
        elif what == "purge_queue":
            self.purged.add(name)

    def answered(self, client: Any, message: Any) -> None:
        """A client is told that something is done."""
        what, name = self._asked.pop((client, message.request), ("", ""))
        wanted = (client, message.request) in self._disputed
        self._disputed.discard((client, message.request))
        world = self._checks.world
        lasts = world.disk.durable and not world.stats["restore store"]
        if what == "pause_queue" and not wanted and lasts:
            self._paused.add(name)

    def purge(self, machine: Core, act: Callable[[], None]) -> None:
        """A queue is purged: what waits in it is cancelled, and nothing else."""
        known = not machine.ledger.holds_back
        before = _states(machine)
        orders, name = machine.ledger.counters["purged"], ""
        act()
        if not known:
            return
        after = _states(machine)
        ended = {task for task, (state, _) in after.items() if before[task][0] != state}
        names = {before[task][1] for task in ended}
        for name in names:
            waited = {t for t, (state, own) in before.items() if own == name and state in WAITING}
            if len(names) > 1 or ended != waited or any(after[t][0] != CANCELLED for t in ended):
                raise Violation(
                    "purge", f"of queue {name} {len(ended)} ended, {len(waited)} waited"
                )
        if machine.ledger.counters["purged"] - orders != len(ended):
            raise Violation("purge", f"{len(ended)} tasks ended")

    # ------------------------------------------------------------ bounds

    def within_bounds(self) -> None:
        """Admission is exact: never more open tasks or bytes of a queue than it may have."""
        sizes: dict[str, dict[Any, int]] = {}
        for task in self._truth.open_tasks:
            unit = (task.id[0], task.group if task.packed else task.id[1])
            own = sizes.setdefault(queue_of(task), {})
            same = self._truth.written[task.id].same is not None
            own[unit] = own.get(unit, 0) + (0 if same else len(task.work))
        blobs = self._checks.world.plan.blobs
        for name, units in sizes.items():
            policy, size = self.policy(name), sum(units.values())
            if policy.max_tasks is not None and len(units) > policy.max_tasks:
                text = f"queue {name} has {len(units)} tasks, {policy.max_tasks} allowed"
                raise Violation("queue bound", text)
            if policy.max_bytes is not None and size > policy.max_bytes and not blobs:
                text = f"queue {name} has {size} bytes, {policy.max_bytes} allowed"
                raise Violation("queue bound", text)

    # ------------------------------------------------------------ what runs

    def began(self, task: Task, _execution: Execution) -> None:
        """A worker begins a task: as many as may run at most, of those that count.

        Who has waited for others does not, nor what is packed with it: it has lent its place, and
        goes on when that is over.
        But such places are for what is waited for: of what nobody has submitted all count.
        """
        name = queue_of(task)
        policy, key = self.policy(name), task.template.concurrency_key
        if policy.max_running is not None:
            self._no_more_than(policy.max_running, f"queue {name}", name, "")
        if policy.max_running_per_key is not None and key:
            self._no_more_than(policy.max_running_per_key, f"key {name}/{key}", name, key)

    def _no_more_than(self, most: int, what: str, name: str, key: str) -> None:
        for lends in (True, False):
            tasks = [
                task
                for task in self._truth.open_tasks
                if queue_of(task) == name
                and (not key or task.template.concurrency_key == key)
                and (lends or task.template.parent is None)
            ]
            running = {_unit(task) for task in tasks if self._runs(task)}
            if lends:
                running -= {_unit(task) for task in tasks if self._runs(task, waited=True)}
            if len(running) > most:
                raise Violation("queue running", f"{what}: {len(running)} run, {most} may")

    def _runs(self, task: Task, *, waited: bool = False) -> bool:
        """Whether a worker is at an open task, under a token that counts.

        ``waited``: and it has waited for others.
        """
        return any(
            not one.ended
            and (one.waited or not waited)
            and not self._truth.is_stale(task, one.epoch, one.attempt)
            for one in task.executions
        )

    # ------------------------------------------------------------ order

    def rises(self, task: Task, other: Task) -> None:
        """A task goes before another of its queue: that has not waited so long as to go first."""
        age = self.policy(queue_of(task)).ageing_seconds
        mine, its = task.template.priority, other.template.priority
        if mine <= its:
            return
        # The oldest of a priority counts: whoever may be there.
        lane = [t for t in self._truth.tasks.values() if _lane(t) == _lane(task)]
        if any(not t.durable and t.settled is None for t in lane):
            return  # nobody knows since when
        facts = [self._truth.written[t.id] for t in lane]
        oldest = min(one.at for one in facts if one.is_open and one.same is None)
        if self._truth.written[other.id].at - its * age < oldest - mine * age - EPSILON:
            raise Violation("ageing", f"{task.name} goes before {other.name}, which has waited")

    # ------------------------------------------------------------ the rate

    def assigned(self, message: Assign) -> None:
        """Leases are given: each task of theirs is paid for with a token."""
        for grant in message.grants:
            task = self._truth.tasks[grant.session, grant.first]
            policy = self.policy(queue_of(task))
            if queue_of(task) in self._paused:
                raise Violation("paused queue", f"{task.name} of queue {queue_of(task)} is leased")
            if policy.rate is not None and not task.runs_once:  # paid for before its commit
                self._spend(queue_of(task), policy, 1 if grant.packed else grant.count)

    def _spend(self, name: str, policy: QueuePolicy, count: int) -> None:
        now, burst, rate = self._checks.world.clock.now, policy.burst_tasks, policy.rate
        assert rate is not None
        tokens, at = self._tokens.get(name, (burst, now))
        tokens = min(burst, tokens + (now - at) * rate) - count
        self._tokens[name] = tokens, now
        if tokens < -EPSILON:
            raise Violation("queue rate", f"queue {name} is {-tokens} tasks ahead of its rate")

    # ------------------------------------------------------------ turns

    def turn_over(self, machine: Core, placed: list[tuple[Host, Lease]]) -> None:
        """The coordinator has placed what it could: nobody who waits falls behind."""
        ledger = machine.ledger
        queues = [queue for queue in ledger.queues.all.values() if queue.open_tasks]
        if not queues and not self._waited.quanta:
            return
        waiting: dict[Flow, float] = {}
        least = min(queue.policy.weight for queue in ledger.queues.all.values())
        now, holds_back = self._checks.world.clock.now, ledger.holds_back
        for queue in queues:
            policy = queue.policy
            if policy.max_running_per_key is None and not queue.closed(now, holds_back=holds_back):
                waiting |= _waiting(queue, policy.weight / least, ledger)
        both = {flow: quantum for flow, quantum in waiting.items() if flow in self._waited.quanta}
        self._waited = _Waiting(waiting)
        if len(both) > 1:
            self._compare(both, _served(machine, placed))
        else:
            self._lead = {}

    def _compare(self, both: dict[Flow, float], served: Counter[Flow]) -> None:
        """How far one of two that wait all the time is before the other."""
        lead = {}
        for one, other in combinations(sorted(both), 2):
            if one[:-1] != other[:-1]:  # they do not take turns with each other
                continue
            by = served[one] / both[one] - served[other] / both[other]
            lead[one, other] = self._lead.get((one, other), 0.0) + by
            if abs(lead[one, other]) > ROUNDS:
                text = f"{one} is {lead[one, other]:.1f} rounds ahead of {other}"
                raise Violation("starvation", text)
        self._lead = lead


def _states(machine: Core) -> dict[Any, tuple[int, str]]:
    """The state and queue of every task."""
    return {
        (session.id, batch.first + index): (state, batch.queue.name)
        for session in machine.ledger.sessions.values()
        for batch in session.batches
        if batch.same is None  # these wait for others, in no queue
        for index, state in enumerate(batch.states)
    }


def queue_of(task: Task) -> str:
    """The name of a task's queue."""
    return task.template.queue or "default"


def _unit(task: Task) -> tuple[bytes, int]:
    """What counts as one: a task, or those that are packed together."""
    return task.id[0], task.group if task.packed else task.id[1]


def _lane(task: Task) -> tuple[str, int]:
    return queue_of(task), task.template.priority


def _served(machine: Core, placed: list[tuple[Host, Lease]]) -> Counter[Flow]:
    """Who is served by leases, and with how many tasks."""
    served: Counter[Flow] = Counter()
    lent = placed and any(host.waiting for host in machine.ledger.hosts.all.values())
    for _, lease in placed:
        batch = lease.batch
        if lent and batch.template.depth:  # it took no turn of others
            continue
        units = 1 if batch.packed else lease.hi - lease.lo
        served[batch.queue.name,] += units
        served[batch.queue.name, str(batch.template.priority), batch.session.id] += units
    return served


def _waiting(queue: Queue, quantum: float, ledger: Ledger) -> dict[Flow, float]:
    """The queue, and its sessions by priority, if they have tasks that any host could run.

    Those do not that wait until payloads are read, or, while the disk is full, for their commit.
    """
    found: dict[Flow, float] = {}
    parked: set[Flow] = set()
    for batch in dict.fromkeys(batch for batch, _, _ in queue.ready):
        if ledger.short and not ledger.is_committed(batch):
            continue
        flow = (queue.name, str(batch.template.priority), batch.session.id)
        if ledger.residence.is_sent_for(batch):
            parked.add(flow)
        elif batch.needs is None:
            found[flow] = 1.0
    for flow in parked & found.keys():
        del found[flow]
    if found:
        found[queue.name,] = quantum
    return found
