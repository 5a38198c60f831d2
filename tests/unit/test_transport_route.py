"""Several addresses of one farm: how they are written, and in which order they are tried."""

import pytest

from farm import config
from farm.errors import ConfigError
from farm.transport import AddressError, Credentials, parse_route

A, B = "tcp://10.0.0.1:7070", "tcp://10.0.0.2:7070"


class Dialled:
    """Notes where it is to connect, and how."""

    def connect(self, address, server, secret, *, ipv4, seconds):
        self.said = str(address), ipv4, seconds


def dials(credentials, count):
    found = []
    for _ in range(count):
        one = Dialled()
        credentials.dial(one)
        found.append((*one.said, credentials.goes_on()))
    return found


@pytest.mark.parametrize("text", [f"{A},{B}", f" {A}, {B} ", f"{A} {B}", f"{A},{B},{A}"])
def test_several_addresses_have_commas_between(text):
    assert str(parse_route(text)) == f"{A},{B}"


def test_a_path_may_have_a_comma():
    assert str(parse_route("ipc:///tmp/a,b")) == "ipc:///tmp/a,b"


@pytest.mark.parametrize("text", ["", f"{A},", f"{A},b:7070", f"{A},http://b"])
def test_each_of_them_has_to_be_an_address(text):
    with pytest.raises(AddressError):
        parse_route(text)


def test_all_addresses_are_tried_between_two_pauses():
    made = Credentials("client", f"{A},{B}", "none")
    tried = dials(made, 4)
    assert [(where, more) for where, _, _, more in tried] == 2 * [(A, True), (B, False)]
    assert {seconds for _, _, seconds, _ in tried} == {3.0}


def test_the_last_good_address_comes_first_and_then_the_others():
    made = Credentials("client", f"{A},{B}", "none")
    dials(made, 2)
    made.welcomed()
    assert not made.goes_on(), "a connection that was good pauses as it ever did"
    assert [where for where, *_ in dials(made, 3)] == [B, A, B]


def test_hosts_go_to_the_next_port_of_each():
    tried = dials(Credentials("host", f"{A},{B}", "none"), 2)
    assert [where for where, *_ in tried] == ["tcp://10.0.0.1:7071", "tcp://10.0.0.2:7071"]


def test_a_name_is_tried_by_ipv6_and_by_ipv4():
    tried = dials(Credentials("client", "tcp://farm-host:7070", "none"), 2)
    assert [(ipv4, more) for _, ipv4, _, more in tried] == [(False, True), (True, False)]
    assert {seconds for _, _, seconds, _ in tried} == {6.0}


@pytest.mark.parametrize("address", [A, "tcp://[::1]:7070", "tcp://[fe80::1%eth0]:7070"])
def test_digits_and_this_machine_are_one_way(address):
    for one in (address, "tcp://localhost:7070", "ipc:///run/farm"):
        assert dials(Credentials("client", one, "none"), 1)[0][3] is False


def test_a_file_may_have_a_list(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "farm.toml").write_text(f'[client]\naddress = ["{A}", "{B}"]\n')
    assert config.load(environ={}).client.address == f"{A},{B}"
    assert config.load(environ={"FARM_ADDRESS": f"{B},{A}"}).client.address == f"{B},{A}"
    (tmp_path / "farm.toml").write_text("[client]\naddress = 7070\n")
    with pytest.raises(ConfigError, match="a list of some"):
        config.load(environ={})
