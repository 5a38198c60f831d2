"""Keys over real sockets: who gets in, who does not, and what becomes of them."""

import os
import socket
import sys
import time

import cloudpickle
import httpx
import psutil
import pytest
import zmq
from zmq.utils import z85

from farm import Client
from farm.descriptors import raise_file_limit
from farm.errors import FarmError, UnknownTask
from farm.identity import Role
from farm.keys import KeyStore, Pair, Token
from farm.keys.files import locked
from farm.protocol import messages as m
from farm.transport import Dealer, host_address, parse_address
from farm.transport.options import ATTEMPT_SECONDS
from tests.conftest import REPOSITORY
from tests.integration.gateway_rig import MODULE
from tests.processes import Place, free_ports

# Workers need not import this module, and what it imports, to run its functions.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

WAIT_SECONDS = 30.0
DAY = 86_400.0


def double(number):
    return 2 * number


@pytest.fixture
def place():
    with Place("keys", tcp=True, forks=True) as made:
        made.log_level = "debug"
        yield made


class Remembering(KeyStore):
    """It remembers all tokens that it has made."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.made = []

    def new(self, *words, **options):
        self.made.append(super().new(*words, **options))
        return self.made[-1]

    def invite(self, *words, **options):
        self.made.append(super().invite(*words, **options))
        return self.made[-1]

    def said_in(self, text):
        """Which secrets, or large parts of tokens, stand in a text."""
        secrets = [*self.server().secrets]
        for token in self.made:
            if token.startswith("farm1-"):
                parsed = Token.parse(token, "it")
                secrets += [one for one in (parsed.client, parsed.host, parsed.tasks) if one]
        words = [token[at : at + 24] for token in self.made for at in range(10, len(token) - 24, 8)]
        for secret in secrets:
            words += [secret.hex(), z85.encode(secret).decode(), repr(secret)[2:40]]
        return [word for word in words if word in text]


@pytest.fixture
def store(place):
    made = Remembering(place.folder / "keys")
    made.create(place.address)
    return made


@pytest.fixture
def farm(place, store):
    """A coordinator with keys, that listens."""
    service = place.coordinator(keys=str(store.folder))
    service.start()
    place.local = str(store.folder / "local.token")
    client = Client(place.address, connect_timeout=WAIT_SECONDS, token=place.local, keys="")
    client.place = place
    yield client
    client.shutdown(wait=False)
    assert place.complaints() == []
    for log in place.folder.glob("*.log"):
        assert store.said_in(log.read_text()) == []


def until(condition, what, seconds=WAIT_SECONDS):
    """Wait until it is so; fails the test if it never is."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def refused(client, reason=""):
    found = client.query("status")["process"]
    return found.get(f"refused_{reason}" if reason else "refused", 0)


def strangers(client):
    """Those who showed no key: which of the two it is, depends on which side hangs up first."""
    return refused(client, "without_key") + refused(client, "half_open")


class Peer:
    """A DEALER that wants in."""

    def __init__(self, context, address, side="client"):
        self.dealer = Dealer(context, side)
        self.address = address if side == "client" else host_address(address)

    def connect(self, server=b"", secret=b""):
        self.dealer.connect(self.address, server, secret)
        return self

    def end(self):
        """Why it did not get in, or empty if it did."""
        until(
            lambda: self.dealer.receive(1) or self.dealer.lost or self.dealer.connected, "neither"
        )
        return self.dealer.lost


@pytest.fixture
def context():
    made = zmq.Context()
    yield made
    made.destroy(linger=0)


@pytest.fixture
def peer(context, place):
    made = []

    def make(side="client"):
        made.append(Peer(context, parse_address(place.address), side))
        return made[-1]

    yield make
    for one in made:
        one.dealer.close()


def server_of(store):
    return Pair.of(store.server().secrets[0]).public


