"""The soft time limit: an exception raised inside a task, wherever it is, even in a blocking call.

A thread of this module sends the process a signal when the time is over; Python runs its handler
in the main thread, where tasks run. The handler raises only if the call of the task is on the stack
that it interrupted, so it can hit neither the worker's own code nor the next task.
"""

import signal
import threading
from collections.abc import Callable
from time import monotonic
from types import FrameType
from typing import Any

from farm.errors import SoftTimeLimitExceeded

__all__ = ["SIGNAL", "SoftLimit"]

SIGNAL = getattr(signal, "SIGRTMAX", signal.SIGUSR2)
"""Not SIGALRM, which belongs to tasks; hardly anybody else uses the last real-time signal."""
AGAIN_SECONDS = 0.02
"""How soon the signal is sent again if it came between two steps of the worker's own code."""
NEVER = float("inf")


class SoftLimit:
    """The clock of one worker. Made in the main thread; it starts its own with the first limit."""

    def __init__(self) -> None:
        self._due = NEVER
        self._seconds = 0.0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._handler = self._on_signal  # one object, to be known again

    def wrap(self, function: Callable[..., Any], seconds: float) -> Callable[..., Any]:
        """The function, ended by ``SoftTimeLimitExceeded`` when it has run so long."""

        def limited(*args: Any, **kwargs: Any) -> Any:
            self._arm(seconds)
            try:
                return _call(function, args, kwargs)
            finally:
                self._due = NEVER

        return limited

    def _arm(self, seconds: float) -> None:
        if signal.getsignal(SIGNAL) is not self._handler:  # a task may have changed it
            signal.signal(SIGNAL, self._handler)
        with self._changed:
            self._seconds = seconds
            self._due = monotonic() + seconds
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="farm-soft", daemon=True)
                self._thread.start()
            self._changed.notify()

    def _watch(self) -> None:
        main = threading.main_thread().ident or 0
        with self._changed:
            while True:
                left = self._due - monotonic()
                if left > 0:
                    self._changed.wait(None if left == NEVER else left)
                    continue
                # The task may have taken the handler away; the signal's default is to kill.
                if signal.getsignal(SIGNAL) is self._handler:
                    signal.pthread_kill(main, SIGNAL)
                self._changed.wait(AGAIN_SECONDS)

    def _on_signal(self, _number: int, frame: FrameType | None) -> None:
        if monotonic() < self._due:
            return
        while frame is not None:
            if frame.f_code is _call.__code__:
                self._due = NEVER
                raise SoftTimeLimitExceeded(
                    f"it has run for its soft time limit of {self._seconds:g} s"
                )
            frame = frame.f_back


def _call(function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """The frame that says to the handler: this is the task."""
    return function(*args, **kwargs)
