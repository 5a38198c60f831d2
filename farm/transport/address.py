"""Addresses of a farm: ``tcp://host:port`` and ``ipc:///path``, or several of one farm.

A farm has one address, the one clients use; the address for hosts follows from it. Everything
wrong with an address is an ``AddressError`` that says what to write instead; nothing here opens
a socket, and only ``bind_address`` asks the resolver.
"""

import ipaddress
import re
import socket
import sys
from typing import NamedTuple

from farm.errors import ConfigError

__all__ = [
    "IPC_PATH_BYTES_MAX",
    "Address",
    "AddressError",
    "Route",
    "bind_address",
    "host_address",
    "parse_address",
    "parse_route",
]

IPC_PATH_BYTES_MAX = 107 if sys.platform == "linux" else 103
"""The longest path that a Unix socket can have, in bytes."""

_HOSTS_SUFFIX = ".hosts"
_PORT_MAX = 65_535


class AddressError(ConfigError, ConnectionError):
    """An address is wrong (both a ConfigError and a ConnectionError)."""


class Address(NamedTuple):
    """A parsed address; ``str()`` is its URL. For ipc, ``host`` is the path and ``port`` is 0."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        if self.scheme == "ipc":
            return f"ipc://{self.host}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"tcp://{host}:{self.port}"

    @property
    def is_name(self) -> bool:
        """Whether a resolver has to be asked, which may know several addresses."""
        if self.scheme == "ipc" or self.host == "localhost":
            return False
        try:
            ipaddress.ip_address(self.host.partition("%")[0])
        except ValueError:
            return True
        return False

    @property
    def is_private(self) -> bool:
        """Whether only this machine can reach it: ipc, or an address of the loopback."""
        if self.scheme == "ipc" or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


class Route(tuple[Address, ...]):
    """The addresses of one coordinator, at least one, in the order in which they are tried."""

    __slots__ = ()

    def __str__(self) -> str:
        return ",".join(map(str, self))

    @property
    def is_private(self) -> bool:
        """Whether only this machine can reach any of them."""
        return all(address.is_private for address in self)

    @property
    def is_ipc(self) -> bool:
        """Whether only those get in who can open files of this user: nobody is asked for a key."""
        return all(address.scheme == "ipc" for address in self)


def parse_route(text: str) -> Route:
    """Read one URL, or several with commas between; raises ``AddressError`` as below."""
    # A path may have commas, so only what is before another URL parts them.
    return Route(dict.fromkeys(map(parse_address, re.split(r"[,\s]+(?=\w+://)", text.strip()))))


def parse_address(text: str) -> Address:
    """Read a URL; raises ``AddressError``, naming the text and what to write, if it is none."""
    scheme, separator, rest = text.strip().partition("://")
    if not separator:
        raise AddressError(
            f"{text!r} is not an address: write tcp://HOST:PORT, for instance tcp://farm-host:7070,"
            " or ipc:///PATH"
        )
    if scheme == "ipc":
        return _parse_ipc(text, rest)
    if scheme == "tcp":
        return _parse_tcp(text, rest)
    raise AddressError(f"{text!r} begins with {scheme}://; a farm's address is tcp:// or ipc://")


def _parse_ipc(text: str, path: str) -> Address:
    if not path.startswith("/") or "\0" in path:
        raise AddressError(
            f"{text!r}: an ipc address needs an absolute path, as in ipc:///run/farm"
        )
    length = len(path.encode("utf-8", "surrogateescape")) + len(_HOSTS_SUFFIX)
    if length > IPC_PATH_BYTES_MAX:
        raise AddressError(
            f"{text!r}: the path of a socket is limited to {IPC_PATH_BYTES_MAX} bytes, and the one"
            f" for hosts beside it would have {length}; use a shorter directory"
        )
    return Address("ipc", path, 0)


def _parse_tcp(text: str, rest: str) -> Address:
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%\w]+)\]|([^\s:/@\[\]]+)):(\d{1,5})/?", rest)
    if not match:
        raise AddressError(
            f"{text!r} is not an address: write tcp://HOST:PORT, for instance tcp://farm-host:7070,"
            " and an IPv6 address in brackets, as in tcp://[::1]:7070"
        )
    port = int(match[3])
    if not 1 <= port < _PORT_MAX:
        raise AddressError(
            f"{text!r}: the port is {port}; it must be 1 to {_PORT_MAX - 1}, as hosts use the next"
        )
    return Address("tcp", match[1] or match[2], port)


def host_address(address: Address) -> Address:
    """Where hosts connect, given where clients do: the next port, or the path with ``.hosts``."""
    if address.scheme == "ipc":
        return address._replace(host=address.host + _HOSTS_SUFFIX)
    return address._replace(port=address.port + 1)


def bind_address(address: Address) -> Address:
    """The address to bind, its host name replaced by an address of this machine.

    ``*`` stays, and means every interface. Raises ``AddressError`` if the name is unknown.
    """
    if address.scheme == "ipc" or address.host == "*":
        return address
    if address.host == "localhost":
        return address._replace(host="127.0.0.1")
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise AddressError(
            f"{address}: {address.host} is not a name or address of this machine ({error}); use"
            " an IP address, or * for every interface"
        ) from None
    return address._replace(host=str(found[0][4][0]))
