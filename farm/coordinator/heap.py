"""Giving memory back to the system.

Payloads that are dropped leave holes in the heap, which the C library keeps for later. A farm over
its budget would seem to have all that it ever had. Closing the holes takes some tens of
milliseconds, so it is done seldom, and never where nothing is dropped.
"""

import ctypes
from collections.abc import Callable

__all__ = ["Heap"]

TRIM_BYTES = 16 << 20
TRIM_SECONDS = 3.0


class Heap:
    """Trims the heap; only the GNU C library can be asked to, and elsewhere nothing happens."""

    def __init__(self) -> None:
        self._trim = _malloc_trim()
        self._dropped = 0
        self._not_before = 0.0

    def note(self, dropped: int, now: float) -> None:
        """So many bytes were dropped in all, in the life of this process."""
        if dropped - self._dropped >= TRIM_BYTES and now >= self._not_before:
            self._dropped = dropped
            self._not_before = now + TRIM_SECONDS
            self._trim(0)


def _malloc_trim() -> Callable[[int], int]:
    try:
        found: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return lambda _keep: 0
    return found
