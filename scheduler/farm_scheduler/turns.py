"""One scheduler at a time: a lock that the kernel frees, and a way to wake whoever holds it."""

import contextlib
import errno
import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path

__all__ = ["Turn", "holder", "poke"]


class Turn:
    """The lock beside a state file; held until it is given back, or the process ends.

    The file stays: whoever waits has it open.
    """

    def __init__(self, state: Path) -> None:
        self._path = _lock_path(state)
        self._fifo = _fifo_path(state)
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def take(self) -> bool:
        """Take it at once, if it is free."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        self._sign()
        return True

    def take_later(self, taken: Callable[[], object]) -> None:
        """Wait for it on a thread of its own, and call ``taken`` there."""

        def wait() -> None:
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            self._sign()
            taken()

        threading.Thread(target=wait, name="farm-stand-by", daemon=True).start()

    def _sign(self) -> None:
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def give_back(self) -> None:
        """Let another one have it; this one has had its turn."""
        os.close(self._fd)

    def ear(self) -> int:
        """A descriptor that can be read when somebody has poked the holder."""
        with contextlib.suppress(FileExistsError):
            os.mkfifo(self._fifo, 0o600)
        # Open for writing, too: it never ends when others close it.
        return os.open(self._fifo, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    @staticmethod
    def listen(ear: int) -> None:
        """Empty it."""
        with contextlib.suppress(BlockingIOError):
            while os.read(ear, 4096):
                pass


def holder(state: Path) -> int:
    """The process that holds the lock of a state file; 0 if nobody does."""
    try:
        fd = os.open(_lock_path(state), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return int(os.pread(fd, 32, 0).strip() or b"-1")
    else:
        return 0
    finally:
        os.close(fd)


def poke(state: Path) -> bool:
    """Have the holder look for orders; whether there is one."""
    try:
        fd = os.open(_fifo_path(state), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in {errno.ENXIO, errno.ENOENT}:
            return False
        raise
    try:
        with contextlib.suppress(BlockingIOError):
            os.write(fd, b"!")
    finally:
        os.close(fd)
    return True


def _lock_path(state: Path) -> Path:
    return state.with_name(f"{state.name}.lock")


def _fifo_path(state: Path) -> Path:
    return state.with_name(f"{state.name}.wake")
