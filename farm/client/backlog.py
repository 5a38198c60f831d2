"""What callers have handed over and the IO thread has not taken yet, and the gate before it.

Callers append under a lock; the IO thread takes everything at once. A task costs its caller one
list entry; the group that the tasks of a run become is made here, so the IO thread has no work
for each. Every addition takes effect by one append, so a KeyboardInterrupt between any two steps
leaves either the whole task or nothing.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from math import ceil
from time import monotonic
from typing import Any, NamedTuple

from farm.errors import Busy
from farm.model import DEFAULT_QUEUE, Payload
from farm.protocol.messages import Function, TaskKey, Template

__all__ = ["BYTES_MAX", "TASKS_MAX", "Backlog", "Entry", "Lane"]

TASKS_MAX = 8192
"""Tasks that may wait in this process to be sent, a packed one counting as one."""
BYTES_MAX = 64 << 20
"""Payload bytes that may wait; the task that passes the bound is still taken."""
RESUME = 0.5
"""Submitters that had to wait go on when the backlog is below this share of its bounds."""
HAND_OVER_SECONDS = 0.002
"""How long a caller waits at most for the IO thread to take what it has added."""
RETRY_SECONDS_MIN, RETRY_SECONDS_MAX = 1.0, 120.0
"""What a caller without room may be told."""
WAIT_SECONDS = 1.0
"""How long a wait lasts before the world is looked at again."""


class Lane(NamedTuple):
    """What the tasks of a group have in common."""

    function: Function
    template: Template | None
    job: int

    @property
    def queue(self) -> str:
        """The queue of its tasks."""
        return (self.template.queue if self.template is not None else "") or DEFAULT_QUEUE


class Entry:
    """Tasks of one lane with counters from ``first`` on, or a ``command`` between tasks.

    ``items`` is 0, or the number of items that the single payload packs, or of counters that are
    left out. ``key`` is that of its single task, if it has one.
    """

    __slots__ = ("command", "first", "items", "key", "lane", "payloads")

    def __init__(
        self,
        first: int,
        lane: Lane | None,
        payloads: list[Payload],
        items: int = 0,
        command: Callable[[float], None] | None = None,
        key: TaskKey | None = None,
    ) -> None:
        self.first = first
        self.lane = lane
        self.payloads = payloads
        self.items = items
        self.command = command
        self.key = key

    @property
    def stop(self) -> int:
        """The counter after the last."""
        return self.first + (self.items or len(self.payloads))


class Backlog:
    """A bounded list of entries. ``sleeping`` says whether ``wake`` must be called to be heard.

    ``closed`` is None or what submitting raises from now on; ``shut`` the same for all but maps
    that have begun. ``full_since`` is the time at which somebody began to wait for room, or None.
    ``may_block`` says whether this thread may wait.
    """

    def __init__(
        self, wake: Callable[[], None], may_block: Callable[[], bool] = lambda: True
    ) -> None:
        self.closed: Callable[[], Exception] | None = None
        self.shut: Callable[[], Exception] | None = None
        self.sleeping = False
        self.full_since: float | None = None
        self.starved = False  # the farm is full: whoever does not block is told so
        self.retry_at = 0.0  # when there should be room
        self.reason = ""  # why the farm is full, if it said so
        # Queues without room: when they should have some, and why they have none.
        self.full_queues: dict[str, tuple[float, str]] = {}
        self._wake = wake
        self._may_block = may_block
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._taken, self._awaited = threading.Condition(self._lock), False
        self._entries: list[Entry] = []
        # Bounded by what callers do besides submitting: each call adds one.
        self._later: deque[Callable[[float], None]] = deque()
        self._next = 1  # the first counter after those taken
        self._count = self._bytes = 0  # of the entries
        self._count_max, self._bytes_max = TASKS_MAX, BYTES_MAX  # what the unsent leaves of them
        self._full = False
        self._credit: int | None = None  # where nobody may wait for it
        # Bounded by the coroutines that wait for room: one for each.
        self._notices: list[Callable[[], object]] = []

    def __len__(self) -> int:
        return self._count

    def put(
        self,
        lane: Lane,
        payload: Payload,
        register: Callable[[int], Any],
        key: TaskKey | None = None,
        *,
        block: bool,
    ) -> Any:
        """Add a task and return what ``register`` makes of its counter; waits for room.

        ``register`` is called before the task can be seen. Raises ``Busy`` if there is no room and
        it may not wait, and what ``closed`` makes once it is set.
        """
        with self._lock:
            if self.shut is not None or self._full or not block or self.full_queues:
                if self.shut is not None:
                    raise self.shut()
                self._admit(lane, block=block)
            entries = self._entries
            last = entries[-1] if entries else None
            self._count += 1
            self._bytes += len(payload)
            if self._count >= self._count_max or self._bytes >= self._bytes_max:
                self._full = True
            if last is not None and last.lane is lane and not (last.items or last.key or key):
                registered = register(last.first + len(last.payloads))
                last.payloads.append(payload)
            else:
                first = self._next if last is None else last.stop
                registered = register(first)
                entries.append(Entry(first, lane, [payload], key=key))
        if self.sleeping:
            self.rouse()
        return registered

    def put_or_wait(
        self,
        lane: Lane,
        payload: Payload,
        register: Callable[[int], Any],
        notify: Callable[[], object],
        key: TaskKey | None = None,
    ) -> Any:
        """Add a task as ``put`` does, if there is room now.

        Otherwise returns None, and ``notify`` is called once, from any thread, when there may be.
        """
        with self._lock:
            if self.shut is not None:
                raise self.shut()
            if self._no_room(lane):
                if not self._may_block():
                    raise self.busy(lane.queue)
                self.full_since = self.full_since or monotonic()
                self._notices.append(notify)
                return None
            registered = register(first := self.next_counter)
            self._append([Entry(first, lane, [payload], key=key)], 1, len(payload))
        if self.sleeping:
            self.rouse()
        return registered

    def put_all(
        self,
        lane: Lane,
        payloads: list[Payload],
        register: Callable[[int], Any],
        keys: Sequence[TaskKey] = (),
    ) -> list[Any]:
        """Add tasks as ``put`` does, all or none, without waiting; what ``register`` makes of each.

        ``keys`` are theirs, or none has any. Raises ``Busy`` if there is no room for all of them.
        """
        count, size = len(payloads), sum(map(len, payloads))
        with self._lock:
            if self.shut is not None:
                raise self.shut()
            room = self._count + count <= self._count_max and self._bytes + size <= self._bytes_max
            if self.lacks_room(lane.queue) or not (room or count == 1):
                raise self.busy(lane.queue)
            first = self.next_counter
            registered = [register(first + at) for at in range(count)]
            entries = [Entry(first, lane, payloads)]
            if keys:
                entries = [
                    Entry(first + at, lane, [payload], key=key)
                    for at, (payload, key) in enumerate(zip(payloads, keys, strict=True))
                ]
            self._append(entries, count, size)
        if self.sleeping:
            self.rouse()
        return registered

    def lacks_room(self, queue: str) -> bool:
        """Whether a task of this queue that may not wait would be refused now."""
        return self._full or self.starved or queue in self.full_queues

    def _append(self, entries: list[Entry], count: int, size: int) -> None:
        """Add entries that count as so many tasks; called with the lock held."""
        self._count += count
        self._bytes += size
        if self._count >= self._count_max or self._bytes >= self._bytes_max:
            self._full = True
        self._entries += entries

    def put_packed(
        self,
        lane: Lane,
        payload: Payload,
        items: int,
        register: Callable[[int], Any],
        *,
        block: bool,
    ) -> bool:
        """Add a task of many items; False if there is no room and it may not wait."""
        with self._lock:
            if self.closed is not None or self._full or self.full_queues:
                if self.closed is None and not block and self._no_room(lane):
                    return False
                self._admit(lane, block=True)
            register(first := self.next_counter)
            self._append([Entry(first, lane, [payload], items)], 1, len(payload))
        if self.sleeping:
            self.rouse()
        return True

    def hand_over(self) -> None:
        """Wait, a moment at most, until the IO thread has taken what was added.

        Computing, a thread lets go of the interpreter, and what it adds leaves, only every 5 ms.
        """
        with self._lock:
            if self._entries and self.closed is None:
                self._awaited = True
                self._taken.wait(HAND_OVER_SECONDS)

    def skip(self) -> int:
        """A counter for a task that will never be submitted."""
        with self._lock:
            if self.shut is not None:
                raise self.shut()
            self._entries.append(entry := Entry(self.next_counter, None, [], 1))
        return entry.first

    def before(
        self, command: Callable[[float], None], register: Callable[[int], Any] | None = None
    ) -> Any:
        """Have the IO thread call this, with the time, before it sees what is added later.

        With ``register`` it submits a task; what that makes of its counter is returned.
        """
        with self._lock:
            if self.closed is not None:
                raise self.closed()
            first = self.next_counter
            registered = None if register is None else register(first)
            self._entries.append(Entry(first, None, [], int(register is not None), command))
        if self.sleeping:
            self.rouse()
        return registered

    def after(self, command: Callable[[float], None]) -> bool:
        """Have the IO thread call this, with the time, after it has seen what was added before.

        Takes no lock, so that a finalizer may call it in the middle of anything. False if it is
        over: then nothing is called any more.
        """
        if self.closed is not None:
            return False
        self._later.append(command)
        if self.sleeping:
            self.rouse()
        return self.closed is None  # it may have ended between the two looks

    def rouse(self) -> None:
        """End the sleep of the IO thread."""
        self.sleeping = False
        self._wake()

    def busy(self, queue: str = "") -> Busy:
        """What is raised where there is no room and no waiting; ``queue``: in this one."""
        at, why = self.full_queues.get(queue, (self.retry_at, self.reason))
        after = min(max(at - monotonic(), RETRY_SECONDS_MIN), RETRY_SECONDS_MAX)
        why = why or "the farm has no room for more tasks"
        return Busy(f"{why}; try again in {ceil(after)} s", after)

    def _no_room(self, lane: Lane) -> bool:
        return self._full or (bool(self.full_queues) and lane.queue in self.full_queues)

    def _admit(self, lane: Lane, *, block: bool) -> None:
        """Return when there is room; called with the lock held."""
        no_room = self._no_room(lane) or (self.starved and not block)
        # A task that waited here would keep its slot from those that it waits for.
        if no_room and self.closed is None and not (block and self._may_block()):
            raise self.busy(lane.queue)
        try:
            while self._no_room(lane) and self.closed is None:  # a map goes on after ``shut``
                self.full_since = self.full_since or monotonic()
                self._room.wait(WAIT_SECONDS)
        finally:
            if not self._full:
                self.full_since = None
        if self.closed is not None:
            raise self.closed()

    # ------------------------------------------------------------ for the IO thread

    @property
    def next_counter(self) -> int:
        """The counter of the next task; also for other threads."""
        entries = self._entries
        return entries[-1].stop if entries else self._next

    @property
    def has_entries(self) -> bool:
        """Whether there is anything to take."""
        return bool(self._entries or self._later)

    def take(self) -> list[Entry]:
        """Everything added so far."""
        # Before the entries: those that were added before it are among them then.
        commands = [self._later.popleft() for _ in range(len(self._later))] if self._later else ()
        with self._lock:  # though there may be none: whoever is about to add some has done so then
            entries, self._entries = self._entries, []
            if entries:
                self._next = entries[-1].stop
            if self._credit is not None:  # until it is said again
                self._count_max -= self._count
            self._count = self._bytes = 0
            if self._awaited:
                self._awaited = False
                self._taken.notify_all()
        return entries + [Entry(0, None, [], command=command) for command in commands]

    def left(self, tasks: int, size: int, credit: int | None = None) -> None:
        """So much of what was taken is unsent; who waits goes on when it is little.

        ``credit``: so many may be added, and no more.
        """
        self._bytes_max = BYTES_MAX - size
        if credit is not None:
            with self._lock:
                self._credit, self._count_max = credit, min(TASKS_MAX, credit)
                self._full = self._count >= self._count_max or self._bytes >= self._bytes_max
            return
        self._count_max = TASKS_MAX - tasks
        if not self._full:
            return
        with self._lock:
            if self._count + tasks < TASKS_MAX * RESUME and self._bytes + size < BYTES_MAX * RESUME:
                self._full = False
                self.full_since = None
                self._notify_all()

    def note_full(self, queues: dict[str, tuple[float, str]]) -> None:
        """These queues have no room; who waits for another one goes on."""
        if queues == self.full_queues:
            return
        with self._lock:
            self.full_queues = dict(queues)
            self._notify_all()

    def close(self, error: Callable[[], Exception]) -> None:
        """Nothing may be added any more; whoever waits raises what ``error`` makes."""
        with self._lock:
            self.closed = self.shut = error
            self._notify_all()

    def _notify_all(self) -> None:
        """Whoever waits for room looks again; called with the lock held."""
        self._room.notify_all()
        notices, self._notices = self._notices, []
        for notify in notices:
            notify()

    def after_fork(self, error: Callable[[], Exception]) -> None:
        """In the child of a fork: the lock's holder may not exist here."""
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._taken = threading.Condition(self._lock)
        self.closed = self.shut = error
