"""The HTTP protocol of uvicorn, with a clock for every way in which a peer can hold a connection.

A connection on which no request has begun, or whose last one is answered, has some seconds for the
next head, however slowly it comes; one that does not read what it is sent is cut off. So whoever
sends slowly, or never reads, holds one of a bounded number of connections, for a bounded time.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from farm.gateway.problems import Problem

__all__ = ["GuardedProtocol", "guarded"]

HEAD_SECONDS = 20.0
"""How long the head of a request may take, from the connection or the last answer on."""
WRITE_SECONDS = 20.0
"""How long a peer may leave unread what does not fit the buffers."""
_TOO_MANY = Problem(503, "there are too many connections", retry=1).content()
FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\n"
    b"content-type: application/problem+json\r\ncontent-length: %d\r\n\r\n%s"
) % (len(_TOO_MANY), _TOO_MANY)


class GuardedProtocol(H11Protocol):
    """One connection."""

    connections_max = 1024
    head_seconds = HEAD_SECONDS
    write_seconds = WRITE_SECONDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_due: asyncio.TimerHandle | None = None
        self._write_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A peer connects."""
        super().connection_made(transport)
        if len(self.connections) > self.connections_max:
            transport.write(FULL)
            transport.close()
            return
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        """A peer has gone."""
        for timer in (self._head_due, self._write_due):
            if timer is not None:
                timer.cancel()
        self._head_due = self._write_due = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """A peer sends."""
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        """A request is answered."""
        super().on_response_complete()
        self._look()

    def pause_writing(self) -> None:
        """The peer does not read as fast as it is sent."""
        super().pause_writing()
        if self._write_due is None:
            self._write_due = self.loop.call_later(self.write_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """It has read on."""
        super().resume_writing()
        if self._write_due is not None:
            self._write_due.cancel()
            self._write_due = None

    def _look(self) -> None:
        """Have the clock run while no request is being answered."""
        busy = self.cycle is not None and not self.cycle.response_complete
        if busy and self._head_due is not None:
            self._head_due.cancel()
            self._head_due = None
        elif not busy and self._head_due is None and not self.transport.is_closing():
            self._head_due = self.loop.call_later(self.head_seconds, self.transport.close)


def guarded(connections: int, **seconds: float) -> type[GuardedProtocol]:
    """The protocol for so many connections."""
    return type("Guarded", (GuardedProtocol,), {"connections_max": connections, **seconds})
