"""The handler that lets peers in: what it does when it cannot go on."""

import threading
import time

import pytest
import zmq

from farm.cli.look import _keys
from farm.coordinator.guard import Guard
from farm.coordinator.metrics import Counters
from farm.errors import ConfigError
from farm.identity import Role
from farm.keys import KeyStore, Pair, Token, key_id
from farm.transport import Dealer, Router, Waker, parse_address
from tests.processes import free_ports

WAIT_SECONDS = 20.0


@pytest.fixture
def store(tmp_path):
    made = KeyStore(tmp_path / "keys")
    made.create("tcp://farm-host:7070")
    return made


@pytest.fixture
def rig(store):
    """A guard, and whether it has said that it died."""
    context, waker, died = zmq.Context(), Waker(), threading.Event()
    guard = Guard(context, store, waker.wake, died.set)
    router = Router(context, "client", identify=guard.identify("client"))
    guard.start((router,))
    address = parse_address(f"tcp://127.0.0.1:{free_ports()}")
    router.bind(address, store.server().secrets[0])
    yield context, guard, died, address
    guard.close()
    waker.close()
    context.destroy(linger=0)


def why_not_in(context, address, server, secret):
    """Why a peer with this key does not get in; empty if it does."""
    dealer = Dealer(context, "client")
    dealer.connect(address, server, secret)
    poller = zmq.Poller()
    for one in dealer.sources:
        poller.register(one, zmq.POLLIN)
    while not (dealer.connected or dealer.lost):
        assert poller.poll(WAIT_SECONDS * 1000)
        dealer.receive(1)
    dealer.close()
    return dealer.lost


def gets_in(context, address, token):
    return not why_not_in(context, address, token.server, token.client)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_its_end_is_said_and_nobody_gets_in_any_more(rig, store, monkeypatch):
    context, guard, died, address = rig
    token = Token.parse(store.new("ann", Role.CLIENT), "it")
    assert gets_in(context, address, token)
    assert not died.is_set()
    monkeypatch.setattr(store, "signature", lambda: 1 / 0)
    guard.look()
    assert died.wait(WAIT_SECONDS)
    assert not gets_in(context, address, token)


def test_where_no_handler_is_nobody_gets_in(store):
    """libzmq by itself lets in whoever has any key at all."""
    context = zmq.Context()
    router = Router(context, "client")
    address = parse_address(f"tcp://127.0.0.1:{free_ports()}")
    router.bind(address, store.server().secrets[0])
    token = Token.parse(store.new("ann", Role.CLIENT), "it")
    assert not gets_in(context, address, token)
    assert router.receive(1) == []
    context.destroy(linger=0)


def test_who_is_refused_is_hung_up_on_and_does_not_wait(rig, store):
    """Whether the answer is there before the handshake goes on, or after, is up to chance."""
    context, guard, _, address = rig
    server = Pair.of(store.server().secrets[0]).public
    for _ in range(8):
        said = why_not_in(context, address, server, Pair.make().secret)
        assert "hung up: it does not let this key in" in said
    assert guard.refused["unknown"] == sum(guard.refused.values()) == 8


@pytest.mark.parametrize("damage", ["mode", "content", "folder"])
def test_keys_that_cannot_be_read_stay_as_they_were_and_that_is_said(rig, store, damage, caplog):
    context, guard, died, address = rig
    token = Token.parse(store.new("ann", Role.CLIENT), "it")
    assert gets_in(context, address, token)
    path = store.folder / "peers.json"
    good = path.read_bytes()
    if damage == "mode":
        path.chmod(0o644)
        path.touch()
    elif damage == "content":
        path.write_bytes(good[:-20])
    else:
        store.folder.chmod(0o755)
        path.touch()
    with pytest.raises(ConfigError):
        store.revoke("ann")  # whoever revokes is told
    assert gets_in(context, address, token)
    until(lambda: guard.unreadable)  # it looks now and then
    snapshot = Counters((), guard).snapshot()
    assert snapshot["keys_unreadable"] == 1
    assert "CANNOT BE READ" in _keys(snapshot)
    [said] = [one for one in caplog.records if "the keys cannot be read" in one.message]
    assert said.levelname == "ERROR"
    assert not died.is_set()
    store.folder.chmod(0o700)
    path.chmod(0o600)
    path.write_bytes(good)
    store.revoke("ann")
    assert not gets_in(context, address, token)
    assert guard.refused["revoked"] == 1
    assert not guard.unreadable
    assert "can be read again" in caplog.text


def test_a_key_ends_in_time_although_the_keys_cannot_be_read(rig, store):
    _, guard, _, _ = rig
    past = KeyStore(store.folder, lambda: time.time() - 60.0)
    token = Token.parse(past.new("ann", Role.CLIENT, expires=61.0), "it")
    key = key_id(Pair.of(token.client).public)
    until(lambda: guard.identify("client")(key))
    (store.folder / "peers.json").write_bytes(b"{")
    until(lambda: guard.unreadable)
    until(lambda: key in guard.take_gone())


def until(condition):
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize(
    "request_",
    [
        [b"1.0", b"1", b"client", b"127.0.0.1", b"", b"NULL"],
        [b"1.0", b"1", b"client", b"127.0.0.1", b"", b"PLAIN", b"admin", b"admin"],
        [b"1.0", b"1", b"client", b"127.0.0.1", b"", b"CURVE", b"short"],
        [b"1.0", b"1", b"", b"127.0.0.1", b"", b"CURVE", b"x" * 32],
    ],
)
def test_what_is_no_key_is_hung_up_on(rig, request_):
    context, guard, died, _ = rig
    ask = context.socket(zmq.REQ)
    ask.connect("inproc://zeromq.zap.01")
    ask.send_multipart(request_)
    assert ask.poll(WAIT_SECONDS * 1000)
    assert ask.recv_multipart() == [b"1.0", b"1", b"000", b"", b"", b""]
    ask.close(linger=0)
    assert sum(guard.refused.values()) == 1
    assert not died.is_set()


def test_a_host_s_key_is_known_only_on_its_side(rig, store):
    _, guard, _, _ = rig
    token = Token.parse(store.new("north", Role.HOST), "it")
    key = store.ring().admit(Pair.of(token.host).public, "host", 0.0).identity.key
    assert guard.identify("client")(key) is None
