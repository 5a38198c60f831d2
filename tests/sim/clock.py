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

    __slots__ = ("action", "arguments")

    def __init__(self, action: Callable[..., None], arguments: tuple[Any, ...]) -> None:
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
        event = Event(action, arguments)
        heappush(self._events, (self.now + delay, next(self._order), event))
        return event

    def at(self, when: float, action: Callable[..., None], *arguments: Any) -> Event:
        event = Event(action, arguments)
        heappush(self._events, (max(when, self.now), next(self._order), event))
        return event

    def step(self) -> Callable[..., None] | None:
        """Run the next event; what it was, or None if there is none."""
        events = self._events
        while events:
            when, _, event = heappop(events)
            if (action := event.action) is not None:
                self.now = when
                action(*event.arguments)
                return action
        return None
