"""How fast the farm, or a queue, gets through what it has; and when there will be room again."""

from math import exp

__all__ = ["RETRY_SECONDS_MAX", "RETRY_SECONDS_MIN", "Throughput", "retry_after"]

MEMORY_SECONDS = 20.0
"""What ended this long ago weighs a third of what ends now."""
RETRY_SECONDS_MIN, RETRY_SECONDS_MAX = 1.0, 120.0
"""What a refused caller may be told."""
JITTER = 0.2
"""By so much of it callers are told to come later, each by another part: not all at once."""


class Throughput:
    """Tasks and payload bytes that end a second, however they end, while there are some to end.

    Idle time does not count: a farm that was idle for an hour is as fast as it was before.
    """

    __slots__ = ("_at", "_busy", "_size", "_tasks")

    def __init__(self) -> None:
        self._at = self._busy = self._tasks = self._size = 0.0

    def begin(self, now: float) -> None:
        """There is something to do, where nothing was."""
        self._at = now

    def end(self, tasks: int, size: int, now: float) -> None:
        """Tasks have an outcome, and their payloads are freed."""
        if now > self._at:
            passed = now - self._at
            fades = exp(-passed / MEMORY_SECONDS)
            self._tasks *= fades
            self._size *= fades
            self._busy = self._busy * fades + passed
            self._at = now
        self._tasks += tasks
        self._size += size

    def seconds_for(self, tasks: float, size: float, now: float) -> float:
        """How long it takes until so many more tasks, and bytes, will have ended.

        If none has yet: as long as none has.
        """
        busy = self._busy + max(0.0, now - self._at)
        if not self._tasks:
            return busy
        wait = max(0.0, tasks) * busy / self._tasks
        if size > 0 and self._size:
            wait = max(wait, size * busy / self._size)
        return wait


def retry_after(seconds: float, chance: float) -> float:
    """What to tell a caller who can come again after so many seconds; ``chance`` is in [0, 1)."""
    most = RETRY_SECONDS_MAX / (1 + JITTER)
    return min(max(seconds, RETRY_SECONDS_MIN), most) * (1 + JITTER * chance)
