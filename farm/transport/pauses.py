"""How long a peer waits before it tries to connect again."""

__all__ = ["CROWDED_SECONDS", "CROWDED_SECONDS_MAX", "Pauses"]

CROWDED_SECONDS, CROWDED_SECONDS_MAX = 2.0, 16.0
"""The first pause and the longest, after the other side was there and did not get round to us."""


class Pauses:
    """Pauses that double from ``first`` to ``most`` seconds; whoever uses them adds the jitter.

    They are longer where the other side is overrun: with short ones a crowd of peers keeps so many
    attempts under way that none of them is served before it is given up, and so for ever. With
    ``at_once`` there is none after the first failure.
    """

    def __init__(self, first: float, most: float, *, at_once: bool = False) -> None:
        self._first = first
        self._most = most
        self._begin = 0.0 if at_once else first
        self._next = self._begin

    def take(self, *, crowded: bool = False) -> float:
        """The pause now; ``crowded``: the other side had no time for the last attempt."""
        if crowded:
            pause, most = max(self._next, CROWDED_SECONDS), CROWDED_SECONDS_MAX
        else:
            pause, most = min(self._next, self._most), self._most
        self._next = min(max(2 * pause, self._first), most)
        return pause

    def reset(self) -> None:
        """Begin anew, with the shortest pause."""
        self._next = self._begin
