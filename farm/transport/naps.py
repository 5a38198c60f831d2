"""Whether this machine, or this process, slept.

Then its connection is likely dead, and all that the other side knows is silence.
While a laptop sleeps its monotonic clock stands, and the one on the wall goes on; a process that is
stopped sees both go on without it. Times are passed in.
"""

__all__ = ["LOOK_SECONDS", "Naps"]

LOOK_SECONDS = 3.0
"""Ask so often at least."""
LEAP_SECONDS = 5.0
"""So far ahead the wall's clock is set by nobody but a machine that slept: or it costs a HELLO."""
GAP_SECONDS = 15.0
"""A process that was away for less goes on with the connection it has."""


class Naps:
    """Asked in every turn; ``wall`` is in seconds since 1970."""

    def __init__(self, now: float, wall: float) -> None:
        self._now, self._wall = now, wall

    def slept(self, now: float, wall: float) -> str:
        """What happened since it was last asked, for people; empty if nothing did."""
        gap, passed = now - self._now, wall - self._wall
        self._now, self._wall = now, wall
        if passed - gap > LEAP_SECONDS:
            return f"this machine slept for {passed - gap:.0f} s"
        if gap > GAP_SECONDS:
            return f"this process was stopped for {gap:.0f} s"
        return ""
