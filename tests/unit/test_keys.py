"""Keys on disk: what is made, what is refused, and that no secret is where it should not be."""

import base64
import os
import threading

import msgspec
import pytest

from farm.errors import ConfigError
from farm.identity import Identity, Role
from farm.keys import KeysLocked, KeyStore, Kind, Newcomer, Pair, Refusal, Token, TokenError, key_id

ADDRESS = "tcp://farm-host:7070"
DAY = 86_400.0


class Clock:
    def __init__(self):
        self.now = 1_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(tmp_path, clock):
    made = KeyStore(tmp_path / "keys", clock)
    made.create(ADDRESS)
    return made


def admit(store, secret, side="client"):
    return store.ring().admit(Pair.of(secret).public, side, store._clock())


def test_a_token_carries_addresses_the_server_s_key_and_the_peer_s(store):
    token = Token.parse(store.new("ann", Role.CLIENT), "it")
    assert token.addresses == (ADDRESS,)
    assert token.server == Pair.of(store.server().secrets[0]).public
    assert not token.host
    identity = admit(store, token.client).identity
    assert identity == Identity("ann", Role.CLIENT, "own", key_id(Pair.of(token.client).public))


def test_a_host_s_token_has_another_key_for_its_tasks(store):
    token = Token.parse(store.new("north", Role.HOST), "it")
    host = admit(store, token.host, "host").identity
    tasks = admit(store, token.tasks).identity
    assert (host.name, host.role, host.scope) == ("north", Role.HOST, "all")
    assert (tasks.name, tasks.role, tasks.scope) == ("north", Role.CLIENT, "tasks")
    assert host.key != tasks.key
    assert not token.client


@pytest.mark.parametrize("role", [Role.CLIENT, Role.ADMIN])
def test_a_client_s_key_is_refused_where_hosts_connect_and_the_reverse(store, role):
    client = Token.parse(store.new("ann", role), "it").client
    host = Token.parse(store.new("north", Role.HOST), "it").host
    assert admit(store, client, "host") == (None, "wrong_side")
    assert admit(store, host, "client") == (None, "wrong_side")


def test_a_revoked_key_is_refused_with_that_of_the_host_s_tasks(store):
    token = Token.parse(store.new("north", Role.HOST), "it")
    before = store.ring().valid(store._clock())
    store.revoke("north")
    assert admit(store, token.host, "host") == (None, "revoked")
    assert admit(store, token.tasks) == (None, "revoked")
    assert len(before - store.ring().valid(store._clock())) == 2
    with pytest.raises(ConfigError, match="no key 'north'"):
        store.revoke("north")
    store.new("north", Role.HOST)  # the name is free again


def test_an_expired_key_is_refused_and_forgotten_later(store, clock):
    token = Token.parse(store.new("ann", Role.CLIENT, expires=DAY), "it")
    clock.now += DAY - 1
    assert admit(store, token.client).identity
    clock.now += 1
    assert admit(store, token.client) == (None, "expired")
    assert store.ring().identify(key_id(Pair.of(token.client).public), "client", clock.now) is None
    clock.now += 31 * DAY
    store.new("ben", Role.CLIENT)
    assert [entry.name for entry in store.ring().entries if entry.name == "ann"] == []


def test_an_unknown_key_is_refused(store):
    assert admit(store, Pair.make().secret) == (None, "unknown")


def test_a_bearer_token_is_stored_as_a_hash_alone(store, clock):
    text = store.new("web", Role.CLIENT, scope="all", http=True, expires=DAY)
    assert store.bearer(text) == Identity(
        "web", Role.CLIENT, "all", store.ring().entries[-1].hash[:8].hex()
    )
    for path in store.folder.iterdir():
        content = path.read_bytes()
        assert text.encode() not in content
        assert base64.b64encode(text.encode()) not in content
    assert store.bearer(text[:-1]) is None
    assert store.bearer("") is None
    assert store.bearer("\udcff") is None
    clock.now += DAY
    assert store.bearer(text) is None


def test_a_bearer_token_that_was_revoked_is_refused_at_once(store):
    text = store.new("web", Role.CLIENT, http=True)
    other = KeyStore(store.folder, store._clock)
    assert other.bearer(text)
    store.revoke("web")
    assert other.bearer(text) is None


