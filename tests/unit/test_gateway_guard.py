"""What the gateway refuses before it reads: with an application and peers made of coroutines."""

import asyncio
import json

import pytest

from farm.gateway import guard as module
from farm.gateway.callers import Callers
from farm.gateway.guard import Guard
from farm.gateway.problems import Problem, busy, whole_seconds
from farm.gateway.settings import parse_listen

JSON = {"content-type": "application/json", "host": "localhost"}


class Room:
    """Admits all but the callers of queues that are called ``full``."""

    def __init__(self):
        self.asked = []
        self.left = 0

    async def enter(self, scope, authorization):
        if authorization == "Bearer bad":
            raise Problem(401, "this token is not good here", challenge=True)

    def leave(self, scope):
        self.left += 1

    def stays(self, scope, authorization):
        return authorization != "Bearer ends"

    def check_room(self, queue, caller, scope):
        self.asked.append((queue, caller))
        if queue == "full":
            raise busy("the queue is full", 3.2)


class Peer:
    """One request: its body in parts, and what it is answered."""

    def __init__(
        self, *parts, method="POST", path="/v1/tasks", headers=None, query="", leaves=False
    ):
        self.scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "headers": [(k.encode(), v.encode()) for k, v in {**JSON, **(headers or {})}.items()],
            "client": ("10.0.0.7", 5),
        }
        self.parts = list(parts)
        self.leaves = leaves
        self.read = 0
        self.sent = []
        self.gone = asyncio.Event()

    async def receive(self):
        if self.parts:
            part = self.parts.pop(0)
            if part is None:  # it sends nothing more
                await asyncio.Event().wait()
            self.read += 1
            return {"type": "http.request", "body": part, "more_body": bool(self.parts)}
        if not self.leaves:
            await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        self.sent.append(message)

    @property
    def status(self):
        return self.sent[0]["status"] if self.sent else None

    @property
    def headers(self):
        return {k.decode(): v.decode() for k, v in self.sent[0]["headers"]}

    @property
    def problem(self):
        return json.loads(self.sent[1]["body"])


async def echo(scope, receive, send):
    message = await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": message["body"]})


def answer(peer, app=echo, **options):
    room = Room()
    guard = Guard(app, room, **{"max_body": 100, **options})
    asyncio.run(asyncio.wait_for(guard(peer.scope, peer.receive, peer.send), 20))
    return guard, room


def test_a_good_request_is_read_whole_and_handed_on():
    peer = Peer(b'{"a"', b":1}")
    _, room = answer(peer)
    assert (peer.status, peer.sent[1]["body"]) == (200, b'{"a":1}')
    assert room.asked == [("", "10.0.0.7")]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "localhost:8080"}, 200),
        ({"host": "127.0.0.1:8080"}, 200),
        ({"host": "[::1]:8080"}, 200),
        ({"host": "FARM.example"}, 200),
        ({"host": "other.example"}, 421),
        ({"host": ""}, 421),
        ({"host": "localhost", "origin": "http://localhost"}, 200),
        ({"host": "localhost", "origin": "http://localhost:81"}, 403),
        ({"host": "localhost", "origin": "null"}, 403),
        ({"content-type": "application/json;charset=UTF-8"}, 200),
        ({"content-type": "application/json; charset=latin-1"}, 415),
        ({"content-type": ""}, 415),
        ({"content-type": "multipart/form-data"}, 415),
        ({"content-encoding": "gzip"}, 415),
    ],
)
def test_only_json_for_this_gateway_passes(headers, status):
    peer = Peer(b"{}", headers=headers)
    guard, _ = answer(peer, names=["farm.example"])
    assert peer.status == status
    assert peer.read == (status == 200)
    assert guard.refused == ({} if status == 200 else {status: 1})


def test_who_is_not_let_in_is_told_how_and_nothing_is_read():
    peer = Peer(b"{}", headers={"authorization": "Bearer bad"})
    _, room = answer(peer)
    assert (peer.status, peer.read, room.asked, room.left) == (401, 0, [], 1)
    assert peer.headers["www-authenticate"] == 'Bearer realm="farm"'
    assert peer.problem["detail"] == "this token is not good here"


def test_a_request_that_waits_ends_with_its_token():
    async def forever(scope, receive, send):
        await asyncio.Event().wait()

    peer = Peer(method="GET", query="wait=9", headers={"authorization": "Bearer ends"})
    _, room = answer(peer, forever)
    assert (peer.status, room.left) == (401, 1)
    assert "ended while this waited" in peer.problem["detail"]


