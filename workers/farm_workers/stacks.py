"""The stacks of a worker's threads, told at any time and without stopping anything.

The worker has ``faulthandler`` write them to a pipe when a signal comes: in C, so that a task that
never comes back to Python, or holds its lock, is told of too. The signal is one that nobody uses
and that does nothing where its handler is gone.
"""

import contextlib
import faulthandler
import fcntl
import os
import signal
from collections.abc import Callable

from farm_workers.output import POLLIN, Poller

__all__ = ["Stacks", "offer", "offer_again"]

SIGNAL = signal.SIGURG
HIGH_FD = 100
"""Tasks that close descriptors close low ones."""
QUIET_SECONDS = 0.05
"""All of the stacks is there when nothing more came for so long."""
PATIENCE_SECONDS = 2.0
BYTES_MAX = 1 << 20
READ_BYTES = 1 << 16
NEVER = float("inf")
NO_ANSWER = (
    f"its worker did not answer within {PATIENCE_SECONDS:g} s: the process is stopped, or the task "
    f"has taken the signal {SIGNAL.name} for itself, which is given back when it ends"
)

Answer = Callable[[int, bytes, int, str], None]
"""``(question, data, start, error)``."""

_fd = -1


def offer(fd: int) -> None:
    """In a worker: write the stacks there whenever the signal comes. The descriptor is copied."""
    global _fd  # noqa: PLW0603 -- as is the handler, it is the process's
    _fd = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, HIGH_FD)
    offer_again()


def offer_again() -> None:
    """In a worker: a task may have replaced the handler."""
    if _fd >= 0:
        faulthandler.unregister(SIGNAL)
        faulthandler.register(SIGNAL, _fd, all_threads=True, chain=False)


class _Asked:
    """A worker that was asked, and what it has said."""

    def __init__(self, now: float) -> None:
        self.questions: list[int] = []  # bounded by those of the host
        self.data = bytearray()
        self.heard_out = False
        self.due = now + PATIENCE_SECONDS


class Stacks:
    """The agent's side: a pipe for each slot, polled while its worker is asked."""

    def __init__(self, poller: Poller) -> None:
        self._poller = poller
        self._fds: dict[int, int] = {}  # the reading ends, by slot
        self._slots: dict[int, int] = {}
        self._asked: dict[int, _Asked] = {}

    def open(self, slot: int) -> int:
        """A pipe for a new worker; returns its end, to be closed here once it has it."""
        reading, writing = os.pipe()
        for fd in (reading, writing):
            os.set_blocking(fd, False)  # a worker must not wait in the handler
        self._fds[slot] = reading
        self._slots[reading] = slot
        return writing

    def __contains__(self, fd: int) -> bool:
        return fd in self._slots

    def ask(self, slot: int, pid: int, question: int, now: float) -> None:
        """Ask a worker; what it says is told in ``on_time``."""
        asked = self._asked.get(slot)
        if asked is None:
            self._read(self._fds[slot])  # what came too late for those who asked before
            asked = self._asked[slot] = _Asked(now)
            self._poller.register(self._fds[slot], POLLIN)
            with contextlib.suppress(ProcessLookupError):  # its end is told in its turn
                os.kill(pid, SIGNAL)
        asked.questions.append(question)

    def on_event(self, fd: int, now: float) -> None:
        """A worker says something."""
        asked = self._asked.get(self._slots[fd])
        if asked is None:
            return
        if data := self._read(fd):
            asked.data += data[: BYTES_MAX - len(asked.data)]
            asked.due = now + QUIET_SECONDS
        else:  # it has ended, as will be said in its turn
            self._poller.unregister(fd)
            asked.heard_out = True

    def on_time(self, now: float, answer: Answer) -> None:
        """Tell what is complete, or will not come."""
        if not self._asked:
            return
        for slot, asked in list(self._asked.items()):
            if now >= asked.due:
                self._finish(slot, answer, NO_ANSWER)

    def next_deadline(self) -> float:
        """When ``on_time`` is next needed."""
        if not self._asked:
            return NEVER
        return min(asked.due for asked in self._asked.values())

    def close(self, slot: int, answer: Answer) -> None:
        """A worker is gone."""
        if slot in self._asked:
            self._finish(slot, answer, "its worker has ended")
        if (fd := self._fds.pop(slot, None)) is not None:
            del self._slots[fd]
            os.close(fd)

    def _finish(self, slot: int, answer: Answer, error: str) -> None:
        asked = self._asked.pop(slot)
        if not asked.heard_out:
            self._poller.unregister(self._fds[slot])
        for question in asked.questions:
            answer(question, bytes(asked.data), 0, "" if asked.data else error)

    def _read(self, fd: int) -> bytes:
        found = bytearray()
        with contextlib.suppress(OSError):  # nothing there now
            while len(found) < BYTES_MAX and (data := os.read(fd, READ_BYTES)):
                found += data
        return bytes(found)
