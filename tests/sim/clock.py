"""Virtual time: a heap of events, run one by one in order of time.

Events of the same instant run in the order in which they were made, so a seed decides everything.
"""

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Any

__all__ = ["Clock", "Event"]


class Event:
    """Something that happens at a time, unless it is cancelled before."""

    __slots__ = ("action", "arguments", "when")

    def __init__(
        self, when: float, action: Callable[..., None], arguments: tuple[Any, ...]
    ) -> None:
        self.when = when
        self.action: Callable[..., None] | None = action
        self.arguments = arguments

    def cancel(self) -> None:
        self.action = None
        self.arguments = ()


class Clock:
    """The time of the simulated world in seconds since it began, and what is to happen in it."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Event]] = []
        self._order = count()

    def after(self, delay: float, action: Callable[..., None], *arguments: Any) -> Event:
        return self.at(self.now + delay, action, *arguments)

    def at(self, when: float, action: Callable[..., None], *arguments: Any) -> Event:
        event = Event(max(when, self.now), action, arguments)
        heappush(self._events, (event.when, next(self._order), event))
        return event

    def step(self) -> bool:
        """Run the next event; False if there is none."""
        while self._events:
            when, _, event = heappop(self._events)
            if event.action is None:
                continue
            self.now = when
            event.action(*event.arguments)
            return True
        return False
