"""The slots of a host: what each worker is doing, as far as the machine knows."""

from collections import OrderedDict, deque
from enum import Enum
from typing import NamedTuple

from farm.model import Ending
from farm.protocol.messages import Failure
from farm.resources import GPU
from farm_workers.host_lease import Lease, Running
from farm_workers.host_pace import PIPE_SECONDS, PREFETCH_SECONDS, SLICE_TASKS_MAX, is_short
from farm_workers.host_slices import Slice

__all__ = ["FUNCTIONS_PER_WORKER", "Doom", "Slot", "SlotState", "Stop"]

FUNCTIONS_PER_WORKER = 32
"""A worker keeps the functions used last; its host counts along and sends what is missing."""
PIPE_SLICES_MAX = 32
"""Slices may be tiny when leases are; this bounds their number in one pipe."""
STUCK_SECONDS = 0.1
"""A worker that makes no progress for this long is stuck in something long,"""
STUCK_TIMES = 10
"""or for this many times what the item should take, if that is longer."""


NEVER = float("inf")


class SlotState(Enum):
    """What a slot's worker process is doing."""

    EMPTY = "empty"
    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    """Asked to end, with all that it has started; killed after the grace period."""
    RETIRED = "retired"
    """Running nothing more and about to leave: it has done enough, or is no place for more."""
    KILLED = "killed"
    """Ended by force; busy until its exit is confirmed."""


class Doom(NamedTuple):
    """Why a worker is being ended: what the item that it is at has done."""

    running: Running
    counter: int
    ending: Ending
    failure: Failure


class Stop(NamedTuple):
    """The item that a worker is at is to be stopped, by an exception until ``until``."""

    running: Running
    counter: int
    until: float

    @property
    def is_over(self) -> bool:
        """Whether the item has ended."""
        return self.running.next > self.counter


