"""What a worker has to say about the slice it runs, from the item's return to the pipe.

The worker's thread adds entries without a lock; whoever flushes, it or the flusher thread, takes
them from the front under one. An entry is a bare value (of a packed slice), the payload of a
value, or ``Raised``.
"""

import threading
import time
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any, NamedTuple

from farm.blobs import Blobs, Held
from farm.errors import PayloadError, SoftTimeLimitExceeded, TaskError, TaskStopped
from farm.json_payload import Json
from farm.model import Ending, Payload
from farm.payload import (
    PAYLOAD_BYTES_MAX,
    SourceDiffers,
    check_size,
    dump_exception,
    dump_value,
    dump_values,
)
from farm.protocol.messages import BATCH_BYTES, TASKS_PER_MESSAGE_MAX, Failure
from farm_workers.channel import Ends, Pipe
from farm_workers.host_slices import TRACEBACK_CHARS_MAX, Slice, SliceEnd
from farm_workers.memory import peak_bytes

__all__ = ["FLUSH_SECONDS", "Dumped", "Outcomes", "Raised", "explained", "raised"]

FLUSH_SECONDS = 0.005
"""Outcomes wait no longer than about this for those after them."""
DORMANT_SECONDS = 1.0
"""The flusher sleeps for good after this long without a slice of several tasks."""


_CAUSES = ((SoftTimeLimitExceeded, "soft_time_limit"), (TaskStopped, "stopped"))


class Dumped(NamedTuple):
    """The payload of a value of a packed slice that could still change."""

    data: Payload


class Raised(NamedTuple):
    """The payload of an exception, and what to say about it without opening it."""

    data: bytes
    type_name: str
    message: str
    traceback: str
    cause: str = "exception"
    final: bool = False


def raised(error: BaseException, *, final: bool = False) -> Raised:
    """How an exception travels; never fails."""
    cause = next((cause for kind, cause in _CAUSES if isinstance(error, kind)), "exception")
    return Raised(*dump_exception(error), cause, final)


def explained(error: BaseException, host: str) -> BaseException:
    """What went wrong before a task began, if it is that a module is not installed on this host."""
    if isinstance(error, SourceDiffers):
        return TaskError(f"on host {host}: {error}", "SourceDiffers")
    missing = error.__cause__
    if not isinstance(error, PayloadError) or not isinstance(missing, ModuleNotFoundError):
        return error
    return TaskError(
        f"the task needs the module {missing.name!r}, which host {host} does not have: "
        "install it there, put its folder on the host's PYTHONPATH, or let the client send "
        "the module with its functions: cloudpickle.register_pickle_by_value(module)",
        "ModuleNotFoundError",
    )


class Outcomes:
    """The outcomes of one slice after the other. ``entries`` is the worker's to append to.

    ``held``: the task that runs may have submitted others, so its outcome, when it is here, must
    not be said before the worker says so.
    """

    def __init__(self, pipe: Pipe, disowned: Callable[[], bool]) -> None:
        self.entries: list[Any] = []
        self.blobs: Blobs | None = None
        self.held = False
        # As they are now: tasks may replace what a module has, and those that freeze time do.
        self._clock, self._sleep = time.monotonic, time.sleep
        self._pipe = pipe
        self._disowned = disowned
        self._lock = threading.Lock()
        self._part: Slice | None = None
        self._next = 0  # the counter of the first entry
        self._mark = 0.0  # when the first entry began
        self._ended: list[SliceEnd] = []
        self._sent = 0.0
        self._flusher: threading.Thread | None = None
        self._several = threading.Event()
        self._several_at = 0.0

    def begin(self, part: Slice) -> None:
        """The worker begins a slice."""
        with self._lock:
            self._part = part
            self._next = part.first
            self._mark = now = self._clock()
        if part.count > 1:
            self._several_at = now
            if self._flusher is None:
                self._flusher = threading.Thread(target=self._flush_often, daemon=True)
                self._flusher.start()
            if not self._several.is_set():
                self._several.set()

    def finish(self, *, more: bool) -> None:
        """The slice is over. With more to come at once its outcomes may wait for the next."""
        with self._lock:
            self._collect()
            self._part = None
            now = self._clock()
            if not more or now > self._sent + FLUSH_SECONDS:
                self._send(now)

    def skip(self, first: int) -> None:
        """Nothing of the slice from this task on has begun, nor will."""
        with self._lock:
            self._collect()
            part = self._part
            if part is not None:
                count = part.first + part.count - first
                self._ended.append(part.end(first, count, Ending.CANCELLED, []))

    def flush(self) -> None:
        """Say what there is."""
        with self._lock:
            self._collect()
            self._send(self._clock())

    def say(self, message: Any) -> None:
        """Write another message to the pipe."""
        with self._lock:
            if not self._disowned():
                self._pipe.put(message)

    def unlock(self) -> None:
        """In a forked process: nobody else holds the lock, though somebody did in the parent."""
        self._lock = threading.Lock()

    def _flush_often(self) -> None:
        while True:
            self._several.wait()
            self._sleep(FLUSH_SECONDS)
            try:
                if self._flush_early():
                    continue
            except MemoryError:
                continue  # the task has all of it, and may give it back
            except OSError:
                return  # the agent is gone; the worker's thread will see it too
            if self._clock() > self._several_at + DORMANT_SECONDS:
                self._several.clear()

    def _flush_early(self) -> bool:
        """Say what has ended while the next item runs; no, if the worker has yet to judge it."""
        if not self.entries and not self._ended:
            return False
        with self._lock:
            part = self._part
            count = len(self.entries)  # before the look: what ends after it may have to wait
            if self.held or (part is not None and part.memory_limit is not None):
                return False
            self._collect(count)
            self._send(self._clock())
            return True

    def _send(self, now: float) -> None:
        if self._ended and not self._disowned():
            parts, self._ended = self._ended, []
            self._pipe.put(Ends(parts))
            self._sent = now

    def _collect(self, count: int | None = None) -> None:
        """Turn entries, all or so many, into runs that ended alike; called with the lock held."""
        part = self._part
        if count is None:
            count = len(self.entries)
        if part is None or not count:
            return
        entries = self.entries[:count]
        runs = _packed_runs if part.packed else _runs
        ended = list(runs(entries, self.blobs))
        del self.entries[:count]  # now: there may be no memory for the above
        now = self._clock()
        each = (now - self._mark) / count
        self._mark = now
        peak = 0
        for ending, size, payloads, failure, packed in ended:
            end = part.end(self._next, size, ending, payloads, packed=packed, failure=failure)
            end.seconds = each * size
            if failure is not None:
                failure.peak_bytes = peak = peak or peak_bytes()
            self._ended.append(end)
            self._next += size


