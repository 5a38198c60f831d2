"""``map``: many items through few tasks, with the iterables read as results are wanted.

Items are packed into tasks, results come back packed, and neither has a future. The iterables are
read on the caller's thread only: the first window when ``map`` is called, the rest in ``next``. A
result that is an error is raised in its item's place, and the rest is cancelled, as it is when the
iterator is closed or forgotten.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice, repeat
from queue import Empty, SimpleQueue
from threading import TIMEOUT_MAX
from time import monotonic
from typing import Any, NamedTuple, Protocol

from farm.client import waits
from farm.client.backlog import Lane
from farm.client.pacing import Pace
from farm.errors import PayloadError
from farm.model import Ending, Payload
from farm.payload import check_size, dump_items, load_value, open_values
from farm.protocol.messages import BATCH_BYTES, ITEMS_PER_TASK_MAX, Result
from farm.ranges import RangeSet

__all__ = ["Chunk", "Items", "MapSettings", "Mapping", "items_of", "map_results"]

ARGUMENT_BYTES_MAX = 64 << 20
"""Arguments on the way, at most, unless a single task has more."""
RESULT_BYTES_MAX = 128 << 20
"""With so many result bytes waiting for the caller, nothing more is submitted."""
HAND_OVER_SECONDS = 0.001
"""For so long items are read and packed while those before wait to be sent."""
HELD_WINDOWS = 4
"""With so many windows of tasks not consumed yet, nothing more is submitted."""


class Chunk:
    """One packed task of a map: takes its results on the IO thread and hands them to the caller."""

    __slots__ = ("_arrived", "_missing", "count", "dropped", "first", "left", "position", "size")

    def __init__(self, count: int, size: int, arrived: "SimpleQueue[_Part | None]") -> None:
        self.count = self.left = count  # left: items that the caller has not heard of
        self.size = size
        self.first = self.position = 0  # position: the next counter that the caller wants
        self.dropped = False  # nobody waits for it any more
        self._missing = RangeSet()
        self._arrived = arrived

    @property
    def stop(self) -> int:
        """The counter after the last."""
        return self.first + self.count

    def register(self, first: int) -> None:
        """The chunk has these counters from now on."""
        self.first = self.position = first
        self._missing.add(first, first + self.count)

    def settle(self, entry: Result | Exception, start: int, stop: int) -> bool:
        """Results of ``[start, stop)`` came, or an error for all of them; whether it is over."""
        for a, b in self._missing.overlap(start, stop):
            self._missing.remove(a, b)
            if not self.dropped:
                self._arrived.put(_Part(self, entry, a, b))
        return not self._missing


class _Part(NamedTuple):
    chunk: Chunk
    entry: Result | Exception
    start: int
    stop: int


class Mapping(Protocol):
    """What a map needs of its client."""

    def keep(self, payload: bytes) -> Payload:
        """The payload as it is submitted: in a file if it is large."""

    def put_chunk(self, lane: Lane, payload: Payload, chunk: Chunk, *, block: bool) -> bool:
        """Submit a chunk; False if there is no room and it may not wait."""

    def hand_over(self) -> None:
        """Let what was submitted begin to travel, before more is read."""

    def drop_chunks(self, chunks: list[Chunk]) -> None:
        """Cancel chunks and hear no more of them."""

    def slots(self) -> int:
        """How many workers the farm has, as far as is known; at least 1."""

    def busy(self, lane: Lane) -> Exception:
        """What is raised when there is no room for such tasks and the map may not wait."""

    def error_at(self, entry: Result, counter: int) -> BaseException:
        """What a task whose result is not a value raises."""


class MapSettings(NamedTuple):
    """The options of one ``map``, checked; ``deadline`` is a monotonic time."""

    chunksize: int | None
    buffersize: int | None
    deadline: float | None
    ordered: bool
    block: bool


class Items(NamedTuple):
    """What a map is over: the arguments of each item, ``bare`` if they have one each."""

    source: Iterator[Any]
    bare: bool


def items_of(iterables: Sequence[Iterable[Any]]) -> Items:
    """The items of iterables; of a single one without a tuple around each."""
    if len(iterables) == 1:
        return Items(iter(iterables[0]), bare=True)
    return Items(zip(*iterables, strict=False), bare=False)


def map_results(
    client: Mapping,
    lane: Lane | PayloadError,
    items: Items,
    settings: MapSettings,
    ended: Callable[[], None],
) -> Iterator[Any]:
    """Submit the first window and return the iterator over the results.

    ``ended`` is called once when it will submit nothing more, perhaps by a finalizer.
    """
    return _Results(_Map(client, lane, items, settings, ended))


class _Results(Iterator[Any]):
    """The values one by one: a loop over them runs in C, but for the way from part to part."""

    def __init__(self, results: "_Map") -> None:
        self._map = results
        parts = results.parts()
        # Begun here, so that its end is carried out even if nothing is ever taken from it.
        next(parts)
        self._values = chain.from_iterable(parts)

    def __iter__(self) -> Iterator[Any]:  # noqa: PYI034 - faster, and it ends this, too
        return self._values

    def __next__(self) -> Any:
        return next(self._values)

    def close(self) -> None:
        """Cancel what is on the way; no value comes after this."""
        self._map.close()


class _Map:
    def __init__(
        self,
        client: Mapping,
        lane: Lane | PayloadError,
        items: Items,
        settings: MapSettings,
        ended: Callable[[], None],
    ) -> None:
        self._client = client
        self._ended = ended
        self._lane = lane
        self._items, self._bare = items
        self._settings = settings
        self._pace = Pace(settings.chunksize)
        # These, and what waits in order or is ready, have at most a window of chunks.
        self._arrived: SimpleQueue[_Part | None] = SimpleQueue()
        self._outstanding: dict[int, Chunk] = {}  # by first counter
        self._order: deque[Chunk] = deque()  # not consumed yet, if the order matters
        self._parts: dict[int, _Part] = {}  # by first counter, not consumed yet
        self._ready: deque[_Part] = deque()  # the same if the order does not matter
        # Payloads that there was no room for: the pieces of what was last read.
        self._held: deque[tuple[Payload | PayloadError, int]] = deque()
        self._exhausted = self._failed = False
        self._argument_bytes = self._result_bytes = 0
        self._read = self._yielded = 0  # items
        self._left: Iterator[list[Any]] = iter(())  # as long as the part that is given out
        self._over = False

    def parts(self) -> Iterator[Iterator[Any]]:
        """The values by parts, after an empty one for the first window."""
        buffered = self._settings.buffersize is not None
        try:
            self._fill()
            yield iter(())
            while not self._over and (part := self._next_part()) is not None:
                values, load = self._open(part)
                del part
                values.reverse()
                if load is None and not buffered:
                    yield self._pop(values, len(values))
                    continue
                # One by one: each is made, or makes room for others, when it is wanted.
                while values and not self._over:
                    if buffered:
                        self._yielded += 1
                        self._fill()
                    if load is not None:
                        values[-1] = load(values[-1])
                    yield self._pop(values, 1)
        finally:
            self.close()

    def _pop(self, values: list[Any], count: int) -> Iterator[Any]:
        """The last values, popped as they are given out: no reference to them is kept here."""
        self._left = repeat(values, count)
        return map(list.pop, self._left)

    # ------------------------------------------------------------ submitting

    def _fill(self) -> None:
        """Submit as much as is worth having on the way."""
        pace = self._pace
        pace.slots = self._client.slots()
        began = monotonic()
        while self._held and self._put(*self._held[0]):
            self._held.popleft()
        while (
            not self._exhausted
            and not self._held
            and len(self._outstanding) < pace.window
            and len(self._order) + len(self._ready) < HELD_WINDOWS * pace.window
            and (self._argument_bytes < ARGUMENT_BYTES_MAX or not self._outstanding)
            and self._result_bytes < RESULT_BYTES_MAX
        ):
            count = self._wanted()
            if not count:
                return
            items = list(islice(self._items, count))
            self._exhausted = len(items) < count
            self._read += len(items)
            if not items:
                return
            self._submit(items)
            if monotonic() > began + HAND_OVER_SECONDS:
                self._client.hand_over()
                began = monotonic()

    def _wanted(self) -> int:
        size = min(self._pace.size, ITEMS_PER_TASK_MAX)
        buffersize = self._settings.buffersize
        if buffersize is None:
            return size
        if self._settings.chunksize is None:
            size = min(size, max(1, buffersize // 4))
        return min(size, buffersize - (self._read - self._yielded))

    def _submit(self, items: list[Any]) -> None:
        """Submit items, cut in halves where they are too large or one of them cannot travel."""
        try:
            if isinstance(self._lane, PayloadError):
                raise self._lane
            payload = dump_items(items, bare=self._bare)
            check_size(len(payload), "the argument list of an item")
        except PayloadError as error:
            if len(items) == 1 or error is self._lane:
                self._failed = self._exhausted = True
                self._put_in_turn(error, len(items))
                return
        else:
            if len(payload) <= 2 * BATCH_BYTES or len(items) == 1 or self._settings.chunksize:
                self._put_in_turn(self._client.keep(payload), len(items))
                return
        half = len(items) // 2
        self._submit(items[:half])
        if not self._failed:
            self._submit(items[half:])

    def _put_in_turn(self, payload: Payload | PayloadError, count: int) -> None:
        if self._held or not self._put(payload, count):
            self._held.append((payload, count))

    def _put(self, payload: Payload | PayloadError, count: int) -> bool:
        """Submit a payload; False if there is no room and something on the way to wait for."""
        if isinstance(payload, PayloadError):
            self._fail(count, payload)
            return True
        if isinstance(self._lane, PayloadError):
            return True
        chunk = Chunk(count, len(payload), self._arrived)
        block = self._settings.block and not self._outstanding
        if not self._client.put_chunk(self._lane, payload, chunk, block=block):
            if not self._outstanding:
                raise self._client.busy(self._lane)
            return False
        self._add(chunk)
        return True

    def _add(self, chunk: Chunk) -> None:
        self._outstanding[chunk.first] = chunk
        if self._settings.ordered:
            self._order.append(chunk)
        self._argument_bytes += chunk.size
        self._pace.submitted(chunk.count, chunk.size)

    def _fail(self, count: int, error: PayloadError) -> None:
        """Items that cannot be submitted fail in their place; none after them is."""
        chunk = Chunk(count, 0, self._arrived)
        chunk.register(-1 - self._read)  # counters that no task has
        self._add(chunk)
        chunk.settle(error, chunk.first, chunk.stop)

    # ------------------------------------------------------------ consuming

    def _next_part(self) -> _Part | None:
        """The next results, waiting for them; None when all have been given out."""
        while True:
            self._gather()
            part = self._next_in_order() if self._settings.ordered else None
            if self._ready:
                part = self._ready.popleft()
            if part is not None and isinstance(part.entry, Result):
                self._result_bytes -= part.entry.size
            self._fill()
            if part is not None:
                return part
            if not self._outstanding:
                return None
            self._wait()

    def _next_in_order(self) -> _Part | None:
        order = self._order
        while order and order[0].position == order[0].stop:
            order.popleft()
        part = self._parts.pop(order[0].position, None) if order else None
        if part is not None:
            part.chunk.position = part.stop
        return part

    def _gather(self) -> None:
        """Take in what has arrived."""
        while not self._arrived.empty():
            self._take(self._arrived.get_nowait())

    def _wait(self) -> None:
        """Wait until something arrives; raises ``TimeoutError`` at the map's deadline."""
        deadline = self._settings.deadline
        try:
            left = None if deadline is None else min(max(0.0, deadline - monotonic()), TIMEOUT_MAX)
            self._take(waits.wait(self._arrived.get, True, left))
        except Empty:
            raise TimeoutError("the next result of the map did not come in time") from None

    def _take(self, part: _Part | None) -> None:
        if part is None or self._over:  # it was closed, perhaps by another thread
            return
        chunk, entry = part.chunk, part.entry
        if isinstance(entry, Result):
            self._result_bytes += entry.size
            items = part.stop - part.start
            self._pace.finished(items, chunk.count, entry.seconds * items / entry.count)
        if self._settings.ordered:
            self._parts[part.start] = part
        else:
            self._ready.append(part)
        chunk.left -= part.stop - part.start
        if not chunk.left:
            del self._outstanding[chunk.first]
            self._argument_bytes -= chunk.size

    def _open(self, part: _Part) -> tuple[list[Any], Callable[[Any], Any] | None]:
        """The values of a part, or what makes values of them; raises what the first one raises."""
        entry = part.entry
        if isinstance(entry, Exception):
            raise entry
        if entry.ending is not Ending.OK:
            raise self._client.error_at(entry, part.start)
        start, stop = part.start - entry.first, part.stop - entry.first
        if not entry.packed:
            return entry.payloads[start:stop], load_value
        values, load = open_values(entry.payloads[0])
        return values[start:stop], load

    def close(self) -> None:
        """Cancel what is on the way, and forget everything."""
        if self._over:
            return
        self._over = True
        deque(self._left, maxlen=0)
        if waiting := [chunk for chunk in self._outstanding.values() if chunk.first > 0]:
            self._client.drop_chunks(waiting)
        self._outstanding.clear()
        self._order.clear()
        self._parts.clear()
        self._ready.clear()
        self._held.clear()
        self._items = iter(())
        self._arrived.put(None)  # whoever waits in another thread need not any more
        self._ended()