class Slot:
    """One slot and one worker process; a new process is a new ``Slot``.

    ``moved`` is when the worker was last heard to get on with its pipe, and it is ``stuck`` if
    that is long ago. ``limited``: it was told to begin nothing more of what it has, which is all
    below the ordinal ``limit``. ``fencing``: it is being ended because of fenced tasks; ``doom``:
    because of an item that passed a limit; ``cut_short``: because the grace of a drain is over.
    ``stop``: the item that it is at is to end. ``waiting``: that item waits for other tasks, and
    others may run in its place. ``taken`` counts the tasks that it was given,
    ``worn`` says that it gets no more, ``leaving`` that it begins none of what it has.
    ``peak_bytes`` is the most memory seen. ``devices`` are those that it is bound to.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.state = SlotState.EMPTY
        # Bounded by PIPE_SLICES_MAX and PIPE_SECONDS in has_room.
        self.pipe: deque[Running] = deque()
        self._functions: OrderedDict[bytes, None] = OrderedDict()
        self._offset = 0
        self.spawned = 0.0
        self.moved = 0.0
        self.cost = 0.0
        self.deadline = float("inf")
        self.worked = False
        self.stuck = False
        self.limited = False
        self.limit = 0
        self.fencing = False
        self.doom: Doom | None = None
        self.stop: Stop | None = None
        self.waiting = False
        self.cut_short = False
        self.kill_at = float("inf")
        self.measure_at = float("inf")
        self.peak_bytes = 0
        self.taken = 0
        self.worn = False
        self.leaving = False
        self.devices: tuple[str, ...] = ()

    @property
    def idle(self) -> bool:
        """Whether its worker could begin something at once."""
        return self.state is SlotState.READY and not self.pipe and not self.worn

    @property
    def limit_at(self) -> float:
        """When a limit of it may be passed, or something is to follow from that."""
        if self.state is not SlotState.READY:
            return min(self.kill_at, self.measure_at)
        due = min(self.kill_at, self.measure_at, self.deadline)
        return due if self.stop is None else min(due, self.stop.until)

    def due(self, patience: float) -> float:
        """When something is to be done about it.

        That its worker is at something is said when it has been for so long.
        """
        due = self.limit_at
        if not self.pipe:
            return due
        if not self.stuck:
            due = min(due, self.stuck_at)
        return due if self.pipe[0].is_announced else min(due, self.moved + patience)

    def left(self, now: float) -> float:
        """Seconds of work that its worker has, as far as is known; 0 or less: it may want more."""
        if not self.pipe:
            return 0.0
        known = [one.cost * (one.stop - one.next) / one.part.count for one in self.pipe]
        return sum(known) - (now - self.moved)

    @property
    def next_ordinal(self) -> int:
        """The ordinal of the next item that is handed over."""
        return self._offset

    def has_room(self) -> bool:
        """Whether more short work may follow what is in the pipe."""
        return (
            self.state is SlotState.READY
            and bool(self.pipe)
            and not self.limited
            and not self.worn
            and (self.cost < PIPE_SECONDS or len(self.pipe) == 1)
            and len(self.pipe) < PIPE_SLICES_MAX
            and sum(running.stop - running.next for running in self.pipe) <= SLICE_TASKS_MAX
            and all(is_short(running.cost, running.part.count) for running in self.pipe)
        )

    def has_function(self, hash: bytes) -> bool:  # noqa: A002
        """Whether the worker has it; if not, it must be sent now, and counts as sent."""
        if hash in self._functions:
            self._functions.move_to_end(hash)
            return True
        self._functions[hash] = None
        if len(self._functions) > FUNCTIONS_PER_WORKER:
            self._functions.popitem(last=False)
        return False

    def take(self, lease: Lease, count: int, seconds: float, now: float) -> Slice:
        """Put a slice of a lease into the pipe; ``seconds`` is what an item should take, or -1."""
        part = lease.cut(count, self._offset)
        if self.devices and any(name == GPU for name, _ in lease.grant.resources):
            part.devices = self.devices
        self._offset += part.count
        self.taken += 1 if part.packed else part.count
        known = seconds >= 0 and not part.limited
        running = Running(lease, part, seconds * part.count if known else 0.0)
        if not self.pipe:
            self.moved = now
            if part.time_limit is not None:
                self.deadline = now + part.time_limit
        self.pipe.append(running)
        self.cost += running.cost
        return part

    def progressed(self, now: float) -> None:
        """The worker ended something: forget slices that are over, and count from now."""
        self.moved = now
        self.stuck = self.waiting = False
        self.worked = True
        while self.pipe and self.pipe[0].next >= self.pipe[0].stop:
            self.cost -= self.pipe.popleft().cost
        if not self.pipe:
            self.cost = 0.0
            self.limited = False
        self._time(now)

    def _time(self, now: float) -> None:
        """From now on the first in the pipe runs, if there is one."""
        limit = self.pipe[0].part.time_limit if self.pipe else None
        self.deadline = NEVER if limit is None else now + limit

    def forget(self, running: Running, now: float) -> None:
        """Nothing of a slice is left."""
        is_first = running is self.pipe[0]
        self.pipe.remove(running)
        self.cost -= running.cost
        if not self.pipe:
            self.cost = 0.0
            self.limited = False
        if is_first:
            self._time(now)

    def holding(self, ordinal: int) -> Running | None:
        """The slice that this ordinal was given to."""
        for running in self.pipe:
            if 0 <= ordinal - running.part.offset < running.part.count:
                return running
        return None

    def find(self, ordinal: int) -> tuple[Running, int] | None:
        """The item with this ordinal and its slice, if it has not ended."""
        running = self.holding(ordinal)
        counter = running.counter(ordinal) if running else None
        return (running, counter) if running and counter is not None else None

    @property
    def holds_up(self) -> bool:
        """Whether tasks wait behind the one that its worker is at."""
        head = self.pipe[0]
        return len(self.pipe) > 1 or head.stop - head.next > 1

    @property
    def stuck_at(self) -> float:
        """When to believe that its worker is stuck, unless it gets on."""
        head = self.pipe[0]
        item = head.cost / head.part.count
        wait = item * STUCK_TIMES if item < PREFETCH_SECONDS else 0.0
        return self.moved + max(STUCK_SECONDS, wait)
