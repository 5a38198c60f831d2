"""A token bucket: so many a second on the average, and so many at once after a pause."""

__all__ = ["TokenBucket"]

ROUNDING = 1e-9
"""Of a token, by which sums of times may round."""
WAIT_SECONDS_MIN = 1e-6
"""Whatever times round to, a time to come is later than now."""


class TokenBucket:
    """In any time T no more than ``burst + rate x T`` tokens are spent.

    Source: J. Turner, "New Directions in Communications", IEEE Communications Magazine, 1986.
    """

    __slots__ = ("_at", "_tokens", "burst", "rate")

    def __init__(self, rate: float, burst: float, tokens: float, now: float) -> None:
        self.rate = rate
        self.burst = burst
        self._tokens = min(tokens, burst)
        self._at = now

    def room(self, now: float) -> int:
        """How many may be spent now."""
        if now > self._at:
            self._tokens = min(self.burst, self._tokens + (now - self._at) * self.rate)
            self._at = now
        return int(self._tokens + ROUNDING)

    def spend(self, count: int) -> None:
        """Spend some of the room."""
        self._tokens -= count

    @property
    def due(self) -> float | None:
        """When there is room again; None if there was when it was last looked at."""
        missing = 1 - self._tokens
        if missing <= ROUNDING:
            return None
        return self._at + max(missing / self.rate, WAIT_SECONDS_MIN)

    def at(self, now: float) -> float:
        """What there is now, with the part of a token that time has filled."""
        self.room(now)
        return self._tokens
