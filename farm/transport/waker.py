"""A file descriptor that other threads, and signal handlers, make readable."""

import os
import threading

__all__ = ["Waker"]


class Waker:
    """Ends the wait of the thread that polls ``fileno()``; it then calls ``clear()``.

    ``wake`` may be called from any thread, from a signal handler, and after ``close``.
    """

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._closed = False
        # Another thread must not write into what the descriptor has become after close(); a
        # signal handler may interrupt a wake() of its own thread.
        self._lock = threading.RLock()

    def fileno(self) -> int:
        """What to poll for reading."""
        return self._read

    def wake(self) -> None:
        """Make ``fileno()`` readable; a full pipe is readable already."""
        with self._lock:
            if not self._closed:
                try:
                    os.write(self._write, b"\0")
                except BlockingIOError:
                    return

    def clear(self) -> None:
        """Forget all wakes until now."""
        try:
            while len(os.read(self._read, 4096)) == 4096:  # noqa: PLR2004
                pass
        except BlockingIOError:
            return

    def close(self) -> None:
        """Free both descriptors."""
        with self._lock:
            if not self._closed:
                self._closed = True
                os.close(self._read)
                os.close(self._write)