def test_where_there_is_no_room_nothing_is_read():
    peer = Peer(b"{}", query="queue=full")
    answer(peer)
    assert (peer.status, peer.read, peer.headers["retry-after"]) == (503, 0, "4")
    assert (peer.problem["detail"], peer.problem["retry_after"]) == ("the queue is full", 4)


def test_what_says_that_it_is_too_large_is_not_read():
    peer = Peer(b"x" * 200, headers={"content-length": "101"})
    answer(peer)
    assert (peer.status, peer.read) == (413, 0)


def test_what_turns_out_to_be_too_large_is_read_no_further():
    peer = Peer(*[b"x" * 60] * 9)
    answer(peer)
    assert (peer.status, peer.read) == (413, 2)


def test_a_body_that_comes_too_slowly_is_given_up(monkeypatch):
    monkeypatch.setattr(module, "BODY_SECONDS", 0.01)
    peer = Peer(b"{", None)
    answer(peer)
    assert (peer.status, peer.headers["connection"]) == (408, "close")


def test_a_peer_that_leaves_while_it_sends_is_forgotten():
    peer = Peer(leaves=True)
    answer(peer)
    assert peer.sent == []


def test_a_peer_that_asks_whether_to_send_is_told_that_this_is_the_end():
    peer = Peer(headers={"expect": "100-continue", "content-length": "101"})
    answer(peer)
    assert (peer.status, peer.headers["connection"]) == (413, "close")


def test_bodies_have_a_bound_in_all_and_room_comes_back():
    async def run():
        release = asyncio.Event()

        async def slow(scope, receive, send):
            await release.wait()
            await echo(scope, receive, send)

        guard = Guard(slow, Room(), max_body=100)
        peers = [Peer(b"x" * 100) for _ in range(module.BODIES + 1)]
        tasks = [asyncio.ensure_future(guard(p.scope, p.receive, p.send)) for p in peers]
        await tasks[-1]
        assert peers[-1].status == 503
        release.set()
        await asyncio.gather(*tasks)
        assert {peer.status for peer in peers[:-1]} == {200}
        last = Peer(b"x" * 100)
        await guard(last.scope, last.receive, last.send)
        assert last.status == 200

    asyncio.run(run())


def test_a_request_that_waits_ends_with_its_peer():
    ended = []

    async def waits(scope, receive, send):
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    peer = Peer(method="GET", path="/v1/tasks/x", query="wait=5", leaves=True)
    answer(peer, waits)
    assert (ended, peer.sent) == ([True], [])


def test_a_request_that_waits_is_answered():
    peer = Peer(method="GET", path="/v1/jobs/x/events")
    answer(peer)
    assert peer.status == 200


# ---------------------------------------------------------------- quotas


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_a_caller_has_its_quota_and_others_have_theirs():
    callers = Callers(3)
    callers.reserve("a", 2)
    callers.reserve("b", 3)
    with pytest.raises(Problem, match="2 tasks of this caller are pending") as full:
        callers.reserve("a", 2)
    assert (full.value.status, full.value.retry_after) == (429, 5)
    callers.reserve("a", 1)
    callers.release("a", 1, ended=False)
    callers.check("a", 1)
    with pytest.raises(Problem, match="send fewer") as never:
        callers.check("c", 4)
    assert never.value.status == 413
    callers.release("a", 2)
    callers.release("b", 3)
    callers.release("c", 3)
    assert len(callers) == 0


def test_when_to_come_back_follows_from_how_fast_tasks_end():
    clock = Clock()
    callers = Callers(10, clock)
    callers.reserve("a", 10)
    clock.now += 20
    callers.release("a", 5)  # one in four seconds
    callers.reserve("a", 5)
    with pytest.raises(Problem) as full:
        callers.check("a", 3)
    assert full.value.retry_after == 12
    clock.now += 100
    callers.release("a", 1)
    assert callers._callers["a"].ended == 3.5


# ---------------------------------------------------------------- the rest


@pytest.mark.parametrize(("seconds", "said"), [(0, 1), (0.2, 1), (1.01, 2), (1000, 120)])
def test_a_caller_never_comes_back_too_soon(seconds, said):
    assert whole_seconds(seconds) == said


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        ("[::1]:0", ("::1", 0)),
        ("localhost:1", ("localhost", 1)),
    ],
)
def test_an_address_to_listen_at(text, found):
    assert parse_listen(text) == found


@pytest.mark.parametrize("text", ["", "8080", ":80", "::1:80", "h:x", "h:70000"])
def test_what_is_no_address_to_listen_at(text):
    with pytest.raises(ValueError, match="write HOST:PORT"):
        parse_listen(text)