def test_a_host_has_no_bearer_token(store):
    with pytest.raises(ConfigError, match="does not speak HTTP"):
        store.new("north", Role.HOST, http=True)


def test_no_secret_key_of_a_peer_is_kept(store):
    token = Token.parse(store.new("north", Role.HOST), "it")
    kept = (store.folder / "peers.json").read_bytes()
    for secret in (token.host, token.tasks):
        assert secret not in kept
        assert base64.b64encode(secret) not in kept
    assert base64.b64encode(Pair.of(token.host).public) in kept


@pytest.mark.parametrize("name", ["server.json", "peers.json", "local.token"])
def test_files_are_for_their_owner_alone(store, name):
    path = store.folder / name
    assert path.stat().st_mode & 0o777 == 0o600
    assert store.folder.stat().st_mode & 0o777 == 0o700
    path.chmod(0o640)
    with pytest.raises(KeysLocked, match=f"0640.*: chmod 600 {path}"):
        store.ensure_local()


def test_a_folder_that_others_can_enter_is_refused(store):
    store.folder.chmod(0o755)
    with pytest.raises(KeysLocked, match=f"chmod 700 {store.folder}"):
        store.server()


def test_a_damaged_file_is_an_error_that_names_it(store):
    for damage in (b"{", b'{"keys": [{"name": "\xff"}]}'):
        (store.folder / "peers.json").write_bytes(damage)
        with pytest.raises(ConfigError, match=r"peers\.json is damaged"):
            store.ring()


def test_a_token_with_a_character_of_no_token_is_refused_in_words(store):
    text = store.new("ann", Role.CLIENT)
    with pytest.raises(TokenError, match="copy it again"):
        Token.parse(f"{text[:20]}\u2026{text[20:]}", "it")


@pytest.mark.parametrize("damage", [b'{"secrets": []}', b'{"secrets": ["AAAA"]}'])
def test_a_server_s_file_without_a_whole_key_is_damaged(store, damage):
    (store.folder / "server.json").write_bytes(damage)
    with pytest.raises(ConfigError, match=r"server\.json is damaged"):
        store.server()


def test_without_keys_the_error_says_how_to_make_them(tmp_path):
    with pytest.raises(ConfigError, match="farm keys init"):
        KeyStore(tmp_path / "none").new("ann", Role.CLIENT)


def test_a_key_for_other_machines_needs_an_address(tmp_path):
    store = KeyStore(tmp_path / "keys")
    store.ensure_local()
    with pytest.raises(ConfigError, match="farm keys init --address"):
        store.new("ann", Role.CLIENT)
    store.create(ADDRESS)
    assert Token.parse(store.new("ann", Role.CLIENT), "it").addresses == (ADDRESS,)


def test_local_keys_stay_and_an_address_is_only_noted(store):
    path = store.folder / "local.token"
    before = path.read_bytes(), store.server().secrets
    store.ensure_local()
    store.create("tcp://other:7070")
    assert (path.read_bytes(), store.server().secrets) == before
    assert store.server().address == "tcp://other:7070"
    token = Token.parse(before[0].decode(), "it")
    assert admit(store, token.client).identity.role is Role.ADMIN
    assert admit(store, token.host, "host").identity.name == "local-host"
    assert admit(store, token.tasks).identity.scope == "tasks"


@pytest.mark.parametrize("name", ["", "a b", "-x", "x" * 65, "local", "local-host", "ä"])
def test_a_name_that_is_none(store, name):
    with pytest.raises(ConfigError, match="is no name for a key"):
        store.new(name, Role.CLIENT)


def test_a_name_has_one_key_unless_another_is_asked_for(store):
    store.new("ann", Role.CLIENT)
    with pytest.raises(ConfigError, match="--again"):
        store.new("ann", Role.CLIENT)
    with pytest.raises(ConfigError, match="there is no key 'ben'"):
        store.new("ben", Role.CLIENT, again=True)
    with pytest.raises(ConfigError, match="is a client's"):
        store.new("ann", Role.HOST, again=True)
    store.new("ann", Role.CLIENT, again=True)
    states = [one.state(store._clock()) for one in store.ring().entries if one.name == "ann"]
    assert states == ["replaced", "valid"]


