"""The HTTP protocol of uvicorn and httptools, with a bound for every way to hold a connection.

A connection on which no request has begun, or whose last one is answered, has some seconds for the
next head, however slowly it comes; one that does not read what it is sent is cut off. A head has a
bound for its bytes and its lines, and so has what comes between the parts of a body. So whoever
sends slowly, or without end, or never reads, holds one of a bounded number of connections, for a
bounded time.

A connection has one request at a time: whoever sends another before it is answered is answered the
first, and asks again. Nobody is upgraded to another protocol.
"""

import asyncio
import logging
from typing import Any

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from farm.gateway.joining import Joined
from farm.gateway.problems import MEDIA_TYPE, Problem

__all__ = ["GuardedProtocol", "guarded"]

logger = logging.getLogger("uvicorn.error")

HEAD_SECONDS = 20.0
"""How long the head of a request may take, from the connection or the last answer on."""
HEAD_BYTES_MAX = 32 << 10
HEADERS_MAX = 128
WRITE_SECONDS = 20.0
"""How long a peer may leave unread what does not fit the buffers."""
PART_BYTES = 8 << 10
"""After as many bytes it is looked how long a head is by now."""


class _TooLarge(Exception):
    """A head is longer than heads may be."""


def _said(problem: Problem) -> bytes:
    """A whole answer, after which the connection ends."""
    body = problem.content()
    headers = {**problem.headers, "content-type": MEDIA_TYPE, "content-length": str(len(body))}
    lines = [f"HTTP/1.1 {problem.status} {problem.body.title}", "connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


class GuardedProtocol(HttpToolsProtocol):
    """One connection."""

    connections_max = 1024
    head_seconds = HEAD_SECONDS
    write_seconds = WRITE_SECONDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_due: asyncio.TimerHandle | None = None
        self._write_due: asyncio.TimerHandle | None = None
        self._idle_since = 0.0
        self._unheard = 0  # bytes that came since the last that were part of a body
        self._in_head = False
        self._deaf = False  # the connection ends with the next answer
        self._answer: Joined | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A peer connects."""
        super().connection_made(transport)
        if len(self.connections) > self.connections_max:
            self._end(Problem(503, "there are too many connections", retry=1))
            return
        self._idle_since = self.loop.time()
        self._head_due = self.loop.call_later(self.head_seconds, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """A peer has gone."""
        for timer in (self._head_due, self._write_due):
            if timer is not None:
                timer.cancel()
        self._head_due = self._write_due = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """A peer sends."""
        if self._deaf:
            return
        try:
            self._feed(memoryview(data))
        except HttpParserError as error:
            self._refuse(error)

    def _feed(self, data: memoryview) -> None:
        while data and not self._deaf:
            part, data = data[:PART_BYTES], data[PART_BYTES:]
            self._unheard += len(part)
            try:
                self.parser.feed_data(part)
            except HttpParserUpgrade as upgrade:
                self._go_on()
                self._feed(part[upgrade.args[0] :])
            if self._unheard > HEAD_BYTES_MAX:
                raise HttpParserError from _TooLarge()

    def _go_on(self) -> None:
        """Read a head that asks for another protocol as if it did not."""
        method, headers = self.parser.get_method(), self.headers
        kept = [(name, value) for name, value in headers if name != b"upgrade"]
        if len(kept) == len(headers):
            raise HttpParserError("there is no tunnel here")
        lines = [method + b" " + self.url + b" HTTP/1.1", *(b"%b: %b" % one for one in kept)]
        self.parser = HttpRequestParser(self)
        self._feed(memoryview(b"\r\n".join([*lines, b"", b""])))

    def on_message_begin(self) -> None:
        """A head begins."""
        if self._is_busy():
            raise HttpParserError("one request at a time")
        self._unheard, self._in_head = 0, True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A line of it; those after a body are nobody's."""
        if not self._in_head:
            return
        if len(self.headers) >= HEADERS_MAX:
            raise _TooLarge
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """A head is whole."""
        if not self.parser.should_upgrade():
            self._unheard, self._in_head = 0, False
            super().on_headers_complete()
            self._answer = self.cycle.transport = Joined(self.transport, self.loop)

    def on_body(self, body: bytes) -> None:
        """A part of a body."""
        self._unheard = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is whole."""
        if not self._in_head:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """A request is answered; in place of the method that sets a clock for each."""
        self.server_state.total_requests += 1
        if self._answer is not None:
            self._answer.flush()  # of an answer without a body
        self._idle_since = self.loop.time()
        if not self.transport.is_closing():
            self.flow.resume_reading()

    def _refuse(self, error: HttpParserError) -> None:
        """What came is no HTTP, or too much: end the connection, with what is being answered."""
        logger.warning("Invalid HTTP request received.")
        self._deaf = True
        if self._is_busy() and not self.cycle.more_body:
            self.cycle.keep_alive = False
        elif self._is_busy() and self.cycle.response_started:
            self.transport.close()
        elif isinstance(error.__cause__ or error.__context__, _TooLarge):
            told = f"a head may have {HEAD_BYTES_MAX:,} bytes and {HEADERS_MAX} lines; send less"
            self._end(Problem(431, told))
        else:
            self._end(Problem(400, "this is not HTTP as it is spoken here: version 1.1"))

    def _end(self, problem: Problem) -> None:
        self._deaf = True
        self.transport.write(_said(problem))
        self.transport.close()

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

    def _is_busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _look(self) -> None:
        """Close the connection if no head came in time; come back when that may be so."""
        left = self.head_seconds
        if not self._is_busy():
            left -= self.loop.time() - self._idle_since
            if left <= 0:
                self._head_due = None
                self.transport.close()
                return
        self._head_due = self.loop.call_later(left, self._look)


def guarded(connections: int, **seconds: float) -> type[GuardedProtocol]:
    """The protocol for so many connections."""
    return type("Guarded", (GuardedProtocol,), {"connections_max": connections, **seconds})
