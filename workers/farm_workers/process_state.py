"""What tasks may change of their process, put back between slices so that the next never notices.

It takes 30 µs, so slices of a few microseconds share it. What cannot be put back makes the process
be replaced.
"""

import _signal  # type: ignore[import-not-found]
import contextlib
import faulthandler
import fcntl
import gc
import io
import locale
import os
import resource
import signal
import socket
import sys
from typing import Any, TextIO

from farm_workers import kin

__all__ = ["ProcessState"]

HIGH_FD = 100
"""Copies of the descriptors 0 to 2 stand above this: tasks that close low ones leave them."""
ZOMBIES_MAX = 32
"""Children that tasks have left behind, ended and never waited for."""
_SIGNALS = sorted({*map(int, signal.valid_signals())} - {signal.SIGKILL, signal.SIGSTOP})
_SIGNALS = [number for number in _SIGNALS if number < 32]  # noqa: PLR2004 - not the real-time ones
_RLIMITS = tuple(
    getattr(resource, name)
    for name in ("RLIMIT_AS", "RLIMIT_CPU", "RLIMIT_DATA", "RLIMIT_FSIZE", "RLIMIT_NOFILE")
    if hasattr(resource, name)
)
_getsignal = _signal.getsignal  # without making enums of the answers
_STREAMS = ("stdin", "stdout", "stderr")


class ProcessState:
    """This process as it is now, in the main thread; ``restore`` makes it so again."""

    def __init__(self) -> None:
        self._streams: list[TextIO] = [_stream(name, fd) for fd, name in enumerate(_STREAMS)]
        self._copies = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, HIGH_FD) for fd in range(3)]
        self._files = [_file(fd) for fd in range(3)]
        self._put_streams()
        self._folder = os.open(".", os.O_RDONLY | os.O_CLOEXEC)
        self._cwd = os.getcwd()  # noqa: PTH109 - compared often
        self._umask = os.umask(0o022)
        os.umask(self._umask)
        self._environment = _environment().copy()
        self._handlers = [_getsignal(number) for number in _SIGNALS]
        self._mask = [*map(int, signal.pthread_sigmask(signal.SIG_BLOCK, ()))]
        self._locale = locale.setlocale(locale.LC_ALL)
        self._knobs = _knobs()
        self._fate = _fate()

    def restore(self) -> str:
        """Undo what tasks have changed; returns why that is impossible, or nothing."""
        try:
            self._restore_files()
            self._restore_process()
            if _knobs() != self._knobs:
                self._turn_knobs()
            return self._spoilt()
        except Exception as error:  # noqa: BLE001 -- a process that cannot be put right is replaced
            return f"its state cannot be restored: {error!r}"

    def _restore_files(self) -> None:
        for fd in range(3):
            if _file(fd) != self._files[fd]:
                os.dup2(self._copies[fd], fd)
        out, err = self._streams[1], self._streams[2]
        if sys.stdout is not out or sys.stderr is not err or out.closed or err.closed:
            self._streams = [
                _stream(name, fd) if one.closed else one
                for fd, (name, one) in enumerate(zip(_STREAMS, self._streams, strict=True))
            ]
            self._put_streams()

    def _put_streams(self) -> None:
        sys.stdin, sys.stdout, sys.stderr = self._streams
        for name, stream in zip(_STREAMS, self._streams, strict=True):
            setattr(sys, f"__{name}__", stream)

    def _restore_process(self) -> None:
        if _cwd() != self._cwd:
            os.fchdir(self._folder)
        os.umask(self._umask)
        environment = _environment()
        if environment != self._environment:
            os.environ.clear()
            environment.update(self._environment)
            for name, value in self._environment.items():
                os.putenv(name, value)
        if [_getsignal(number) for number in _SIGNALS] != self._handlers:
            self._restore_handlers()
        for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
            signal.setitimer(timer, 0)
        _signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        signal.set_wakeup_fd(-1)
        if locale.setlocale(locale.LC_ALL) != self._locale:
            locale.setlocale(locale.LC_ALL, self._locale)

    def _restore_handlers(self) -> None:
        for number, handler in zip(_SIGNALS, self._handlers, strict=True):
            if _getsignal(number) != handler and handler is not None:
                signal.signal(number, handler)
        # Its handlers are replaced by those of Python, and it does not notice.
        faulthandler.disable()
        faulthandler.enable(2)
        faulthandler.unregister(signal.SIGTERM)
        faulthandler.register(signal.SIGTERM, 2, chain=True)

    def _turn_knobs(self) -> None:
        recursion, interval, collects, timeout, *_ = self._knobs
        sys.setrecursionlimit(recursion)
        sys.setswitchinterval(interval)
        if collects:
            gc.enable()
        socket.setdefaulttimeout(timeout)
        sys.settrace(None)
        sys.setprofile(None)
        pickling = sys.modules.get("pickle")
        if pickling is not None:
            pickling.DEFAULT_PROTOCOL = self._knobs[-1]  # type: ignore[attr-defined]

    def _spoilt(self) -> str:
        if _fate() != self._fate:
            with contextlib.suppress(OSError, ValueError):
                os.setpriority(os.PRIO_PROCESS, 0, self._fate[2])
                for kind, limits in zip(_RLIMITS, self._fate[3:], strict=True):
                    resource.setrlimit(kind, limits)
            if _fate() != self._fate:
                return "a task has changed its user, priority or resource limits"
        if _has_zombie() and len(kin.children(os.getpid())) > ZOMBIES_MAX:
            return f"tasks have left more than {ZOMBIES_MAX} child processes behind"
        return ""


def _stream(name: str, fd: int) -> TextIO:
    """The standard stream of a descriptor: that which there is, or a new one."""
    found: Any = getattr(sys, name)
    if isinstance(found, io.TextIOWrapper) and not found.closed:
        if fd:
            found.reconfigure(line_buffering=True, write_through=False)  # whole lines
        return found
    return open(fd, "w" if fd else "r", 1, "utf-8", "backslashreplace", closefd=False)


def _file(fd: int) -> tuple[int, int] | None:
    try:
        found = os.fstat(fd)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _cwd() -> str:
    try:
        return os.getcwd()  # noqa: PTH109 - a text is all that is needed
    except OSError:  # it was removed
        return ""


def _environment() -> dict[Any, Any]:
    """The variables as they are kept: reading them one by one would take ten times as long."""
    return os.environ._data  # type: ignore[attr-defined, no-any-return]  # noqa: SLF001


def _knobs() -> list[Any]:
    """Settings of the interpreter and its library that can be put back."""
    return [
        sys.getrecursionlimit(),
        sys.getswitchinterval(),
        gc.isenabled(),
        socket.getdefaulttimeout(),
        sys.gettrace(),
        sys.getprofile(),
        getattr(sys.modules.get("pickle"), "DEFAULT_PROTOCOL", None),
    ]


def _fate() -> list[Any]:
    """What the kernel may not let a process take back."""
    return [
        os.getresuid() if hasattr(os, "getresuid") else os.geteuid(),
        os.getresgid() if hasattr(os, "getresgid") else os.getegid(),
        os.getpriority(os.PRIO_PROCESS, 0),
        *map(resource.getrlimit, _RLIMITS),
    ]


def _has_zombie() -> bool:
    """Whether a child has ended and was not waited for."""
    if not hasattr(os, "waitid"):
        return False
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False