def test_a_rotation_has_two_server_keys_and_ends_what_it_replaced(store):
    old = Token.parse(store.new("ann", Role.CLIENT), "it")
    stays = Token.parse(store.new("ben", Role.CLIENT), "it")
    local = (store.folder / "local.token").read_bytes()
    store.rotate()
    with pytest.raises(ConfigError, match="--finish"):
        store.rotate()
    new = Token.parse(store.new("ann", Role.CLIENT, again=True), "it")
    first, second = (Pair.of(secret).public for secret in store.server().secrets)
    assert (old.server, new.server) == (first, second)
    assert new.addresses == ("tcp://farm-host:7072", ADDRESS)
    assert admit(store, old.client).identity.name == admit(store, new.client).identity.name
    assert (store.folder / "local.token").read_bytes() == local
    assert store.finish_rotation() == ["ann"]
    assert [Pair.of(secret).public for secret in store.server().secrets] == [second]
    assert admit(store, old.client) == (None, "revoked")
    assert admit(store, new.client).identity
    assert admit(store, stays.client).identity  # its server key ended, not it
    assert Token.parse((store.folder / "local.token").read_text(), "it").server == second
    with pytest.raises(ConfigError, match="begin with"):
        store.finish_rotation()


def newcomer(name):
    return Newcomer("", name, Pair.make().public, Pair.make().public)


def join(store, invite, host, *connected):
    (answer,) = store.join([host._replace(invite=invite, connected=frozenset(connected))])
    return answer


def test_an_invite_is_good_for_so_many_hosts(store, clock):
    token = Token.parse(store.invite("autoscale", uses=2, expires=3600.0), "it")
    invite = admit(store, token.host, "host").identity
    assert (invite.name, invite.role, invite.scope) == ("autoscale", Role.HOST, "invite")
    assert (token.invites, token.tasks) == (True, b"")
    a, b, c = map(newcomer, "abc")
    for host in (a, a, b):  # it comes back
        assert join(store, invite.key, host) is None
    again = KeyStore(store.folder, clock)  # what was used is remembered
    assert "the invite is used" in join(again, invite.key, c).why
    assert join(again, invite.key, b) is None
    clock.now += 40 * DAY  # those that have joined stay
    again.new("ann", Role.CLIENT)
    assert join(again, invite.key, newcomer("b")) is None
    assert "the invite is expired" in join(again, invite.key, c).why
    assert admit(again, token.host, "host").identity
    again.revoke("autoscale")
    assert join(again, invite.key, b) == Refusal("the invite was revoked")
    assert admit(again, token.host, "host") == (None, "revoked")
    assert again.ring().admit(a.public, "host", clock()).reason == "revoked"


def test_a_host_that_joined_has_a_key_of_its_own(store, clock):
    token = Token.parse(store.invite("autoscale", uses=3, expires=3600.0), "it")
    invite = key_id(Pair.of(token.host).public)
    a, b = map(newcomer, "ab")
    assert join(store, invite, a) is None
    assert join(store, invite, b) is None
    found = store.ring().admit(a.public, "host", clock()).identity
    assert (found.name, found.role, found.scope) == ("a", Role.HOST, "own")
    assert store.ring().admit(a.tasks, "client", clock()).identity.scope == "tasks"
    store.revoke("a")
    assert store.ring().admit(a.public, "host", clock()).reason == "revoked"
    assert store.ring().admit(b.public, "host", clock()).identity
    for host in (a, newcomer("a")):
        assert join(store, invite, host) == Refusal("the key of the host 'a' was revoked")
    store.revoke("b")
    clock.now += 40 * DAY
    store.new("ann", Role.CLIENT)  # what ended long ago is forgotten now, and not these
    assert join(store, invite, newcomer("b")) == Refusal("the key of the host 'b' was revoked")


