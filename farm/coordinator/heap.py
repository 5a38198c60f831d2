"""Giving memory back to the system.

Payloads that are dropped leave holes in the heap, which the C library keeps for later. A farm over
its budget would seem to have all that it ever had. Closing the holes takes some tens of
milliseconds, and while payloads come and go they are filled again at once: so it is done when that
has stopped.
"""

from collections.abc import Callable
from functools import cache

__all__ = ["Heap"]

TRIM_BYTES = 16 << 20
CALM_SECONDS = 1.0


class Heap:
    """Trims the heap; only the GNU C library can be asked to, and elsewhere nothing happens."""

    def __init__(self) -> None:
        self._trim = _trim
        self._dropped = self._trimmed = 0
        self._since = 0.0

    def note(self, dropped: int, now: float) -> None:
        """So many bytes were dropped in all, in the life of this process."""
        if dropped != self._dropped:
            self._dropped, self._since = dropped, now
        elif dropped - self._trimmed >= TRIM_BYTES and now - self._since >= CALM_SECONDS:
            self._trimmed = dropped
            self._trim(0)


@cache
def _malloc_trim() -> Callable[[int], int]:
    import ctypes  # noqa: PLC0415 - few coordinators need it

    try:
        found: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return lambda _keep: 0
    return found


def _trim(keep: int) -> int:
    return _malloc_trim()(keep)
