"""Routers and dealers over real sockets: order, loss, garbage, full buffers, ends."""

import contextlib
import errno
import logging
import resource
import secrets
import select
import socket as sockets
import stat
import time
from pathlib import Path

import pytest
import zmq

from farm.core import CoreSettings
from farm.descriptors import raise_file_limit
from farm.model import Ending
from farm.protocol.codec import decoder, encode
from farm.protocol.messages import (
    MESSAGE_BYTES_MAX,
    Beat,
    Bye,
    Group,
    Rejected,
    Result,
    Results,
    Submit,
)
from farm.transport import AddressError, Dealer, Poller, Router, parse_address
from farm.transport import dealer as dealer_module
from farm.transport import router as router_module
from farm.transport.options import CONTROL_MESSAGES, CREDIT_TASKS, MESSAGES_HWM, hwm_for

PATIENCE = 10.0


@pytest.fixture
def context():
    made = zmq.Context()
    yield made
    made.destroy(linger=0)


@pytest.fixture
def address(tmp_path):
    return parse_address(f"ipc://{tmp_path}/s")


@pytest.fixture
def router(context, address):
    made = Router(context, "client")
    made.bind(address)
    yield made
    made.shut()


@pytest.fixture
def dealer(context, address, router):
    made = Dealer(context, "client")
    made.connect(address)
    yield made
    made.close()


def wait(ends, until, *, flush=False):
    """Receive at all ends, collecting what arrives, until the collection satisfies."""
    got = []
    deadline = time.monotonic() + PATIENCE
    poller = zmq.Poller()
    for end in ends:
        for one in getattr(end, "sources", None) or (end.socket,):
            poller.register(one, zmq.POLLIN)
    while not until(got):
        assert time.monotonic() < deadline, f"only this arrived: {got}"
        poller.poll(20)
        for end in ends:
            if flush:
                end.flush()
            got += end.receive(1000)
    return got


def raw_dealer(context, address):
    """A socket that says whatever a test wants said."""
    socket = context.socket(zmq.DEALER)
    socket.linger = 0
    socket.connect(str(address))
    return socket


def raw_receive(socket):
    assert socket.poll(PATIENCE * 1000), "nothing arrived"
    return socket.recv_multipart()


@pytest.mark.parametrize("scheme", ["ipc", "tcp"])
def test_messages_go_both_ways_in_order(context, tmp_path, scheme, free_address):
    address = parse_address(f"ipc://{tmp_path}/s" if scheme == "ipc" else free_address())
    router, dealer = Router(context, "client"), Dealer(context, "client")
    router.bind(address)
    dealer.connect(address)
    for number in range(1000):
        dealer.send(Beat(float(number)))
    arrived = wait([router], lambda got: len(got) == 1000)
    assert [message.stamp for _, message in arrived] == list(range(1000))
    assert len({id(connection) for connection, _ in arrived}) == 1
    connection = arrived[0][0]
    for number in range(1000):
        router.send(connection, Beat(0.0, float(number)))
    answers = wait([dealer], lambda got: len(got) == 1000)
    assert [message.echo for message in answers] == list(range(1000))
    assert dealer.connected
    assert not dealer.lost
    assert len(router) == 1
    router.shut()
    dealer.close()


def test_sending_may_hide_that_a_message_came_and_the_next_wait_ends_all_the_same(router, dealer):
    dealer.send(Beat(0.0))
    [(connection, _)] = wait([router], len)
    poller = Poller()
    for source in dealer.sources:
        poller.register(source)
    dealer.receive(10)
    for number in range(1, 20):
        assert dealer.quiet is dealer.socket
        router.send(connection, Beat(float(number)))
        time.sleep(0.002)  # it arrives; then sending takes back that the descriptor is readable
        dealer.send(Beat(0.0))
        got = []
        while not got:
            ready = poller.poll(int(1000 * PATIENCE), dealer.quiet)
            assert ready, "nothing arrived"
            got = dealer.receive(10, ready)
        assert [message.stamp for message in got] == [number]


def test_large_payloads_arrive_whole(router, dealer):
    payloads = [secrets.token_bytes(size) for size in (10, 70_000, 5_000_000)]
    sent = Submit([Group(1, 3, b"f" * 16, payloads, sum(map(len, payloads)))])
    dealer.send(sent)
    [(connection, message)] = wait([router], len)
    assert message == sent
    outcome = Result(b"s" * 16, 1, 3, Ending.OK, payloads, sum(map(len, payloads)))
    router.send(connection, Results(1, 1, [outcome]))
    assert wait([dealer], len) == [Results(1, 1, [outcome])]


