"""The tokens that `farm launch ssh` gives to hosts: what hosts could not use is refused here."""

import sys
from pathlib import Path

import pytest

from farm.cli.main import main
from farm.identity import Role
from farm.keys import KeyStore

HOSTS = '[defaults]\naddress = "tcp://farm-host:7070"\n[hosts.north]\n'


@pytest.fixture
def tokens(tmp_path, monkeypatch):
    """Where hosts.toml is, with files of a host's token and of a client's; the tokens by role."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FARM_TOKEN", raising=False)
    store = KeyStore(tmp_path / "keys")
    store.create("tcp://farm-host:7070")
    made = {role: store.new(role, Role(role)) for role in ("host", "client", "admin")}
    made["invite"] = store.invite("some", uses=2, expires=60.0)
    for name, text in made.items():
        (tmp_path / f"{name}.token").write_text(text)
        (tmp_path / f"{name}.token").chmod(0o600)
    (tmp_path / "hosts.toml").write_text(HOSTS)
    return made


@pytest.fixture
def plan(capsys, monkeypatch):
    def plan():
        monkeypatch.setattr(sys, "argv", ["farm", "launch", "ssh", "hosts.toml", "--dry-run"])
        with pytest.raises(SystemExit) as ended:
            main()
        found = capsys.readouterr()
        return ended.value.code or 0, " ".join((found.out + found.err).split())

    return plan


@pytest.mark.parametrize("role", ["host", "invite"])
def test_a_host_is_told_the_token_itself_also_if_a_file_has_it(tokens, monkeypatch, role):
    from farm.cli import launch
    from farm_workers.launchers.hosts import read_hosts

    [entry] = read_hosts(path := Path("hosts.toml"))
    folder = path.absolute().parent
    assert launch._token(entry, folder) == ""
    for said in (tokens[role], f"{role}.token", "none"):
        monkeypatch.setenv("FARM_TOKEN", said)
        assert launch._token(entry, folder) == (said if said == "none" else tokens[role])
    path.write_text(f'{HOSTS}token_file = "{role}.token"\n')
    [entry] = read_hosts(path)
    assert launch._token(entry, folder) == tokens[role]


@pytest.mark.parametrize("role", ["client", "admin"])
@pytest.mark.parametrize("way", ["said", "file", "entry"])
def test_a_token_that_is_not_a_hosts_is_refused_before_anybody_has_it(
    tokens, plan, monkeypatch, tmp_path, role, way
):
    if way == "entry":
        (tmp_path / "hosts.toml").write_text(f'{HOSTS}token_file = "{role}.token"\n')
    else:
        monkeypatch.setenv("FARM_TOKEN", tokens[role] if way == "said" else f"{role}.token")
    code, text = plan()
    assert code == 3
    assert "host north: the token in " in text
    assert "is not a host's token; farm keys new NAME --role host makes one" in text
    assert tokens[role] not in text


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("nowhere.token", "there is no file nowhere.token"),
        ("open.token", "is open to other users (mode 0644): chmod 600"),
        ("farm1-pasted", "the token in FARM_TOKEN is cut short or has a wrong character"),
    ],
)
def test_what_is_no_token_is_refused_by_host(tokens, plan, monkeypatch, tmp_path, said, why):
    (tmp_path / "open.token").write_text(tokens["host"])
    (tmp_path / "open.token").chmod(0o644)
    monkeypatch.setenv("FARM_TOKEN", said)
    code, text = plan()
    assert code == 3
    assert "host north: " in text
    assert why in text
