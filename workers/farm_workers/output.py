"""What workers print: passed on to this process's own streams, and the end of it kept.

Every worker has two pipes for its descriptors 1 and 2, so that whatever writes there is heard, C
libraries and child processes too. The agent reads them without blocking; a thread writes to our
own streams, which may block for as long as nobody reads the terminal: then only workers that
print wait for it.
"""

import contextlib
import os
import select
import selectors
import threading
import time
from collections import deque
from typing import Protocol

__all__ = ["TAIL_BYTES", "Forwarder", "Outputs", "Poller"]

TAIL_BYTES = 64 << 10
"""How much of a worker's output during an attempt is kept as evidence."""
READ_BYTES = 64 << 10
TURN_BYTES = 1 << 20
"""The agent reads about this much of one worker's output before others have their turn."""
WAITING_BYTES_MAX = 1 << 20
"""Output that waits to be written beyond this is not read from the workers' pipes."""
AGAIN_SECONDS = 0.01
NEVER = float("inf")
POLLIN = 1
STDOUT, STDERR = 1, 2


class Poller(Protocol):
    """What is told which descriptors to wait for: a ``farm.transport.Poller``."""

    def register(self, fd: int, flags: int) -> object:
        """Wait for these events of a descriptor, instead of others."""

    def unregister(self, fd: int) -> object:
        """Wait for it no more."""


class Forwarder:
    """Writes to this process's streams, in order, on a thread that starts with the first output."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[tuple[int, bytes]] = deque()  # bounded by WAITING_BYTES_MAX
        self._bytes = 0
        self._busy = False
        self._thread: threading.Thread | None = None

    @property
    def full(self) -> bool:
        """Whether so much waits that no more should be read."""
        return self._bytes >= WAITING_BYTES_MAX

    def put(self, stream: int, data: bytes) -> None:
        """Have something written to the descriptor 1 or 2."""
        with self._changed:
            self._waiting.append((stream, data))
            self._bytes += len(data)
            if self._thread is None:
                self._thread = threading.Thread(target=self._write, name="farm-out", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def finish(self, seconds: float) -> None:
        """Wait until everything is written, but not longer than this."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._waiting or self._busy), seconds)

    def _write(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting)
                self._busy = True
                stream, data = self._waiting.popleft()
                self._bytes -= len(data)
            rest = memoryview(data)
            with contextlib.suppress(OSError):  # nobody reads it any more, and nobody misses it
                while rest:
                    try:
                        rest = rest[os.write(stream, rest) :]
                    except BlockingIOError:  # as somebody wants it who has the same file
                        select.select([], [stream], [])


class _Output:
    """The pipes of one worker, and the end of what came out of them."""

    def __init__(self) -> None:
        self.fds: dict[int, int] = {}  # the stream of each reading end
        self.poll = select.poll()  # of both
        self._tail: deque[bytes] = deque()  # bounded by TAIL_BYTES
        self._size = 0
        self._written = 0  # in all, since it was taken

    @property
    def silent(self) -> bool:
        """Whether nothing was written since the tail was taken. Asked often: one system call."""
        return not (self._size or self.poll.poll(0))

    def add(self, data: bytes) -> None:
        self._tail.append(data)
        self._size += len(data)
        self._written += len(data)
        while self._size - len(self._tail[0]) >= TAIL_BYTES:
            self._size -= len(self._tail.popleft())

    def take(self) -> bytes:
        data = b"".join(self._tail)[-TAIL_BYTES:]
        self._tail.clear()
        self._size = self._written = 0
        return data

    def peek(self, since: int) -> tuple[bytes, int]:
        data = b"".join(self._tail)[-TAIL_BYTES:]
        start = self._written - len(data)
        since = min(max(since, start), self._written)
        return data[since - start :], since


class Outputs:
    """The output of all workers of an agent, by slot.

    ``fd`` is what the poller names when there is something to read.
    """

    def __init__(self, poller: Poller) -> None:
        self.forwarder = Forwarder()
        self._poller = poller
        self._selector = selectors.DefaultSelector()
        self.fd = self._selector.fileno()
        self._polled = False
        self._slots: dict[int, _Output] = {}
        self._lock = threading.Lock()  # from a pipe to the forwarder in one step
        self.listen()

    def open(self, slot: int) -> tuple[int, int]:
        """Pipes for a new worker; returns its ends, to be closed here once it has them."""
        first = os.pipe()
        try:
            second = os.pipe()
        except OSError:
            for fd in first:
                os.close(fd)
            raise
        output = self._slots[slot] = _Output()
        for stream, (reading, _) in ((STDOUT, first), (STDERR, second)):
            os.set_blocking(reading, False)
            output.fds[reading] = stream
            output.poll.register(reading, select.POLLIN)
            self._selector.register(reading, selectors.EVENT_READ, slot)
        return first[1], second[1]

    def on_event(self) -> None:
        """Some pipes can be read, or nobody can write to them any more: that is said only once."""
        for key, _ in self._selector.select(0):
            self.read(key.data)
            if (key.fd, select.POLLHUP) in self._slots[key.data].poll.poll(0):  # and it is empty
                self._selector.unregister(key.fd)

    def read(self, slot: int) -> None:
        """Read what a worker has written, as far as there is room for it."""
        with self._lock:
            output = self._slots[slot]
            for fd, stream in output.fds.items():
                left = TURN_BYTES
                while left > 0 and not self.forwarder.full and (data := _read(fd)):
                    output.add(data)
                    self.forwarder.put(stream, data)
                    left -= len(data)

    def take(self, slot: int) -> bytes:
        """The end of what a worker has written since this was asked last."""
        output = self._slots[slot]
        if output.silent:
            return b""
        self.read(slot)
        return output.take()

    def peek(self, slot: int, since: int) -> tuple[bytes, int]:
        """The end of the same from byte ``since`` on, which stays, and where it begins."""
        self.read(slot)
        return self._slots[slot].peek(since)

    def close(self, slot: int) -> bytes:
        """A worker is gone, and everybody who could write with it; the end of what it wrote.

        What is still in the pipes is kept, but not passed on if nobody reads that anyway.
        """
        self.read(slot)
        with self._lock:
            output = self._slots.pop(slot)
        for fd in output.fds:
            while data := _read(fd):
                output.add(data)
            if fd in self._selector.get_map():
                self._selector.unregister(fd)
            os.close(fd)
        return output.take()

    def listen(self) -> None:
        """Hear what is printed, unless too much of it waits to be written."""
        if self._polled is self.forwarder.full:
            self._polled = not self._polled
            if self._polled:
                self._poller.register(self.fd, POLLIN)
            else:
                self._poller.unregister(self.fd)

    def next_deadline(self, now: float) -> float:
        """When ``listen`` is next needed."""
        return NEVER if self._polled else now + AGAIN_SECONDS

    def last_words(self, seconds: float) -> None:
        """Pass on what is in the pipes, within this time; may be called from any thread."""
        until = time.monotonic() + seconds
        for slot in list(self._slots):
            with contextlib.suppress(KeyError):  # closed by the agent's own thread
                self.read(slot)
        self.forwarder.finish(max(0.0, until - time.monotonic()))


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, READ_BYTES)
    except OSError:  # nothing there now
        return b""
