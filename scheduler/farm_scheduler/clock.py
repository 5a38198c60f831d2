"""Waiting for a time of day: woken early by a byte, a signal, or somebody who sets the clock."""

import contextlib
import ctypes
import errno
import os
import select
import struct
import sys
import time
from datetime import UTC, datetime
from typing import Final

__all__ = ["Alarm", "Watched", "utc_text"]

REALTIME: Final = 0
ABSOLUTE_AND_CANCEL_ON_SET: Final = 0b11
NONBLOCK_AND_CLOEXEC: Final = os.O_NONBLOCK | os.O_CLOEXEC
LOOK_SECONDS = 1.0
"""Where a clock that is set cannot wake us: how long it may be before we see it."""
JUMP_SECONDS = 2.0
"""By how much a clock may differ from what has passed before anything is said of it."""
CALENDAR = (-62_135_596_800, 253_402_300_799)
"""The first second of the year 1 and the last of 9999: a time with an offset can be outside."""


class Watched:
    """Notices that the clock was set, by a clock that nobody can set."""

    def __init__(self, now: float, passed: float) -> None:
        self._now = now
        self._passed = passed

    def jumped(self, now: float, passed: float) -> str:
        """What to say of it, if the clock was set since the last look."""
        jump = (now - self._now) - (passed - self._passed)
        self._now, self._passed = now, passed
        if abs(jump) < JUMP_SECONDS:
            return ""
        if jump > 0:
            return (
                f"the clock is {jump:.0f} s ahead of what has passed: it was set, or this machine "
                "slept; what was due meanwhile goes by misfire and catch_up"
            )
        return (
            f"the clock was set back by {-jump:.0f} s: nothing fires twice, so schedules fire "
            f"again after {utc_text(now - jump)}; set it right if that is wrong"
        )


def utc_text(at: float) -> str:
    """An instant, as logs have it; outside the calendar, that of its end which is nearer."""
    inside = min(max(at, CALENDAR[0]), CALENDAR[1])
    return datetime.fromtimestamp(inside, UTC).isoformat(" ", "seconds")


class Alarm:
    """Sleeps until a wall-clock time; ``wake`` ends it, from any thread or signal handler.

    On Linux the kernel says when the clock is set; elsewhere it is looked at every second.
    """

    def __init__(self) -> None:
        self._out, self._in = os.pipe2(NONBLOCK_AND_CLOEXEC) if _LINUX else _pipe()
        self._timer = _timer()
        self._poller = select.poll()
        for fd in (self._out, self._timer):
            if fd >= 0:
                self._poller.register(fd, select.POLLIN)

    def watch(self, fd: int) -> None:
        """Wake up when something can be read there; the reader empties it."""
        self._poller.register(fd, select.POLLIN)

    def wake(self) -> None:
        """End the sleep, or the next one."""
        with contextlib.suppress(BlockingIOError):  # it is full of reasons to wake up
            os.write(self._in, b"w")

    def sleep(self, until: float | None) -> None:
        """Return at a time of the wall clock, or somewhat before it."""
        if self._timer >= 0:
            _set(self._timer, until)
            timeout = -1.0
        else:
            timeout = LOOK_SECONDS
            if until is not None:
                timeout = min(timeout, max(until - time.time(), 0.0))
        if until is not None and until <= time.time():
            timeout = 0.0
        self._poller.poll(None if timeout < 0 else timeout * 1000)
        with contextlib.suppress(BlockingIOError):
            while os.read(self._out, 4096):
                pass
        if self._timer >= 0:
            _clear(self._timer)

    def close(self) -> None:
        """Give the descriptors back."""
        for fd in (self._out, self._in, self._timer):
            if fd >= 0:
                os.close(fd)


_LINUX = sys.platform == "linux"


def _pipe() -> tuple[int, int]:
    ends = os.pipe()
    for fd in ends:
        os.set_blocking(fd, False)
    return ends


def _timer() -> int:
    """A timer of the wall clock; -1 where there is none."""
    if not _LINUX:
        return -1
    try:
        return int(ctypes.CDLL(None).timerfd_create(REALTIME, NONBLOCK_AND_CLOEXEC))
    except (OSError, AttributeError):
        return -1


def _set(timer: int, until: float | None) -> None:
    whole, part = divmod(max(until or 0.0, 0.0), 1.0)
    setting = struct.pack("qqqq", 0, 0, int(whole), int(part * 1e9))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.timerfd_settime(timer, ABSOLUTE_AND_CANCEL_ON_SET, setting, None):
        code = ctypes.get_errno()
        if code != errno.ECANCELED:  # the clock was set meanwhile
            raise OSError(code, os.strerror(code))


def _clear(timer: int) -> None:
    with contextlib.suppress(BlockingIOError):
        try:
            os.read(timer, 8)
        except OSError as error:
            if error.errno != errno.ECANCELED:
                raise
