"""The quota of each caller: how many of its tasks may be pending at a time.

What is here is bounded by the callers that have pending tasks, and so by the farm's own limits. It
is not remembered over a restart of the gateway.
"""

import threading
from collections.abc import Callable
from time import monotonic

from farm.gateway.problems import Problem

__all__ = ["Callers"]

UNKNOWN_SECONDS = 5.0
"""When to come back while nothing of a caller has ended yet."""
WINDOW_SECONDS = 60.0
"""How far back the rate looks at which tasks of a caller end."""


class _Caller:
    __slots__ = ("ended", "pending", "since")

    def __init__(self, now: float) -> None:
        self.pending = 0
        self.ended = 0.0
        self.since = now

    def end(self, tasks: int, now: float) -> None:
        self.pending -= tasks
        if now - self.since > WINDOW_SECONDS:  # the older half counts half
            self.ended /= 2
            self.since = now - WINDOW_SECONDS / 2
        self.ended += tasks


class Callers:
    """Counts pending tasks by caller. May be used from any thread."""

    def __init__(self, most: int, clock: Callable[[], float] = monotonic) -> None:
        self._most = most
        self._clock = clock
        self._lock = threading.Lock()
        self._callers: dict[str, _Caller] = {}

    def __len__(self) -> int:
        return len(self._callers)

    def check(self, caller: str, tasks: int = 1) -> None:
        """Raise the ``Problem`` 429 if a caller may not have so many more tasks now."""
        with self._lock:
            self._check(caller, tasks)

    def reserve(self, caller: str, tasks: int) -> None:
        """Count so many more tasks of a caller, or raise as ``check`` does."""
        with self._lock:
            self._check(caller, tasks)
            known = self._callers.get(caller)
            if known is None:
                known = self._callers[caller] = _Caller(self._clock())
            known.pending += tasks

    def release(self, caller: str, tasks: int = 1, *, ended: bool = True) -> None:
        """So many tasks of a caller are over; or, if not ``ended``, never began."""
        with self._lock:
            known = self._callers.get(caller)
            if known is None:
                return
            if ended:
                known.end(tasks, self._clock())
            else:
                known.pending -= tasks
            if known.pending <= 0:
                del self._callers[caller]

    def _check(self, caller: str, tasks: int) -> None:
        known = self._callers.get(caller)
        pending = known.pending if known else 0
        if pending + tasks <= self._most:
            return
        if tasks > self._most:
            raise Problem(
                413, f"there are {tasks} tasks, and one caller may have {self._most}: send fewer"
            )
        seconds = UNKNOWN_SECONDS
        if known is not None and known.ended:
            took = max(self._clock() - known.since, 0.001)
            seconds = (pending + tasks - self._most) * took / known.ended
        raise Problem(
            429,
            f"{pending} tasks of this caller are pending, and it may have {self._most}: come back "
            "when some have ended",
            retry=seconds,
        )
