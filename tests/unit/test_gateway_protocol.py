"""How long a peer may hold a connection, and what may come over it: the protocol itself."""

import asyncio
import json

import pytest
import uvicorn
from uvicorn.server import ServerState

from farm.gateway import protocol as module
from farm.gateway.protocol import GuardedProtocol


class Transport(asyncio.Transport):
    """Of a peer that may leave unread what it is sent."""

    def __init__(self):
        super().__init__()
        self.ended = ""
        self.over = asyncio.Event()
        self.written = b""

    def write(self, data):
        self.written += data

    def close(self):
        self.ended = self.ended or "closed"
        self.over.set()

    def abort(self):
        self.ended = "aborted"
        self.over.set()

    def is_closing(self):
        return bool(self.ended)

    def pause_reading(self):
        pass

    resume_reading = pause_reading


async def echo(scope, receive, send):
    """Answers the body, and which headers there were."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body, more = body + message.get("body", b""), message.get("more_body", False)
    names = b",".join(name for name, _ in scope["headers"])
    length = b"%d" % len(body)
    headers = [(b"content-length", length), (b"x-names", names)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def connected(**attributes):
    """A connection of the protocol, and its transport; in a running loop."""
    config = uvicorn.Config(echo, log_config=None, ws="none", lifespan="off")
    config.load()
    kind = type("Quick", (GuardedProtocol,), attributes)
    protocol = kind(config=config, server_state=ServerState(), app_state={})
    transport = Transport()
    protocol.connection_made(transport)
    return protocol, transport


@pytest.mark.parametrize("sends", [b"", b"GET / HTTP/1.1\r\nhost: x\r\nslow: "])
def test_a_head_that_does_not_come_ends_the_connection(sends):
    async def run():
        protocol, transport = connected(head_seconds=0.01)
        if sends:
            protocol.data_received(sends)
        await asyncio.wait_for(transport.over.wait(), 20)
        protocol.connection_lost(None)

    asyncio.run(run())


def test_a_peer_that_does_not_read_is_cut_off():
    async def run():
        protocol, transport = connected(write_seconds=0.01)
        protocol.pause_writing()
        protocol.resume_writing()
        assert protocol._write_due is None
        protocol.pause_writing()
        await asyncio.wait_for(transport.over.wait(), 20)
        assert transport.ended == "aborted"
        protocol.connection_lost(None)

    asyncio.run(run())


def test_one_connection_too_many_is_told_so():
    async def run():
        protocol, transport = connected(connections_max=0)
        assert transport.ended == "closed"
        head, _, body = transport.written.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"content-length: %d" % len(body) in head
        assert json.loads(body)["retry_after"] == 1
        protocol.connection_lost(None)

    asyncio.run(run())


def answered(*sent, **attributes):
    """What a peer that sends this is told, and how its connection ended."""

    async def run():
        protocol, transport = connected(**attributes)
        for data in sent:
            protocol.data_received(data)
        if not transport.ended:
            await asyncio.gather(*protocol.tasks)
        ended = transport.ended
        protocol.connection_lost(None)
        await asyncio.gather(*protocol.tasks)
        return transport, ended

    transport, ended = asyncio.run(asyncio.wait_for(run(), 20))
    head, _, body = transport.written.partition(b"\r\n\r\n")
    return int(head.split()[1]), head.decode().lower(), body, ended


def test_while_a_request_is_answered_no_clock_runs_against_its_peer():
    async def run():
        protocol, transport = connected(head_seconds=0.05)
        protocol.data_received(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{")
        await asyncio.sleep(0.2)
        assert not transport.ended
        protocol.data_received(b"}")
        await asyncio.gather(*protocol.tasks)
        assert transport.written.endswith(b"\r\n\r\n{}")
        await asyncio.wait_for(transport.over.wait(), 20)
        protocol.connection_lost(None)
        assert protocol._head_due is None

    asyncio.run(run())


def test_one_connection_serves_many_requests():
    request = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n%d"

    async def run():
        protocol, transport = connected()
        for number in range(10, 13):
            protocol.data_received(request % number)
            await asyncio.gather(*protocol.tasks)
        assert transport.written.count(b"HTTP/1.1 200 OK") == 3
        assert transport.written.endswith(b"\r\n\r\n12")
        assert not transport.ended
        protocol.connection_lost(None)

    asyncio.run(run())


LONG = b"GET / HTTP/1.1\r\nhost: x\r\nlong: %b\r\n\r\n"


def test_a_head_of_the_longest_kind_is_read():
    status, *_ = answered(LONG % (b"y" * (module.HEAD_BYTES_MAX - 100)))
    assert status == 200


@pytest.mark.parametrize(
    "sends",
    [
        [LONG % (b"y" * 60_000)],
        [b"GET / HTTP/1.1\r\nhost: x\r\nlong: ", *[b"y" * 1000] * 40],
        [b"GET /" + b"y" * 60_000],
        [b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 200],
        [b"\r\n" * 30_000],
        [
            b"GET / HTTP/1.1\r\nhost: x\r\nupgrade: h2c\r\nconnection: upgrade\r\n"
            + b"x: y\r\n" * 200
        ],
    ],
)
def test_a_head_without_end_is_refused(sends):
    status, head, body, ended = answered(*sends)
    assert (status, ended) == (431, "closed")
    assert "connection: close" in head
    assert json.loads(body)["detail"] == "a head may have 32,768 bytes and 128 lines; send less"


CHUNKED = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n"


def test_what_stands_behind_a_body_is_nobodys():
    status, head, body, _ = answered(CHUNKED, b"0\r\nauthorization: Bearer x\r\n\r\n")
    assert (status, body) == (200, b"{}")
    assert "x-names: host,transfer-encoding" in head
    assert "authorization" not in head


@pytest.mark.parametrize("more", [b"0\r\ntrailer: ", b"2;extension="])
def test_what_stands_between_parts_of_a_body_has_an_end(more):
    status, _, _, ended = answered(CHUNKED + more, *[b"y" * 9000] * 8)
    assert (status, ended) == (431, "closed")


def test_a_body_that_is_cut_up_wrongly_is_told_so():
    status, head, body, ended = answered(CHUNKED + b"nonsense\r\n")
    assert (status, ended) == (400, "closed")
    assert "content-type: application/problem+json" in head
    assert json.loads(body)["title"] == "Bad Request"


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00\xff\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n",
    ],
)
def test_what_is_no_request_is_told_so(sent):
    status, _, _, ended = answered(sent)
    assert (status, ended) == (400, "closed")


@pytest.mark.parametrize("parts", [1, 7])
def test_who_asks_for_another_protocol_is_answered_in_this_one(parts):
    sent = (
        b"POST / HTTP/1.1\r\nhost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b'HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\ncontent-length: 9\r\n\r\n{"a": 1}\n'
    )
    size = -(-len(sent) // parts)
    status, head, body, ended = answered(
        *(sent[at : at + size] for at in range(0, len(sent), size))
    )
    assert (status, body, ended) == (200, b'{"a": 1}\n', "")
    assert "x-names: host,connection,http2-settings,content-length" in head


def test_who_does_not_wait_for_the_answer_is_answered_once():
    one = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n%d"
    status, head, body, ended = answered(*[one % 1 + one % 2] * 50)
    assert (status, body, ended) == (200, b"1", "closed")
    assert "connection: close" in head