def test_those_with_a_key_run_tasks_and_their_tasks_run_others(farm, place, store):
    host = store.new("north", Role.HOST)
    place.forks = False  # what it was started with is looked at
    place.agent("north", FARM_TOKEN=host).start()
    with Client(place.address, token=store.new("ann", Role.CLIENT), keys="") as client:
        assert client.submit(double, 21).result(WAIT_SECONDS) == 42
        assert client.submit(_doubled_there).result(WAIT_SECONDS) == 42
        assert client.submit(_secrets).result(WAIT_SECONDS) == []
    assert refused(farm) == 0


def _doubled_there():
    import farm

    return farm.current_client().submit(double, 21).result(30)


def _secrets():
    """What looks like a token, in the environment or the command line of this worker."""
    own = psutil.Process()
    words = [*own.cmdline(), *own.environ().values(), *os.environ.values()]
    for parent in own.parents()[:2]:  # the fork server; and the agent's command line
        words += parent.cmdline()
    return [word for word in words if "farm1-" in word]


def test_a_task_submits_others_with_a_token_in_a_file_although_it_goes_elsewhere(
    farm, place, store
):
    path = place.folder / "north.token"
    path.write_text(store.new("north", Role.HOST))
    path.chmod(0o600)
    place.agent("north", FARM_TOKEN=os.path.relpath(path, REPOSITORY)).start()
    with Client(place.address, token=store.new("ann", Role.CLIENT), keys="") as client:
        assert client.submit(_doubled_elsewhere).result(WAIT_SECONDS) == 42


def _doubled_elsewhere():
    os.chdir("/")
    return _doubled_there()


def test_no_service_shows_its_token_also_when_it_cannot_use_it(farm, place, store):
    """That nothing is in the logs of all services, at debug level, is looked at in every test."""
    host, client = store.new("north", Role.HOST), store.new("ann", Role.CLIENT)
    wrong = {
        "cut": (host[:-5], "cut short"),
        "client": (client, "is not a host's token"),
        "pasted": (f"x{host}", "neither a token nor the path of a file with one"),
        "twice": (f" {host[5:]}{host}", "neither a token nor the path of a file with one"),
    }
    for name, (token, _) in wrong.items():
        place.agent(name, FARM_TOKEN=token).start()
    tasks = place.folder / "schedules"
    tasks.mkdir()
    told = {"files": [], "address": place.address, "state": str(tasks / "s.db")}
    place.module("scheduler", "farm_scheduler", told, FARM_TOKEN=client[:-5]).start()
    for name, (_, said) in wrong.items():
        [service] = [one for one in place.services if one.name == name]
        assert service.wait() == 3
        assert said in service.log.read_text()
    [scheduler] = [one for one in place.services if one.name == "scheduler"]
    assert scheduler.wait() == 3
    assert "cut short" in scheduler.log.read_text()
    text = (store.folder / "local.token").read_text()
    assert store.said_in(f"a log with {host} and {text}")  # it would be found


def test_when_nothing_checks_keys_any_more_the_coordinator_ends(place, store, peer):
    service = place.coordinator(keys=str(store.folder))
    service.start()
    token = Token.parse(store.new("ann", Role.CLIENT), "it")
    until(lambda: not peer().connect(token.server, token.client).end(), "it does not listen")
    # The file is valid as far as it goes, and deeper than its reader can: nobody thought of that.
    nested = b"[" * 100_000 + b"]" * 100_000
    (store.folder / "peers.json").write_bytes(b'{"more": ' + nested + b"}")
    assert service.wait() == 70
    assert "nothing checks keys any more" in service.log.read_text()
    assert peer().connect(token.server, token.client).end()