def test_receive_takes_no_more_than_it_may(router, dealer):
    for _ in range(100):
        dealer.send(Beat())
    got = []
    while len(got) < 100:
        assert router.socket.poll(PATIENCE * 1000)
        part = router.receive(7)
        assert len(part) <= 7
        got += part


def test_a_dealer_that_left_is_gone_when_it_is_sent_to(router, dealer):
    dealer.send(Beat())
    [(connection, _)] = wait([router], len)
    dealer.close()
    deadline = time.monotonic() + PATIENCE
    while not (gone := router.receive(10)):
        assert time.monotonic() < deadline
        router.send(connection, Beat())
        router.socket.poll(10)
    assert gone == [(connection, None)]
    assert len(router) == 0
    assert router.counters["gone"] == 1
    router.send(connection, Beat())
    assert router.receive(10) == []


def test_the_last_words_of_a_dealer_that_left_are_heard_also_if_it_was_sent_to_before(
    router, dealer
):
    dealer.send(Beat())
    [(connection, _)] = wait([router], len)
    for _ in range(3):
        dealer.send(Beat())
    dealer.send(Bye("drained"))
    dealer.close(linger_seconds=PATIENCE)
    deadline = time.monotonic() + PATIENCE
    while connection.reachable:
        assert time.monotonic() < deadline
        router.send(connection, Beat())
        time.sleep(0.01)
    assert not router.has_news  # there is more to read first
    heard = [*router.receive(2), *router.receive(10)]
    assert [message for _, message in heard] == [Beat()] * 3 + [Bye("drained"), None]
    assert {one for one, _ in heard} == {connection}
    assert len(router) == 0


def test_a_dealer_learns_that_the_router_left_after_its_last_words(router, dealer):
    dealer.send(Beat())
    [(connection, _)] = wait([router], len)
    wait([dealer], lambda _: dealer.connected)
    router.send(connection, Bye("the end"))
    router.shut(linger_seconds=5)
    # The end is known before the last words are read, and does not take them away.
    assert select.select([dealer.sources[1]], [], [], PATIENCE)[0]
    dealer.socket.poll(PATIENCE * 1000)
    got = wait([dealer], lambda _: dealer.lost)
    assert got == [Bye("the end")]
    assert "closed the connection" in dealer.lost
    dealer.send(Beat())
    dealer.flush()


def test_what_was_queued_for_a_router_does_not_reach_the_next(context, router, dealer, address):
    """It would come first, under a new identity, and before any HELLO."""
    dealer.send(Beat())
    wait([router], len)
    wait([dealer], lambda _: dealer.connected)
    router.shut()
    assert select.select([dealer.sources[1]], [], [], PATIENCE)[
        0
    ]  # the end of the connection, not looked at yet
    dealer.send(Beat(1.0))
    after = context.socket(zmq.ROUTER)
    deadline = time.monotonic() + PATIENCE
    while True:  # the first socket is closed in the background
        try:
            after.bind(str(address))
            break
        except zmq.ZMQError:
            assert time.monotonic() < deadline
    assert not after.poll(500)  # longer than ZeroMQ waits to connect anew by default
    after.close(linger=0)


@pytest.mark.parametrize("kind", ["tcp", "no such name", "no such socket", "dead socket"])
def test_an_address_without_a_farm_is_reported_at_once(context, tmp_path, kind, free_address):
    if kind == "tcp":
        address = parse_address(free_address())
    elif kind == "no such name":
        address = parse_address("tcp://no-such-name.invalid:7070")
    else:
        address = parse_address(f"ipc://{tmp_path}/s")
        if kind == "dead socket":
            with sockets.socket(sockets.AF_UNIX) as listener:
                listener.bind(address.host)
    dealer = Dealer(context, "client")
    dealer.connect(address)
    wait([dealer], lambda _: dealer.lost)
    assert not dealer.connected
    assert str(address) in dealer.lost
    dealer.close()
    dealer.close()


def test_an_address_that_never_answers_is_given_up(context, free_address, monkeypatch):
    monkeypatch.setattr(dealer_module, "ATTEMPT_SECONDS", 0.05)
    address = parse_address(free_address())
    with sockets.create_server((address.host, address.port)):
        dealer = Dealer(context, "client")
        dealer.connect(address)
        wait([dealer], lambda _: dealer.lost)
        assert not dealer.connected
        dealer.close()


