"""How many workers the farm has, as far as a client was told."""

from collections.abc import Callable
from time import monotonic

from farm.protocol.messages import Answer

__all__ = ["SlotCount"]

SLOTS_SECONDS = 1.0
"""How old the count may be before it is asked for again."""


class SlotCount:
    """``ask`` has the farm's status asked for, and what it is given called with the answer."""

    def __init__(self, ask: Callable[[Callable[[Answer], None]], object]) -> None:
        self._ask = ask
        self._slots, self._asked_at = 1, float("-inf")

    def latest(self) -> int:
        """How many there were a moment ago, at least 1; asks anew now and then."""
        now = monotonic()
        if now - self._asked_at > SLOTS_SECONDS:
            self._asked_at = now
            self._ask(self._learn)
        return self._slots

    def _learn(self, answer: Answer) -> None:
        slots = answer.data.get("slots") if isinstance(answer.data, dict) else 0
        if isinstance(slots, int) and slots > 0:
            self._slots = slots
