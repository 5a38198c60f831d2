"""The thread that runs the done-callbacks of a client's futures.

Callbacks are users' code and may submit, block or raise, so they never run on the IO thread: they
run here, one after the other, in the order in which their futures ended. An exception in one is
logged, as the standard library does, and the next one runs.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any

__all__ = ["CallbackThread", "run_callback"]

Call = tuple[Callable[[Any], object], Any]
"""A callback and the future that it is given."""

_log = logging.getLogger("concurrent.futures")  # where the standard library logs the same


def run_callback(callback: Callable[[Any], object], future: Any) -> None:
    """Call a done-callback; an exception is logged, a KeyboardInterrupt or SystemExit gets out."""
    try:
        callback(future)
    except Exception:  # noqa: BLE001 -- whatever users' callbacks raise
        _log.exception("exception calling callback for %r", future)


class CallbackThread:
    """One daemon thread, started when the first callback is due.

    What waits here is bounded by the futures of the client, and these by its credit: each is
    posted once, with the callbacks that the user has added to it.
    """

    def __init__(self, name: str = "farm-callbacks") -> None:
        self._name = name
        # One entry for each batch of results that has callbacks: bounded by the client's credit.
        self._calls: SimpleQueue[Sequence[Call] | None] = SimpleQueue()
        # Re-entrant: a finalizer may run in the middle of anything, and cancel a future.
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None

    def post(self, calls: Sequence[Call]) -> None:
        """Have callbacks run, in order; never blocks, and runs none of them itself."""
        with self._lock:
            self._calls.put(calls)
            if self._thread is not None:
                return
            thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            try:
                thread.start()
            except RuntimeError:
                _log.exception("callbacks of farm futures are not run: no thread can be started")
                return
            self._thread = thread

    def close(self, timeout: float | None = None) -> bool:
        """Wait until all callbacks posted so far have run; whether they have.

        A callback that calls this is not waited for. Callbacks posted later start a new thread.
        """
        with self._lock:
            thread = self._thread
            if thread is None:
                return True
            self._calls.put(None)
        if thread is threading.current_thread():
            return False
        thread.join(timeout)
        return not thread.is_alive()

    def _run(self) -> None:
        closing = False
        while True:
            calls = self._calls.get()
            if calls is not None:
                _run_all(calls)
                del calls  # while waiting, nothing of the user's is kept
            else:
                closing = True
            if closing:
                with self._lock:
                    if self._calls.empty():
                        self._thread = None
                        return


def _run_all(calls: Sequence[Call]) -> None:
    for callback, future in calls:
        try:
            run_callback(callback, future)
        except BaseException:  # noqa: BLE001 -- see below
            # SystemExit or the like in a callback ends neither the thread nor the program.
            _log.exception("exception calling callback for %r", future)