Ended = tuple[Ending, int, list[Payload], Failure | None, bool]
"""Ending, number of tasks, payloads, evidence, and whether one payload holds all the values."""


def _runs(entries: list[Any], blobs: Blobs | None) -> Iterator[Ended]:
    for kind, found in groupby(entries, type):
        run = list(found)
        if kind is Raised:
            yield from (_exception(entry, blobs) for entry in run)
        else:
            for start in range(0, len(run), TASKS_PER_MESSAGE_MAX):
                some = run[start : start + TASKS_PER_MESSAGE_MAX]
                yield Ending.OK, len(some), some, None, False


def _packed_runs(entries: list[Any], blobs: Blobs | None) -> Iterator[Ended]:
    if {Dumped, Raised}.isdisjoint(map(type, entries)):  # in a tenth of the time, and mostly so
        yield from _values(entries, blobs)
        return
    for kind, found in groupby(entries, _kind):
        run = list(found)
        if kind is Raised:
            yield from (_exception(entry, blobs) for entry in run)
        elif kind is Dumped:
            yield from _runs([entry.data for entry in run], blobs)
        else:
            yield from _values(run, blobs)


def _kind(entry: Any) -> type | None:
    kind = type(entry)
    return kind if kind is Dumped or kind is Raised else None


def _values(values: list[Any], blobs: Blobs | None) -> Iterator[Ended]:
    """Bare values, in one payload unless that would be large."""
    data = dump_values(values, plain=True)
    if len(data) <= BATCH_BYTES:
        yield Ending.OK, len(values), [_kept(data, blobs)], None, True
    elif len(values) > 1:
        half = len(values) // 2
        yield from _values(values[:half], blobs)
        yield from _values(values[half:], blobs)
    else:
        yield from _runs([payload_of(values[0], blobs)], blobs)


def payload_of(value: Any, blobs: Blobs | None) -> Payload | Raised:
    """The payload of a value, or why it has none."""
    try:
        data = value.payload(blobs) if type(value) is Json else dump_value(value, blobs)
        if len(data) > PAYLOAD_BYTES_MAX:
            check_size(len(data), "the result")
    except PayloadError as error:
        return raised(error)
    return data.give() if isinstance(data, Held) else data


def _kept(data: bytes, blobs: Blobs | None) -> Payload:
    """A payload as it is said: in a file of the agent's if it is large."""
    kept = data if blobs is None else blobs.keep(data)
    return kept.give() if isinstance(kept, Held) else kept


def _exception(entry: Raised, blobs: Blobs | None) -> Ended:
    failure = Failure(entry.cause, entry.message, type_name=entry.type_name)
    failure.traceback = entry.traceback[-TRACEBACK_CHARS_MAX:]
    failure.final = entry.final
    return Ending.EXCEPTION, 1, [_kept(entry.data, blobs)], failure, False