def test_a_message_lost_on_the_way_is_noticed_and_told(router, context, address):
    raw = raw_dealer(context, address)
    raw.send_multipart(encode(0, Beat()))
    raw.send_multipart(encode(2, Beat()))
    raw.send_multipart(encode(3, Beat()))
    (first, beat), (second, none) = wait([router], lambda got: len(got) == 2)
    assert (beat, none) == (Beat(), None)
    assert first is second
    number, said = router_reply(raw_receive(raw))
    assert number == 0
    assert (said.code, said.retry) == ("garbled", True)
    assert "message 2 arrived instead of 1" in said.message
    raw.send_multipart(encode(4, Beat()))
    raw.send_multipart(encode(0, Bye("as new")))
    [(third, message)] = wait([router], len)
    assert message == Bye("as new")
    assert third is not first
    assert router.counters["stray"] == 2
    assert router.counters["garbled"] == 1
    raw.close()


def router_reply(frames):
    return decoder("to_client").decode(frames)


@pytest.mark.parametrize(
    "frames",
    [
        [b""],
        [b"", b""],
        [b"hello"],
        [secrets.token_bytes(1000)],
        [b"\x93\x00\x92\xcd\x03\xe7\x00\x90"],
        [*encode(0, Beat()), b"not named"],
        [encode(0, Submit([Group(1, 1, b"f" * 16, [b"x"], 1)]))[0][:-3]],
        [encode(0, Rejected("version", "from the wrong side"))[0]],
    ],
    ids=["empty", "two empty", "text", "noise", "tag", "attachment", "truncated", "direction"],
)
def test_garbage_is_counted_told_and_does_no_harm(router, dealer, context, address, frames):
    raw = raw_dealer(context, address)
    raw.send_multipart(frames)
    said = router_reply(wait_raw(router, raw))[1]
    assert isinstance(said, Rejected)
    assert (said.code, said.retry) == ("garbled", False)
    raw.send_multipart(frames)
    dealer.send(Beat())
    [(_, message)] = wait([router], len)
    assert message == Beat()
    assert router.counters["garbled"] == 1
    assert len(router) == 1
    raw.close()


def wait_raw(router, raw):
    deadline = time.monotonic() + PATIENCE
    while not raw.poll(10):
        assert time.monotonic() < deadline
        assert router.receive(10) == []
    return raw.recv_multipart()


def test_a_flood_of_garbage_is_logged_once_a_second(router, context, address, caplog):
    raw = raw_dealer(context, address)
    with caplog.at_level(logging.WARNING, "farm.transport"):
        for _ in range(500):
            raw.send(b"noise")
        deadline = time.monotonic() + PATIENCE
        while router.counters["garbled"] + router.counters["stray"] < 500:
            assert time.monotonic() < deadline
            router.socket.poll(10)
            assert router.receive(50) == []
    assert len(caplog.records) == 1
    raw.close()


def test_receive_reads_no_more_than_it_may_of_what_says_nothing_either(router, context, address):
    raw = raw_dealer(context, address)
    for _ in range(500):
        raw.send(b"")
    deadline, read = time.monotonic() + PATIENCE, 0
    while read < 500:
        assert time.monotonic() < deadline
        assert router.receive(3) == []
        before, read = read, router.counters["garbled"] + router.counters["stray"]
        assert read - before <= 3
    raw.close()


def test_a_message_above_the_size_limit_is_dropped_and_the_connection_too(router, dealer):
    dealer.send(Beat())
    wait([router], len)
    dealer.socket.send(bytes(MESSAGE_BYTES_MAX + 1))
    wait([dealer], lambda _: dealer.lost)
    assert router.receive(10) == []


def test_a_dealer_gives_up_a_connection_that_lost_a_message(context, address):
    raw = context.socket(zmq.ROUTER)
    raw.linger = 0
    raw.bind(str(address))
    dealer = Dealer(context, "client")
    dealer.connect(address)
    dealer.send(Beat())
    routing_id, *_ = raw_receive(raw)
    raw.send_multipart([routing_id, *encode(0, Beat())])
    raw.send_multipart([routing_id, *encode(2, Beat())])
    assert wait([dealer], lambda _: dealer.lost) == [Beat()]
    assert "message 2 arrived instead of 1" in dealer.lost
    dealer.close()
    raw.close()


@pytest.fixture
def narrow(context, address):
    """A router and a dealer that hold few messages in their sockets."""
    router, dealer = Router(context, "client", hwm=5), Dealer(context, "client", hwm=5)
    for end in (router, dealer):
        end.socket.setsockopt(zmq.SNDBUF, 4096)
        end.socket.setsockopt(zmq.RCVBUF, 4096)
    router.bind(address)
    dealer.connect(address)
    dealer.send(Beat())
    [(connection, _)] = wait([router], len)
    yield router, dealer, connection
    router.shut()
    dealer.close()


def big(number):
    return Bye(str(number) + " " * 60_000)


