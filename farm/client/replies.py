"""Requests that were sent to the coordinator, and those who wait for the answers."""

import threading
from collections.abc import Callable
from itertools import count
from typing import Any

__all__ = ["Replies", "Reply"]


class Reply:
    """The answer to one request, when it comes; or the error instead of it."""

    __slots__ = ("_error", "_event", "_notify", "_value", "request")

    def __init__(self, request: int) -> None:
        self.request = request
        self._notify: Callable[[], object] | None = None
        self._event = threading.Event()
        self._value: Any = None
        self._error: Exception | None = None

    @property
    def error(self) -> Exception | None:
        """Why it cannot come, if that is known."""
        return self._error

    def wait(self, timeout: float | None = None) -> Any:
        """The answer, or None if it does not come in time; raises if it cannot come."""
        self._event.wait(timeout)
        if self._error is not None:
            raise self._error
        return self._value

    def then(self, notify: Callable[[], object]) -> None:
        """Have ``notify`` called when the answer is there, or the error: perhaps twice."""
        self._notify = notify
        if self._event.is_set():
            notify()

    def set(self, value: Any, error: Exception | None = None) -> None:
        """The answer is there."""
        self._value, self._error = value, error
        self._event.set()
        if self._notify is not None:
            self._notify()


class Replies:
    """Numbers requests and finds who waits. Bounded by the callers: each waits for its answer."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._waiting: dict[int, tuple[Reply, Callable[[Any], None] | None, bool]] = {}

    def expect(self, hear: Callable[[Any], None] | None, *, lasting: bool) -> Reply:
        """A new request. ``hear`` gets its answer first; all its answers if ``lasting``."""
        reply = Reply(next(self._numbers))
        self._waiting[reply.request] = reply, hear, lasting
        return reply

    def answer(self, message: Any) -> None:
        """A message that answers a request arrived."""
        reply, hear, lasting = self._waiting.get(message.request, (None, None, False))
        if reply is None:
            return
        if not lasting:
            del self._waiting[message.request]
        if hear is not None:
            hear(message)
        reply.set(message)

    def fail(self, error: Exception) -> None:
        """No answer will come any more."""
        waiting, self._waiting = self._waiting, {}
        for reply, _, _ in waiting.values():
            reply.set(None, error)
