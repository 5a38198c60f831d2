"""How often an answer is sent: a short one at once, one that comes bit by bit as it comes."""

import asyncio

import pytest
import uvicorn
from uvicorn.server import ServerState

from farm.gateway.joining import JOINED_BYTES_MAX
from farm.gateway.protocol import GuardedProtocol

ASK = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


class Transport(asyncio.Transport):
    """Notes what is written, and when the connection is closed."""

    def __init__(self):
        super().__init__()
        self.writes = []
        self.closed = False

    def write(self, data):
        assert not self.closed
        self.writes.append(bytes(data))

    def close(self):
        self.closed = True

    def is_closing(self):
        return self.closed

    def resume_reading(self):
        pass


def connected(app):
    """A connection of the protocol to an application; in a running loop."""
    config = uvicorn.Config(app, log_config=None, ws="none", lifespan="off")
    config.load()
    protocol = GuardedProtocol(config=config, server_state=ServerState(), app_state={})
    transport = Transport()
    protocol.connection_made(transport)
    return protocol, transport


def answering(body, *more, status=200):
    """An application that answers this; the headers ``more`` beside the length."""

    async def app(scope, receive, send):
        headers = [(b"content-length", b"%d" % len(body)), *more]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


async def asked(protocol, request=ASK):
    """Have a request answered as far as it is."""
    protocol.data_received(request)
    for _ in range(3):
        await asyncio.sleep(0)


def test_a_short_answer_is_sent_at_once():
    async def play():
        protocol, transport = connected(answering(b"here"))
        await asked(protocol)
        await asked(protocol)
        protocol.connection_lost(None)
        return transport.writes

    first, second = asyncio.run(play())

    assert first == second
    assert first.startswith(b"HTTP/1.1 200 OK\r\n")
    assert first.endswith(b"\r\n\r\nhere")


def test_what_is_long_is_not_copied():
    body = b"x" * (JOINED_BYTES_MAX + 1)

    async def play():
        protocol, transport = connected(answering(body))
        await asked(protocol)
        protocol.connection_lost(None)
        return transport.writes

    head, sent = asyncio.run(play())

    assert head.endswith(b"\r\n\r\n")
    assert sent == body


@pytest.mark.parametrize(("method", "status"), [(b"GET", 304), (b"GET", 204), (b"HEAD", 200)])
def test_an_answer_without_a_body_is_sent(method, status):
    async def play():
        protocol, transport = connected(answering(b"", status=status))
        await asked(protocol, ASK.replace(b"GET", method))
        protocol.connection_lost(None)
        return b"".join(transport.writes)

    assert asyncio.run(play()).startswith(b"HTTP/1.1 %d " % status)


def test_an_answer_is_whole_before_its_connection_ends():
    async def play():
        protocol, transport = connected(answering(b"bye", (b"connection", b"close")))
        await asked(protocol)
        protocol.connection_lost(None)
        return transport.writes, transport.closed

    writes, closed = asyncio.run(play())

    assert b"".join(writes).endswith(b"\r\n\r\nbye")
    assert closed


def test_who_waits_for_what_comes_bit_by_bit_has_the_head_before():
    async def play():
        more = asyncio.Event()

        async def app(scope, receive, send):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await more.wait()
            await send({"type": "http.response.body", "body": b"news"})

        protocol, transport = connected(app)
        await asked(protocol)
        before = list(transport.writes)
        more.set()
        for _ in range(3):
            await asyncio.sleep(0)
        protocol.connection_lost(None)
        return before, transport.writes

    (head,), every = asyncio.run(play())

    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"4\r\nnews\r\n" in b"".join(every[1:])


def test_a_peer_that_left_before_the_body_is_sent_nothing():
    async def play():
        async def app(scope, receive, send):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            transport.close()

        protocol, transport = connected(app)
        await asked(protocol)
        protocol.connection_lost(None)
        return transport.writes

    assert asyncio.run(play()) == []