def test_loopback_has_keys_of_its_own_which_this_user_s_clients_find(place, peer, monkeypatch):
    monkeypatch.delenv("FARM_TOKEN", raising=False)
    keys = place.folder / "made"
    place.coordinator(keys=str(keys)).start()
    until((keys / "local.token").exists, "no key is made")
    with Client(place.address, keys=str(keys), connect_timeout=WAIT_SECONDS) as client:
        assert client.query("who")["role"] == "admin"
    assert "who have a key" in peer().connect().end()
    assert keys.stat().st_mode & 0o777 == 0o700
    assert {one.stat().st_mode & 0o777 for one in keys.iterdir()} == {0o600}


def test_without_a_key_nobody_gets_in(farm, peer):
    assert "who have a key" in peer().connect().end()
    until(lambda: strangers(farm) == 1, "it is not counted")


def test_a_password_is_no_key(farm, context, place):
    for count, kind in enumerate((zmq.DEALER, zmq.REQ), 1):
        plain = context.socket(kind)
        plain.plain_username, plain.plain_password = b"admin", b"admin"
        plain.connect(place.address)
        until(lambda count=count: strangers(farm) == count, "it is not counted")
        plain.close(linger=0)


def test_with_another_server_s_key_nobody_gets_in(farm, peer, store):
    token = Token.parse(store.new("ann", Role.CLIENT), "it")
    assert "does not let this key in" in peer().connect(Pair.make().public, token.client).end()
    until(lambda: strangers(farm) == 1, "it is not counted")


@pytest.mark.parametrize(
    ("hangs_up", "said"), [(True, "or the network cut it off"), (False, "nothing answers at")]
)
def test_a_handshake_that_the_network_ends_is_not_blamed_on_the_key(context, hangs_up, said):
    with socket.create_server(("127.0.0.1", free_ports())) as server:
        one = Peer(context, parse_address(f"tcp://127.0.0.1:{server.getsockname()[1]}"))
        one.dealer.socket.handshake_ivl = 100
        one.connect(Pair.make().public, Pair.make().secret)
        accepted, _ = server.accept()
        with accepted:
            if hangs_up:
                accepted.close()
            assert said in one.end()
        one.dealer.close()


def test_a_key_that_the_farm_does_not_know(farm, peer, store):
    assert "does not let this key in" in peer().connect(server_of(store), Pair.make().secret).end()
    assert refused(farm, "unknown") == 1


def test_a_revoked_key(farm, peer, store):
    token = Token.parse(store.new("ann", Role.CLIENT), "it")
    store.revoke("ann")
    assert peer().connect(token.server, token.client).end()
    assert refused(farm, "revoked") == 1


def test_whoever_is_not_let_in_is_not_told_to_start_another_farm(farm, place, store):
    token, said = store.new("ann", Role.CLIENT), []
    store.revoke("ann")

    def try_it():
        with pytest.raises(ConnectionError) as raised:
            Client(place.address, token=token, keys="", connect_timeout=1.0)
        said.append(str(raised.value))
        return "it does not let this key in" in said[-1]

    until(try_it, "it is not told why")
    assert "farm up" not in said[-1]


def test_an_expired_key(farm, place, peer, store):
    past = KeyStore(store.folder, lambda: time.time() - 2 * DAY)
    token = Token.parse(past.new("ann", Role.CLIENT, expires=DAY), "it")
    assert peer().connect(token.server, token.client).end()
    assert refused(farm, "expired") == 1


def test_a_client_that_poses_as_a_host_and_the_reverse(farm, peer, store):
    token = Token.parse(store.new("ann", Role.ADMIN), "it")
    assert peer("host").connect(token.server, token.client).end()
    host = Token.parse(store.new("north", Role.HOST), "it")
    assert peer("client").connect(host.server, host.host).end()
    assert refused(farm, "wrong_side") == 2
    assert farm.query("hosts") == []


