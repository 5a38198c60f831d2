"""An exception raised inside a task, wherever it is, even in a blocking call.

It is raised at the soft time limit, and when somebody stops the task. A thread of this module sends
the process a signal when the time is over, and the fork server does when the item that the shared
page names is to stop; Python runs the handler in the main thread, where tasks run. The handler
raises only if the call of the task is on the stack that it interrupted, so it can hit neither the
worker's own code nor the next task.
"""

import _signal  # type: ignore[import-not-found]
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from types import CodeType, FrameType, FunctionType
from typing import Any

from farm.errors import SoftTimeLimitExceeded, TaskStopped

__all__ = ["SIGNAL", "SoftLimit"]

SIGNAL = getattr(signal, "SIGRTMAX", signal.SIGUSR2)
"""Not SIGALRM, which belongs to tasks; hardly anybody else uses the last real-time signal."""
AGAIN_SECONDS = 0.02
"""How soon the signal is sent again if it came between two steps of the worker's own code."""
NEVER = float("inf")


class SoftLimit:
    """The clock of one worker, and its ear for stops: ``words`` are those of its page.

    Made in the main thread; it starts a thread of its own with the first limit.
    """

    def __init__(self, words: Sequence[int] = (0, 0, 0, 0)) -> None:
        self._words = words
        self._due = NEVER
        self._seconds = 0.0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._handler = self._on_signal  # one object, to be known again
        self._code: CodeType | None = None  # what is on the stack while a task runs
        self._stopped = 0  # the item that was stopped last
        self._put_off = False
        self._again = False  # a stop came when its task was not on the stack
        signal.signal(SIGNAL, self._handler)

    def known(self, function: Callable[..., Any], *, often: bool) -> Callable[..., Any]:
        """The function as it is to be called so that its tasks can be stopped, until ``done``.

        One that is not written in Python is not seen on the stack; wrapped, it is. Called
        ``often``, it is not wrapped, and only ends with its worker.
        """
        self._listen()
        if isinstance(function, FunctionType) or often:
            self._code = getattr(function, "__code__", _call.__code__)
            return function
        self._code = _call.__code__
        return lambda *args, **kwargs: _call(function, args, kwargs)

    def wrap(self, function: Callable[..., Any], seconds: float) -> Callable[..., Any]:
        """The function, ended by ``SoftTimeLimitExceeded`` when it has run so long."""
        self._code = _call.__code__

        def limited(*args: Any, **kwargs: Any) -> Any:
            self._arm(seconds)
            try:
                return _call(function, args, kwargs)
            finally:
                self._due = NEVER

        return limited

    @contextmanager
    def put_off(self) -> Iterator[None]:
        """What is to be raised in the task is raised after this."""
        self._put_off = True
        try:
            yield
        finally:
            self._put_off = False

    def done(self) -> None:
        """No task runs."""
        self._code = None

    def _listen(self) -> None:
        if _signal.getsignal(SIGNAL) is not self._handler:  # a task may have changed it
            signal.signal(SIGNAL, self._handler)

    def _arm(self, seconds: float) -> None:
        self._listen()
        with self._changed:
            self._seconds = seconds
            self._due = monotonic() + seconds
            self._wake()

    def _wake(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="farm-soft", daemon=True)
            self._thread.start()
        self._changed.notify()

    def _watch(self) -> None:
        main = threading.main_thread().ident or 0
        with self._changed:
            while True:
                left = self._due - monotonic()
                if left > 0 and not self._again:
                    self._changed.wait(None if left == NEVER else left)
                    continue
                # The task may have taken the handler away; the signal's default is to kill.
                if signal.getsignal(SIGNAL) is self._handler:
                    signal.pthread_kill(main, SIGNAL)
                self._changed.wait(AGAIN_SECONDS)

    def _on_signal(self, _number: int, frame: FrameType | None) -> None:
        item, wanted = self._words[0], self._words[3]
        stops = wanted == item != self._stopped and self._code is not None
        self._again = False
        if not stops and monotonic() < self._due:
            return
        while frame is not None and not self._put_off:
            if frame.f_code is _call.__code__ or frame.f_code is self._code:
                if stops:
                    self._stopped = item
                    raise TaskStopped("somebody stopped it")
                self._due = NEVER
                raise SoftTimeLimitExceeded(
                    f"it has run for its soft time limit of {self._seconds:g} s"
                )
            frame = frame.f_back
        if stops:
            self._again = True
            with self._changed:
                self._wake()


def _call(function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """The frame that says to the handler: this is the task."""
    return function(*args, **kwargs)