def test_high_water_marks_are_finite_and_well_above_the_credit(router, dealer):
    marks = {
        one.socket.getsockopt(mark) for one in (router, dealer) for mark in (zmq.SNDHWM, zmq.RCVHWM)
    }
    assert marks == {MESSAGES_HWM}
    credit = CoreSettings().session_tasks
    assert credit == CREDIT_TASKS
    assert 4 * (credit + CONTROL_MESSAGES) <= MESSAGES_HWM
    assert hwm_for(1_000_000) >= 4 * (1_000_000 + CONTROL_MESSAGES)
    assert all(
        one.getsockopt(zmq.RCVHWM) for one in (dealer.socket, dealer._monitor)
    )  # 0 is no mark


def test_what_does_not_fit_waits_in_order(narrow):
    router, dealer, connection = narrow
    for number in range(200):
        router.send(connection, big(number))
    assert router.backlog == 1
    assert router.counters["congested"] > 0
    got = wait([dealer, router], lambda got: len(got) == 200, flush=True)
    assert [int(message.reason) for message in got] == list(range(200))
    assert router.backlog == 0
    for number in range(200):
        dealer.send(big(number))
    assert dealer.backlog == dealer.congested > 0
    got = wait([dealer, router], lambda got: len(got) == 200, flush=True)
    assert [int(message.reason) for _, message in got] == list(range(200))
    assert not dealer.backlog


def test_a_peer_that_does_not_read_is_dropped(narrow, monkeypatch):
    router, _, connection = narrow
    monkeypatch.setattr(router_module, "OUTBOX_MESSAGES_MAX", 10)
    for number in range(200):
        router.send(connection, big(number))
    assert router.receive(1) == [(connection, None)]
    assert router.counters["overflowed"] == 1
    assert (router.backlog, len(router)) == (0, 0)


def test_a_dealer_whose_router_does_not_read_is_lost(narrow, monkeypatch):
    _, dealer, _ = narrow
    monkeypatch.setattr(dealer_module, "OUTBOX_BYTES_MAX", 1_000_000)
    for number in range(200):
        dealer.send(big(number))
    assert "too slowly" in dealer.lost
    assert dealer.overflowed
    assert dealer.backlog == 0


def test_a_closed_connection_is_not_heard_again(router, dealer):
    dealer.send(Beat())
    [(connection, _)] = wait([router], len)
    router.send(connection, Rejected("replaced", "a newer connection came"))
    router.close(connection)
    assert isinstance(wait([dealer], len)[0], Rejected)
    dealer.send(Beat())
    deadline = time.monotonic() + PATIENCE
    while not router.counters["stray"]:
        assert time.monotonic() < deadline
        router.socket.poll(10)
        assert router.receive(10) == []
    assert router.counters["garbled"] == 0


def test_a_connection_that_is_cut_is_gone_at_once_and_not_heard_again(router, dealer):
    """Not only when libzmq has noticed: what its peer sent before may wait to be read."""
    dealer.send(Beat())
    ((connection, _),) = wait([router], len)
    dealer.send(Beat())
    assert router.cut(connection.identity.key) == 1
    assert (len(router), connection.open) == (0, False)
    assert wait([router], len) == [(connection, None)]
    wait([router], lambda _: router.counters["stray"])
    assert router.cut(connection.identity.key) == 0


def test_an_address_in_use_is_refused_by_name(context, router, address, free_address):
    second = Router(context, "client")
    with pytest.raises(AddressError, match="in use"):
        second.bind(address)
    taken = parse_address(free_address())
    with (
        sockets.create_server((taken.host, taken.port)),
        pytest.raises(AddressError, match=f"{taken.port}.*another process listens"),
    ):
        second.bind(taken)
    with pytest.raises(AddressError, match="no-such-dir"):
        second.bind(parse_address("ipc:///no-such-dir/s"))
    second.shut()


def test_an_address_is_in_use_also_if_too_many_wait_for_who_listens_there(context, address):
    with contextlib.ExitStack() as opened:
        listening = opened.enter_context(sockets.socket(sockets.AF_UNIX))
        listening.bind(address.host)
        listening.listen(0)
        error = 0
        while not error:
            waiting = opened.enter_context(sockets.socket(sockets.AF_UNIX))
            waiting.setblocking(False)
            error = waiting.connect_ex(address.host)
        assert error == errno.EAGAIN
        router = Router(context, "host")
        with pytest.raises(AddressError, match="in use"):
            router.bind(address)
        router.shut()


def test_a_dead_socket_file_is_replaced_and_private(context, address):
    with sockets.socket(sockets.AF_UNIX) as listener:
        listener.bind(address.host)
    router = Router(context, "client")
    router.bind(address)
    assert stat.S_IMODE(Path(address.host).stat().st_mode) == 0o600
    router.shut()


def test_the_file_limit_is_raised_as_far_as_it_goes():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
        assert raise_file_limit() > 256
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