def test_a_revoked_host_is_cut_at_once_and_its_tasks_go_elsewhere(farm, place, store):
    place.agent("north", slots=1, FARM_TOKEN=store.new("north", Role.HOST)).start()
    client = Client(place.address, token=store.new("ann", Role.CLIENT), keys="")
    future = client.submit(time.sleep, 600)
    until(future.running, "the task is not started")
    store.revoke("north")
    until(lambda: not any(one["connected"] for one in farm.query("hosts")), "it is connected still")
    assert client.query("status")["tasks"]  # the client is not cut
    until(lambda: refused(farm, "revoked") >= 2, "the host does not try again")
    client.shutdown(wait=False)


def test_a_revoked_client_is_cut_at_once(farm, place, store):
    client = Client(place.address, token=store.new("ann", Role.CLIENT), keys="")
    assert farm.query("status")["sessions"] == 2
    store.revoke("ann")
    until(lambda: farm.query("status")["sessions"] == 1, "it is connected still")
    until(lambda: "does not let this key in" in client.connection.trouble, "it was not told")
    client.shutdown(wait=False)


def test_a_connection_that_said_nothing_before_its_key_was_revoked(farm, peer, store):
    token = Token.parse(store.new("ann", Role.CLIENT), "it")
    silent = peer().connect(token.server, token.client)
    assert silent.end() == ""
    store.revoke("ann")
    assert peer().connect(token.server, token.client).end()  # the farm has noticed
    silent.dealer.send(m.Query(1, "status", {}))
    until(lambda: silent.dealer.receive(1) or silent.dealer.lost, "it is connected still")
    assert silent.dealer.lost
    assert farm.query("status")["process"]["barred"] == 1


def test_a_key_ends_when_its_time_comes(farm, place, store):
    token = store.new("ann", Role.CLIENT, expires=2.0)
    client = Client(place.address, token=token, keys="")
    until(lambda: farm.query("status")["sessions"] == 1, "it is connected still")
    client.shutdown(wait=False)


def test_another_peer_s_routing_id_gives_nobody_its_place(farm, context, place, store):
    """A routing id is free as soon as its owner is gone, before the coordinator has noticed."""
    ann = Token.parse(store.new("ann", Role.CLIENT), "it")
    eve = Token.parse(store.new("eve", Role.CLIENT), "it")

    def connect(token):
        socket = context.socket(zmq.DEALER)
        socket.linger, socket.routing_id = 1000, b"ann's"
        socket.curve_serverkey = token.server
        socket.curve_secretkey, socket.curve_publickey = token.client, Pair.of(token.client).public
        socket.connect(place.address)
        return socket

    from farm.protocol.codec import encode

    first = connect(ann)
    first.send_multipart(encode(0, m.ClientHello(*HELLO)))
    until(lambda: first.poll(100), "no answer")
    before = farm.query("status")["process"]["barred"]
    first.close(linger=0)

    def barred():
        """Eve may come before the socket has noticed that Ann left; it ignores her then."""
        second = connect(eve)
        second.send_multipart(encode(1, m.Query(1, "status", {})))
        assert not second.poll(200)
        second.close(linger=0)
        return farm.query("status")["process"]["barred"] > before

    until(barred, "it was not noticed")


HELLO = (m.PROTOCOL_VERSION, "", "", b"", b"a" * 16, b"b" * 16, 1, 0, b"", 0, 1 << 20, [])


HALF_OPEN = 10_000


