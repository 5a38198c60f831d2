"""The handler that lets peers in: what it does when it cannot go on."""

import threading

import pytest
import zmq

from farm.coordinator.guard import Guard
from farm.errors import ConfigError
from farm.identity import Role
from farm.keys import KeyStore, Pair, Token
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


def test_who_is_refused_is_hung_up_on_and_does_not_wait(rig, store):
    """Whether the answer is there before the handshake goes on, or after, is up to chance."""
    context, guard, _, address = rig
    server = Pair.of(store.server().secrets[0]).public
    for _ in range(8):
        said = why_not_in(context, address, server, Pair.make().secret)
        assert "hung up: it does not let this key in" in said
    assert guard.refused["unknown"] == sum(guard.refused.values()) == 8


def test_keys_that_cannot_be_read_stay_as_they_were(rig, store):
    context, guard, died, address = rig
    token = Token.parse(store.new("ann", Role.CLIENT), "it")
    assert gets_in(context, address, token)
    path = store.folder / "peers.json"
    path.chmod(0o644)
    path.touch()
    with pytest.raises(ConfigError, match="chmod 600"):
        store.ring()
    assert gets_in(context, address, token)
    assert not died.is_set()
    path.chmod(0o600)
    store.revoke("ann")
    assert not gets_in(context, address, token)
    assert guard.refused["revoked"] == 1


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
