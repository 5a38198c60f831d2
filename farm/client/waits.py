"""Who is told when the main thread of this process waits for tasks of the farm.

In a worker somebody is: while its task waits for others, its slot is lent. Everywhere else nobody
is, and a wait costs nothing more.
"""

import threading
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["TellingList", "Waits", "listen", "over", "reset", "wait", "will_wait"]

T = TypeVar("T")


class Waits:
    """Those of one task: waits within waits, and coroutines that wait at a time."""

    depth = 0


class _Ear:
    """``tell`` is called in the main thread: true when it begins to wait, false when it goes on."""

    tell: Callable[[bool], None] | None = None
    waits = Waits()


_ear = _Ear()


def listen(tell: Callable[[bool], None] | None) -> None:
    """Have ``tell(True)`` called before the main thread waits, ``tell(False)`` when it goes on.

    What the first of the two raises is raised by whoever would have waited.
    """
    _ear.tell = tell


def reset() -> None:
    """Nobody waits: whoever did was interrupted, or is a coroutine that nobody runs any more."""
    _ear.waits = Waits()


def will_wait() -> Waits | None:
    """Say that this thread begins to wait; if so, ``over`` must follow, with what this returns."""
    tell = _ear.tell
    if tell is None or threading.current_thread() is not threading.main_thread():
        return None
    waits = _ear.waits
    if not waits.depth:
        tell(True)
    waits.depth += 1
    return waits


def over(waits: Waits) -> None:
    """Say that a wait is over; one that began before ``reset`` is no concern of anybody's."""
    waits.depth -= 1
    if waits.depth == 0 and waits is _ear.waits and _ear.tell is not None:
        _ear.tell(False)


def wait(sleep: Callable[..., T], *arguments: Any) -> T:
    """Call what returns when the wait is over."""
    waits = None if _ear.tell is None else will_wait()
    if waits is None:
        return sleep(*arguments)
    try:
        return sleep(*arguments)
    finally:
        over(waits)


class _TellingEvent(threading.Event):
    """What ``concurrent.futures.wait`` and ``as_completed`` wait for, in a process that tells."""

    def wait(self, timeout: float | None = None) -> bool:
        return self.is_set() or wait(super().wait, timeout)


class TellingList(list[Any]):
    """Waiters of a future: those of the standard library tell when they wait.

    The library puts one waiter into the lists of all its futures while it holds these, and only
    then waits for the waiter's event.
    """

    __slots__ = ()

    def append(self, waiter: Any) -> None:
        """Add a waiter."""
        if _ear.tell is not None and type(getattr(waiter, "event", None)) is threading.Event:
            waiter.event = _TellingEvent()
        super().append(waiter)
