"""Event loops that wait for farm futures, for room, or for answers.

The IO thread wakes a loop once for all futures that end before it gets round to looking.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Generator
from typing import Any
from weakref import WeakKeyDictionary

__all__ = ["Awaiter"]

Landing = asyncio.Future[None]

_lock = threading.RLock()  # re-entrant, as a finalizer may end a future
# What has ended and each loop has not seen yet; bounded by what its tasks await.
_ended: WeakKeyDictionary[asyncio.AbstractEventLoop, deque[Landing]] = WeakKeyDictionary()


class Awaiter:
    """One task of the running event loop that waits for one thing; a waiter of futures."""

    Cancelled = asyncio.CancelledError

    def __init__(self) -> None:
        self._landing: Landing = asyncio.get_running_loop().create_future()

    def wait(self) -> Generator[Any, None, None]:
        """Wait until it is there; raises ``Cancelled`` if the task is cancelled."""
        return self._landing.__await__()

    __await__ = wait

    def add_result(self, _future: object = None) -> None:
        """What is waited for is there. Never blocks; may be called from any thread."""
        loop = self._landing.get_loop()
        with _lock:
            # One entry for each future that is awaited in the loop, until it looks.
            ended = _ended.get(loop)
            if ended is None:
                ended = _new(loop)
            ended.append(self._landing)
            if len(ended) > 1:
                return  # the loop has been woken and has not looked yet
        try:
            loop.call_soon_threadsafe(_land, ended)
        except RuntimeError:  # it is closed: nobody waits any more
            ended.clear()

    add_exception = add_cancelled = add_result

    def set(self) -> None:
        """What is waited for is there; for those who set events."""
        self.add_result()


def _new(loop: asyncio.AbstractEventLoop) -> deque[Landing]:
    """What has ended and this loop has not seen, nothing so far; with the lock held.

    Loops that were closed before they looked are forgotten: what waits for them holds them.
    """
    for closed in [one for one in _ended if one.is_closed()]:
        del _ended[closed]
    ended = _ended[loop] = deque[Landing]()
    return ended


def _land(ended: deque[Landing]) -> None:
    while ended:
        landing = ended.popleft()
        if not landing.done():
            landing.set_result(None)
