"""What tasks may change of their process, put back between slices so that the next never notices.

It takes 13 µs, so slices of a few microseconds share it. What cannot be put back makes the process
be replaced.
"""

import _signal  # type: ignore[import-not-found]
import faulthandler
import fcntl
import gc
import io
import locale
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from farm_workers import kin, stacks

__all__ = ["ProcessState", "renew_streams"]

HIGH_FD = 100
"""Copies of the descriptors 0 to 2 stand above this: tasks that close low ones leave them."""
ZOMBIES_MAX = 32
"""Children that tasks have left behind, ended and never waited for."""
ZOMBIE_SECONDS = 0.1
"""How often to look for them."""
_SIGNALS = sorted({*map(int, signal.valid_signals())} - {signal.SIGKILL, signal.SIGSTOP})
_SIGNALS = [number for number in _SIGNALS if number < 32]  # noqa: PLR2004 - not the real-time ones
_getsignal = _signal.getsignal  # without making enums of the answers
_STREAMS = ("stdin", "stdout", "stderr")


class ProcessState:
    """This process as it is now, in the main thread; ``restore`` makes it so again."""

    def __init__(self) -> None:
        self._streams: list[TextIO] = [_stream(name, fd) for fd, name in enumerate(_STREAMS)]
        for fd in (1, 2):  # which means nothing for a pipe, and so tells ours from others
            fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_APPEND)
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
        self._rlimits = _rlimits()
        self._zombies_at = 0.0

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
                fcntl.fcntl(fd, fcntl.F_SETFL, self._files[fd])  # the copies share the file's flags
        out, err = self._streams[1], self._streams[2]
        if sys.stdout is not out or sys.stderr is not err or _is_over(out) or _is_over(err):
            self._streams = [
                _opened(fd) if _is_over(one) else one for fd, one in enumerate(self._streams)
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
        if list(map(_getsignal, _SIGNALS)) != self._handlers:
            self._restore_handlers()
        signal.alarm(0)
        faulthandler.cancel_dump_traceback_later()
        _signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        signal.set_wakeup_fd(-1)
        if locale.setlocale(locale.LC_ALL) != self._locale:
            locale.setlocale(locale.LC_ALL, self._locale)

    def _restore_handlers(self) -> None:
        for number, handler in zip(_SIGNALS, self._handlers, strict=True):
            if _getsignal(number) != handler and handler is not None:
                signal.signal(number, handler)
        for timer in (signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):  # useless without a handler
            signal.setitimer(timer, 0)
        # Its handlers are replaced by those of Python, and it does not notice.
        faulthandler.disable()
        faulthandler.enable(2)
        faulthandler.unregister(signal.SIGTERM)
        faulthandler.register(signal.SIGTERM, 2, chain=True)
        stacks.offer_again()

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
            return "a task has changed its user or its priority"
        # Reading them takes as long as all else; who changes them has imported one of these.
        if ("resource" in sys.modules or "psutil" in sys.modules) and _rlimits() != self._rlimits:
            return "a task has changed its resource limits"
        now = time.monotonic()
        if now >= self._zombies_at:
            self._zombies_at = now + ZOMBIE_SECONDS
            if _has_zombie() and len(kin.children(os.getpid())) > ZOMBIES_MAX:
                return f"tasks have left more than {ZOMBIES_MAX} child processes behind"
        return ""


def renew_streams() -> None:
    """After other files were put in the place of 1 and 2: a stream remembers that it can be sought.

    Whoever makes another of it then fails, as nobody can seek in a pipe.
    """
    for fd, name in enumerate(_STREAMS):
        found = getattr(sys, name)
        if fd and isinstance(found, io.TextIOWrapper) and not _is_over(found) and found.seekable():
            stream = _opened(fd, found.encoding, found.errors)
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


def _stream(name: str, fd: int) -> TextIO:
    """The standard stream of a descriptor: that which there is, or a new one."""
    found: Any = getattr(sys, name)
    if isinstance(found, io.TextIOWrapper) and not _is_over(found):
        if fd:
            found.reconfigure(line_buffering=True, write_through=False)  # whole lines
        return found
    return _opened(fd)


def _opened(fd: int, encoding: str = "utf-8", errors: str | None = "backslashreplace") -> TextIO:
    """A new stream of a descriptor."""
    return open(fd, "w" if fd else "r", 1, encoding, errors, closefd=False)


def _is_over(stream: TextIO) -> bool:
    """Whether a stream was closed, or its file was taken from it."""
    try:
        return stream.closed
    except ValueError:
        return True


def _file(fd: int) -> int:
    """The flags with which a descriptor's file is open, -1 for none.

    Asking for the file itself would take ten times as long.
    """
    try:
        return fcntl.fcntl(fd, fcntl.F_GETFL)
    except OSError:
        return -1


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


def _fate() -> tuple[int, int, int]:
    """What the kernel may not let a process take back."""
    return os.geteuid(), os.getegid(), os.getpriority(os.PRIO_PROCESS, 0)


def _rlimits() -> bytes:
    try:
        return Path("/proc/self/limits").read_bytes()
    except OSError:
        return b""


def _has_zombie() -> bool:
    """Whether a child has ended and was not waited for."""
    if not hasattr(os, "waitid"):
        return False
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False