@pytest.mark.timeout(180)
def test_ten_thousand_half_open_connections(farm, place, store):
    """Each says nothing, or half of a greeting; the service stays up and hangs up on them.

    All are open at a time if this process may have so many files, else as many as it may.
    """
    process, port = psutil.Process(place.services[0].pid), parse_address(place.address).port
    at_rest = process.num_fds()
    waves = -(-HALF_OPEN // min(HALF_OPEN, raise_file_limit() - 500))
    for wave in range(1, waves + 1):
        ours = []
        for number in range(HALF_OPEN // waves):
            ours.append(socket.create_connection(("127.0.0.1", port + number % 2)))
            if number % 4 > 1:
                ours[-1].sendall(b"\xff\0\0\0")
            if not number % 500:
                assert farm.query("status")["sessions"] == 1
        assert process.num_fds() <= at_rest + len(ours) + 20
        with Client(place.address, token=place.local, keys="", connect_timeout=WAIT_SECONDS):
            pass  # who has a key gets in meanwhile
        # Well before libzmq would let go of them by itself, which is after 30 s.
        until(lambda: process.num_fds() <= at_rest + 20, "they are kept", 3 * ATTEMPT_SECONDS)
        for one in ours:
            one.close()
        counted = wave * len(ours)
        until(lambda counted=counted: refused(farm, "half_open") >= counted, "not all are counted")


def test_an_invite_lets_so_many_hosts_in_and_each_has_its_own_key(farm, place, store):
    token = store.invite("autoscale", uses=2, expires=3600.0)
    hosts = [place.agent(name, FARM_TOKEN=token) for name in ("first", "second", "third")]
    for host in hosts[:2]:
        host.start()
    until(lambda: farm.query("status")["hosts"] == 2, "they do not join")
    hosts[2].start()
    assert hosts[2].wait() == 11
    assert "the invite is used" in hosts[2].log.read_text()
    assert {host["name"] for host in farm.query("hosts")} == {"first", "second"}
    with Client(place.address, token=store.new("ann", Role.CLIENT), keys="") as client:
        assert client.submit(_doubled_there).result(WAIT_SECONDS) == 42
    store.revoke("first")
    until(lambda: [host["name"] for host in farm.query("hosts")] == ["second"], "it is there still")
    hosts[0].kill()
    hosts[0].start()  # with the invite, as it was
    assert hosts[0].wait() == 11
    assert "the key of the host 'first' was revoked" in hosts[0].log.read_text()
    hosts[1].kill()
    hosts[1].start()
    until(lambda: hosts[1].log.read_text().count("connected to") == 2, "it does not come back")
    store.revoke("autoscale")
    until(lambda: farm.query("status")["hosts"] == 0, "it is connected still")


def test_the_coordinator_serves_while_keys_of_hosts_that_join_cannot_be_written(farm, place, store):
    token = store.invite("autoscale", uses=1, expires=3600.0)
    host = place.agent("first", FARM_TOKEN=token)
    with locked(store.folder):  # as while the disk is slow, or somebody changes the keys
        host.start()
        until(lambda: farm.query("status")["process"]["connections"] == 2, "it does not come")
        assert farm.query("status")["hosts"] == 0
        assert farm.submit(double, 1).id
    until(lambda: farm.query("status")["hosts"] == 1, "it does not join")


def test_a_new_key_counts_at_once(farm, place, store):
    with Client(place.address, token=store.new("ann", Role.CLIENT), keys="") as client:
        assert client.query("status")["sessions"] == 2


def test_a_rotation_without_downtime(farm, place, store):
    port = parse_address(place.address).port
    old_token = place.folder / "ann.token"
    _write(old_token, store.new("ann", Role.CLIENT))
    first = Client(token=str(old_token), address="", connect_timeout=WAIT_SECONDS, keys="")
    store.rotate()
    fresh = store.new("ann", Role.CLIENT, again=True)
    second = Client(token=fresh, address="", connect_timeout=WAIT_SECONDS, keys="")
    reached = {one.raddr.port for one in psutil.Process().net_connections("tcp") if one.raddr}
    assert port + 2 in reached
    assert first.query("status")["sessions"] == 3
    _write(old_token, fresh)  # the peer's file is replaced while it runs
    assert store.finish_rotation() == ["ann"]
    # Who has the new token goes on, on the first ports; the old key is cut, and comes with the new.
    until(lambda: _serves(first), "the first client does not come back")
    assert second.query("status")
    with Client(token=fresh, address=place.address, connect_timeout=WAIT_SECONDS, keys="") as third:
        assert third.query("status")["sessions"] == 4
    assert farm.query("status")  # by the local token, which has the new key now
    for client in (first, second):
        client.shutdown(wait=False)


def _serves(client):
    try:
        return client.query("status")["sessions"] == 3
    except (FarmError, ConnectionError):
        return False


def _write(path, token):
    path.write_text(token)
    path.chmod(0o600)


def test_a_stranger_neither_reads_nor_ends_anothers_task(farm, place, store):
    place.agent("north", FARM_TOKEN=store.new("north", Role.HOST)).start()
    keys = {name: store.new(name, Role.CLIENT) for name in ("ann", "bob")}
    keys["reader"] = store.new("reader", Role.CLIENT, scope="all")
    ann, bob, reader = (Client(place.address, token=key, keys="") for key in keys.values())
    gate = place.folder / "gate"
    future = ann.options(name="nightly").submit(_held, str(gate))
    until(future.running, "the task is not started")
    with pytest.raises(UnknownTask):
        bob.future(future.id).result(WAIT_SECONDS)
    with pytest.raises(FarmError, match="the farm has no job 'nightly'"):
        bob.job("nightly")
    assert not bob.future(future.id).cancel()
    assert bob.query("tasks") == bob.query("jobs") == []
    with pytest.raises(FarmError, match="only an admin may pause a queue"):
        reader.query("pause_queue", name="default")
    assert reader.job("nightly").name == "nightly"
    gate.touch()
    assert future.result(WAIT_SECONDS) == "done"
    assert reader.future(future.id).result(WAIT_SECONDS) == "done"
    for client in (ann, bob, reader):
        client.shutdown()


def test_a_host_with_another_key_does_not_take_a_hosts_name(farm, place, store):
    place.agent("north", FARM_TOKEN=store.new("north", Role.HOST)).start()
    until(lambda: farm.query("hosts"), "the host is not there")
    [before] = farm.query("hosts")
    settings = {"address": place.address, "name": "north", "slots": 1, "imports": []}
    other = store.new("other", Role.HOST)
    place.module("other", "farm_workers", settings, FARM_TOKEN=other).start()
    until(lambda: farm.query("status")["counters"].get("rejected"), "it was not refused")
    assert [row["instance"] for row in farm.query("hosts")] == [before["instance"]]


def test_the_gateway_speaks_for_its_callers_on_a_farm_with_keys(farm, place, store):
    tokens = {name: store.new(name, Role.CLIENT, http=True) for name in ("web", "zoe")}
    place.agent("north", imports=[MODULE], FARM_TOKEN=store.new("north", Role.HOST)).start()
    listen = f"127.0.0.1:{free_ports()}"
    settings = {"address": place.address, "token": place.local, "keys": str(store.folder)}
    settings |= {"listen": listen, "modules": [MODULE]}
    place.module("gateway", "farm.gateway", settings).start()
    url = f"http://{listen}/v1/tasks"
    said = {name: {"authorization": f"Bearer {token}"} for name, token in tokens.items()}
    body = {"function": "sums.add", "args": [1, 2]}
    until(lambda: _posted(url, body, said["web"]), "the gateway takes nothing")
    task = _posted(url, body, said["web"])
    found = httpx.get(f"{url}/{task}", params={"wait": 20}, headers=said["web"], timeout=30)
    assert found.json()["result"] == {"sum": 3}
    assert httpx.get(f"{url}/{task}", headers=said["zoe"], timeout=30).status_code == 404
    assert httpx.get(f"{url}/{task}", timeout=30).status_code == 401
    assert farm.query("task", id=task)["id"] == task  # of the admin of this machine


def _posted(url, body, headers):
    try:
        answer = httpx.post(url, json=body, headers=headers, timeout=30)
    except httpx.TransportError:
        return None
    return answer.json().get("id")


def _held(path):
    while not os.path.exists(path):  # noqa: PTH110 - in a worker
        time.sleep(0.01)
    return "done"
