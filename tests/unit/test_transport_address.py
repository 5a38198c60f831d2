"""Addresses: what is one, what is not, and what a wrong one is told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.errors import ConfigError
from farm.transport import Address, AddressError, host_address, parse_address
from farm.transport.address import IPC_PATH_BYTES_MAX, bind_address


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("tcp://farm-host:7070", "tcp://farm-host:7071"),
        ("tcp://127.0.0.1:1", "tcp://127.0.0.1:2"),
        ("tcp://[::1]:7070", "tcp://[::1]:7071"),
        ("tcp://*:65534", "tcp://*:65535"),
        ("ipc:///run/farm/socket", "ipc:///run/farm/socket.hosts"),
    ],
)
def test_an_address_reads_as_it_is_written_and_gives_that_of_the_hosts(text, hosts):
    address = parse_address(text)
    assert str(address) == text
    assert str(host_address(address)) == hosts


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not an address"),
        ("farm-host", "tcp://HOST:PORT"),
        ("farm-host:7070", "tcp://HOST:PORT"),
        ("http://farm-host:7070", "begins with http://"),
        ("tcp://farm-host", "tcp://HOST:PORT"),
        ("tcp://:7070", "tcp://HOST:PORT"),
        ("tcp://::1:7070", "in brackets"),
        ("tcp://farm-host:0", "1 to 65534"),
        ("tcp://farm-host:65535", "1 to 65534"),
        ("tcp://farm-host:7070/path", "tcp://HOST:PORT"),
        ("tcp://one two:7070", "tcp://HOST:PORT"),
        ("ipc://relative", "absolute path"),
        ("ipc://@abstract", "absolute path"),
        ("ipc:///" + "x" * 107, "limited to"),
    ],
)
def test_a_wrong_address_is_told_what_to_write(text, said):
    with pytest.raises(AddressError) as caught:
        parse_address(text)
    assert said in str(caught.value)
    assert text in str(caught.value)
    assert isinstance(caught.value, ConfigError)
    assert isinstance(caught.value, ConnectionError)


def test_the_longest_ipc_path_leaves_room_for_the_one_of_hosts():
    longest = "/" + "x" * (IPC_PATH_BYTES_MAX - len(".hosts") - 1)
    hosts = host_address(parse_address(f"ipc://{longest}"))
    assert len(hosts.host.encode()) == IPC_PATH_BYTES_MAX
    with pytest.raises(AddressError, match="would have 108"):
        parse_address(f"ipc://{longest}x")


@pytest.mark.parametrize(
    ("text", "private"),
    [
        ("ipc:///run/farm", True),
        ("tcp://localhost:7070", True),
        ("tcp://127.8.9.1:7070", True),
        ("tcp://[::1]:7070", True),
        ("tcp://*:7070", False),
        ("tcp://0.0.0.0:7070", False),
        ("tcp://[::]:7070", False),
        ("tcp://farm-host:7070", False),
        ("tcp://10.0.0.1:7070", False),
    ],
)
def test_only_ipc_and_loopback_are_private(text, private):
    assert parse_address(text).is_private is private


def test_a_name_is_bound_by_its_address():
    assert bind_address(parse_address("tcp://localhost:7070")).host == "127.0.0.1"
    assert bind_address(parse_address("tcp://*:7070")).host == "*"
    with pytest.raises(AddressError, match="use an IP address"):
        bind_address(Address("tcp", "no-such-name.invalid", 7070))


@given(st.text())
def test_any_text_is_an_address_or_an_address_error(text):
    for candidate in (text, f"tcp://{text}", f"ipc://{text}", f"ipc:///{text}"):
        try:
            address = parse_address(candidate)
        except AddressError:
            continue
        assert parse_address(str(address)) == address