def test_a_host_that_joins_takes_nobodys_place(store):
    store.new("ann", Role.CLIENT)
    north = Token.parse(store.new("north", Role.HOST), "it")
    token = Token.parse(store.invite("autoscale", uses=3, expires=3600.0), "it")
    invite = key_id(Pair.of(token.host).public)
    a = newcomer("a")
    assert join(store, invite, a) is None

    def refused(host, *connected):
        return join(store, invite, host, *connected)

    for name in ("ann", "north"):
        assert f"there is a key {name!r} already" in refused(newcomer(name)).why
    for name in ("local-host", "no name", ""):
        assert "is no name for a key" in refused(newcomer(name)).why
    for key in (a.public, a.tasks, Pair.of(north.host).public, Pair.of(token.host).public):
        thief = Newcomer("", "b", key, Pair.make().public)
        assert refused(thief).why == "its key is somebody else's"
    assert "no key of its own" in refused(Newcomer("", "b", b"", b"")).why
    taken = refused(newcomer("a"), key_id(a.public))
    assert taken.retry
    assert "is connected" in taken.why
    before = store.ring().entries
    assert refused(a) is None
    assert store.ring().entries == before


def test_an_invite_with_which_nobody_joined_in_time(store, clock):
    token = Token.parse(store.invite("autoscale", uses=2, expires=3600.0), "it")
    clock.now += 3600.0
    assert admit(store, token.host, "host") == (None, "expired")
    invite = key_id(Pair.of(token.host).public)
    assert "the invite is expired" in join(store, invite, newcomer("a")).why
    assert "revoked" in join(store, "0" * 16, newcomer("a")).why


def test_many_that_join_at_once_are_one_change_of_the_file(store, monkeypatch):
    token = Token.parse(store.invite("autoscale", uses=3, expires=3600.0), "it")
    invite = key_id(Pair.of(token.host).public)
    hosts = [newcomer(name)._replace(invite=invite) for name in ("a", "b", "no name", "c", "d")]
    hosts += [hosts[0], hosts[1]._replace(name="e"), newcomer("f")]
    written = []
    monkeypatch.setattr("farm.keys.store.write_private", lambda path, data: written.append(data))
    said = [one and one.why for one in store.join(hosts)]
    assert [said[number] for number in (0, 1, 3, 5)] == [None] * 4
    assert "is no name for a key" in said[2]
    assert "the invite is used" in said[4]
    assert said[6:] == ["its key is somebody else's", "the invite was revoked"]
    (content,) = written
    kept = msgspec.json.decode(content)["keys"]
    assert [one["name"] for one in kept][-3:] == ["a", "b", "c"]
    assert [one["joined"] for one in kept if one["name"] == "autoscale"] == [["a", "b", "c"]]


def test_those_who_change_the_store_at_once_lose_nothing(store):
    def make(first):
        for number in range(10):
            KeyStore(store.folder).new(f"n{first}-{number}", Role.CLIENT)

    threads = [threading.Thread(target=make, args=(one,)) for one in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    names = {entry.name for entry in store.ring().entries if entry.kind is Kind.CURVE}
    assert {f"n{one}-{number}" for one in range(4) for number in range(10)} <= names


def test_every_change_shows_in_the_signature(store):
    seen = {store.signature()}
    for step in (
        lambda: store.new("ann", Role.CLIENT),
        lambda: store.revoke("ann"),
        store.rotate,
        store.finish_rotation,
    ):
        step()
        assert store.signature() not in seen
        seen.add(store.signature())


def test_a_token_never_shows_itself(store):
    text = store.new("ann", Role.CLIENT)
    token = Token.parse(text, "it")
    for shown in (repr(token), str(token), f"{token}", repr(Pair.make())):
        assert "farm1-" not in shown
        assert repr(token.client) not in shown
    for wrong in (text[:-3], "x" + text, text.replace("farm1-", "farm2-"), "", text[:40]):
        with pytest.raises(TokenError) as refusal:
            Token.parse(wrong, "FARM_TOKEN")
        assert "FARM_TOKEN" in str(refusal.value)
        assert text[6:20] not in str(refusal.value)


def test_a_token_survives_line_breaks(store):
    text = store.new("ann", Role.CLIENT)
    assert Token.parse(f" {text[:30]}\n  {text[30:]}\n", "it") == Token.parse(text, "it")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_another_user_s_keys_are_refused(store):
    os.chown(store.folder / "server.json", 12345, 12345)
    with pytest.raises(KeysLocked, match="belongs to another user"):
        store.server()
