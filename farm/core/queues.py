"""All queues, and whose turn it is: deficit round robin by weight.

Source: M. Shreedhar, G. Varghese, "Efficient Fair Queuing using Deficit Round Robin", SIGCOMM 1995.
Decision: docs/decisions/0050-queues-take-turns.md.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from itertools import chain

from farm.core.batch import Batch
from farm.core.needs import Needs
from farm.core.policy import QueuePolicy, check_name
from farm.core.queue import Queue
from farm.core.ready import Entry
from farm.model import DEFAULT_QUEUE

__all__ = ["Queues"]

NEVER = float("inf")
TURN_TASKS_MAX = 512
"""So many tasks end a turn, however short they are."""


class Queues:
    """Queues by name. There is always one called ``default``.

    Those of which something may be placed stand in a ring; the first is served until its deficit,
    in seconds of expected work, is used up. Who leaves the ring saves nothing up.
    """

    def __init__(self, policies: Mapping[str, QueuePolicy], turn_seconds: float) -> None:
        self._turn_seconds = turn_seconds
        self.ring: deque[Queue] = deque()  # each queue at most once
        # In order, those that have left it for the time that no host has what they wait for.
        self._left: dict[Queue, None] = {}
        self.timed: list[Queue] = []
        """Those with a limit of the rate, for which ``refresh`` and ``plan`` are."""
        self.due = NEVER
        """When a queue that waits for time to pass may have a task placed, as of ``plan``."""
        self.blocked: dict[Needs, None] = {}
        """What tasks need and no host has now."""
        self.lending: dict[Queue, None] = {}
        """Those with tasks that wait for others."""
        self.all: dict[str, Queue] = {}
        for name, policy in {DEFAULT_QUEUE: QueuePolicy(), **policies}.items():
            self._add(Queue(check_name(name), policy, turn_seconds))
        self.default = self._at = self.all[DEFAULT_QUEUE]  # of which ``head`` found something
        self.weigh()

    def _add(self, queue: Queue) -> None:
        queue.ready.blocked = self.blocked
        self.all[queue.name] = queue

    def weigh(self) -> None:
        """Policies were set: the least weight has a turn of ``turn_seconds``."""
        self.due = NEVER
        least = min(queue.policy.weight for queue in self.all.values())
        for queue in self.all.values():
            queue.quantum = self._turn_seconds * queue.policy.weight / least
        self.timed = [queue for queue in self.all.values() if queue.bucket is not None]

    def begin(self, now: float, *, fresh: bool) -> None:
        """The coordinator starts to serve; ``fresh``: with a store in which nothing ever was."""
        for queue in self.all.values():
            queue.begin(now, fresh=fresh)
        self.weigh()

    def find(self, name: str) -> Queue | None:
        """The queue that a task names, if it takes tasks."""
        queue = self.all.get(name) if name else self.default
        return queue if queue is not None and queue.known else None

    def restored(self, name: str) -> Queue:
        """The queue of a task of the journal, even if it is not configured any more."""
        queue = self.all.get(name or DEFAULT_QUEUE)
        if queue is None:
            queue = Queue(name, QueuePolicy(), self._turn_seconds, known=False)
            self._add(queue)
            self.weigh()
        return queue

    @property
    def names(self) -> list[str]:
        """Those that take tasks."""
        return [queue.name for queue in self.all.values() if queue.known]

    # ------------------------------------------------------------ order

    def push(self, batch: Batch, lo: int, hi: int, *, front: bool = False) -> None:
        """Queue tasks; those given back go to the front of what their session has."""
        queue = batch.queue
        queue.ready.push(batch, lo, hi, front=front)
        if not queue.active:
            self._activate(queue)

    @property
    def idle(self) -> bool:
        """Whether no queue has anything that a host could be given, or keeps a turn."""
        return not (self.ring or self._left)

    def _activate(self, queue: Queue) -> None:
        queue.active = True
        self.ring.append(queue)
        self._left.pop(queue, None)

    def head(self, now: float, *, holds_back: bool = False) -> Entry | None:
        """The next run of which something may be placed, or None."""
        ring = self.ring
        if not ring:
            return None
        if len(ring) == 1 and ring[0].plain and (entry := ring[0].ready.head()) is not None:
            self._at = ring[0]
            return entry  # as nearly always
        while ring:
            queue = self._at = ring[0]
            entry = queue.head(now, holds_back=holds_back)
            if entry is None:
                self._leave(queue)
                continue
            if len(ring) == 1 or queue.deficit > 0:
                return entry
            ring.rotate(-1)  # less than a turn below: the next one makes up for it
            ring[0].deficit += ring[0].quantum
        return None

    def needy_head(self, now: float, *, holds_back: bool = False) -> Entry | None:
        """The next run that needs more than a slot, when no others can be placed; or None.

        Nobody's turn begins or ends by it, but what is placed is paid for.
        """
        for queue in self.ring:
            if queue.ready.needy and (entry := queue.needy_head(now, holds_back=holds_back)):
                self._at = queue
                return entry
        return None

    def _leave(self, queue: Queue) -> None:
        """Nothing of a queue may be placed: it saves nothing up.

        Unless it waits for a host that has what its tasks need: then it keeps this turn, and its
        place. If it was its turn, that of the next has come, whoever joins now.
        """
        was_first = self.ring[0] is queue
        self.ring.remove(queue)
        queue.active = False
        if was_first and self.ring:
            self.ring[0].deficit += self.ring[0].quantum
        queue.deficit = min(queue.deficit, queue.quantum if queue.ready.needy else 0.0)
        if queue.ready.needy:
            self._left[queue] = None

    def cost(self, seconds: float) -> float:
        """What a task counts in its turn that is expected to take so long; -1: nobody knows."""
        turn = self._turn_seconds
        return turn if seconds < 0 else min(max(seconds, turn / TURN_TASKS_MAX), turn)

    def cut(self, batch: Batch, count: int, cost: float, now: float) -> int:
        """How many of ``count`` tasks of the batch of ``head`` may be placed, at this cost each."""
        queue = batch.queue
        if not queue.plain:
            count = min(count, queue.allowed(batch, now))
        if (turn := queue.ready.turn(cost)) is not None:
            count = min(count, turn)
        if len(self.ring) > 1:
            count = min(count, max(1, int(queue.deficit / cost)))
        return count

    def take(self, count: int, cost: float = 0.0) -> None:
        """Remove the first ``count`` tasks of the run that ``head`` returned, for ``cost``."""
        queue = self._at
        alone = len(self.ring) == 1 and not self._left
        queue.deficit = 0.0 if alone else max(queue.deficit - cost, -self._turn_seconds)
        if not queue.ready.take(count, cost):
            self._leave(queue)

    def set_aside(self, count: int) -> None:
        """Let the first ``count`` tasks of the run that ``head`` returned wait until ``resume``."""
        self._at.ready.set_aside(count)

    def park(self) -> None:
        """Let the run that ``head`` returned, and what is behind it, wait for its payloads."""
        self._at.ready.park()
        if not self._at.ready:
            self._leave(self._at)

    def arrived(self, batch: Batch) -> None:
        """The payloads of a batch are here: its tasks, if they wait for them, can be placed."""
        batch.queue.ready.arrived(batch)
        self.wake(batch.queue)

    def resume(self) -> None:
        """What was set aside waits where it did."""
        for queue in self.all.values():
            queue.ready.resume()
        self.wake_all()

    def wake_all(self) -> None:
        """What kept tasks of any queue from being placed may be over."""
        for queue in self.all.values():
            self.wake(queue)

    def wake(self, queue: Queue) -> None:
        """Something of a queue may be placed that could not be."""
        if queue.ready and not queue.active:
            self._activate(queue)

    def lend(self, batch: Batch, units: int) -> None:
        """So many more tasks of a batch wait for others, or fewer (negative)."""
        queue = batch.queue
        queue.lend(batch, units)
        if queue.lent:
            self.lending[queue] = None
        else:
            self.lending.pop(queue, None)

    @property
    def lends(self) -> bool:
        """Whether a queue in which only so many may run has tasks that wait for others."""
        return any(queue.limits_running for queue in self.lending)

    def let_go(self, batch: Batch, units: int) -> None:
        """A host holds so many fewer tasks of a batch."""
        queue = batch.queue
        queue.running -= units
        if units and (key := batch.template.concurrency_key):
            queue.let_go_key(key, units)
        if not queue.plain and not queue.active:
            self.wake(queue)

    def refresh(self, now: float) -> None:
        """Time has passed, and may have let tasks go that waited for it."""
        for queue in self.timed:
            if not queue.active and queue.bucket is not None and queue.bucket.room(now):
                self.wake(queue)

    def plan(self, now: float) -> None:
        """What can be has been placed: find when time alone will let more."""
        self.due = NEVER
        for queue in self.timed:
            if queue.bucket is None or queue.paused or not queue.ready:
                continue
            queue.bucket.room(now)
            at = queue.bucket.due
            if at is not None:
                self.due = min(self.due, at)

    # ------------------------------------------------------------ what no host has now

    def block(self, needs: Needs) -> None:
        """No host has what these tasks need: others go before them, until ``unblock``."""
        self.blocked[needs] = None

    def unblock(self, needs: Needs) -> None:
        """A host may have what these tasks need."""
        if needs in self.blocked:
            del self.blocked[needs]
            for queue in [*self._left, *self.all.values()]:
                queue.ready.unblock(needs)
                self.wake(queue)

    def have(self, needs: Needs) -> bool:
        """Whether a queue has tasks with such needs."""
        return any(needs in queue.ready.needy for queue in self.all.values())

    def want(self, needs: Needs) -> bool:
        """Whether one has that is not paused: what else keeps them passes by itself."""
        return any(needs in queue.ready.needy and not queue.paused for queue in self.all.values())

    # ------------------------------------------------------------ looking

    def upcoming(self) -> Iterator[Entry]:
        """What waits, stale entries too, about in the order in which it comes up."""
        turns = deque(queue.ready.upcoming() for queue in self.ring)
        while turns:
            entry = next(turns[0], None)
            if entry is None:
                turns.popleft()
            else:
                yield entry
                turns.rotate(-1)

    def snapshot(self) -> list[Entry]:
        """Every entry, stale ones too, in no order."""
        return list(chain.from_iterable(queue.ready.snapshot() for queue in self.all.values()))

    def __iter__(self) -> Iterator[Entry]:
        """Every run that is really queued, in no order."""
        return chain.from_iterable(queue.ready for queue in self.all.values())
