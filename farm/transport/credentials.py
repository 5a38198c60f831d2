"""Where a process finds its farm, and with which key it goes there.

The key comes from the first of these that there is: what the program says, ``FARM_TOKEN`` (a token,
or the path of a file with one), ``FARM_TOKEN_FILE``, and, on loopback, the key that a farm of the
same user keeps on this machine. ``none`` means to go without. A token in a file is read again
for each connection, so it can be replaced while the process runs. What reads tokens is loaded by
those who may need one: processes of a local farm do not, and there are three at each start.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from farm.model import DEFAULT_ADDRESS
from farm.transport.address import Address, Route, host_address, parse_address, parse_route
from farm.transport.dealer import Dealer

if TYPE_CHECKING:
    from farm.transport.proof import Proof

__all__ = ["NO_KEY", "TOKEN_VARIABLE", "Credentials", "Door", "token_said"]

NO_KEY = "none"
TOKEN_VARIABLE = "FARM_TOKEN"  # noqa: S105 - the name of one

ONE_OF_SEVERAL_SECONDS, ALONE_SECONDS = 3.0, 6.0
"""How long an attempt may take: if there are others to try, each has less."""

Part = Literal["client", "host", "tasks"]


class Door(NamedTuple):
    """One address and what opens it: the farm's public key and our secret one, or neither."""

    address: Address
    server: bytes = b""
    secret: bytes = b""
    ipv4: bool = False
    """Only what the resolver knows of this kind counts."""

    def __repr__(self) -> str:
        return f"<door {self.address}>"


def _doors(route: Route, server: bytes = b"", secret: bytes = b"") -> list[Door]:
    """Ways to these addresses; to a name two, as its IPv6 address may lead nowhere."""
    found = []
    for address in route:
        keys = (b"", b"") if address.scheme == "ipc" else (server, secret)
        found += [Door(address, *keys), Door(address, *keys, ipv4=True)][: 1 + address.is_name]
    return found


def token_said(token: str | None, file: str = "", environ: Mapping[str, str] | None = None) -> str:
    """The token, or the path of its file, that a process is to use; empty: none is said.

    ``token`` is what the program says, ``file`` what its settings do.
    """
    environ = os.environ if environ is None else environ
    return token or environ.get(TOKEN_VARIABLE, "").strip() or file


def _proof(part: Part, token: str, keys: str | Path, where: Route) -> "Proof | None":
    """What is shown there, if anything may have to be."""
    if token == NO_KEY or (where.is_ipc and not token):
        return None
    from farm.transport.proof import Proof  # noqa: PLC0415 - see above

    return Proof(part, token, keys, where)


class Credentials:
    """What one connection after another is opened with.

    ``part`` is as what this process comes; ``address`` the farm's, or several of it; if it is empty
    what the token says, or the usual one. ``token`` is as ``token_said`` gives it; ``keys`` is the
    folder in which this user's own farm keeps its. Raises ``ConfigError`` for an address or token
    that is none.
    """

    def __init__(
        self,
        part: Part,
        address: str,
        token: str = "",
        *,
        keys: str | Path = "",
    ) -> None:
        self._part: Part = part
        self._route = parse_route(address) if address else None
        self._at = -1
        self._good = False
        self._ways = 1
        self._tried = 0  # in this round of all ways
        self._token = token
        self._proof = _proof(part, token, keys, self._where_to())
        self.way = self.doors()[0].address
        """Where it connected last, as clients would; at first, where it will."""
        self.address = self._route or Route([self.way])
        """Where the farm is: the addresses that clients use."""

    def __repr__(self) -> str:
        return f"<credentials for {self.address}>"

    @property
    def own_keys(self) -> list[bytes]:
        """Public keys that this host has made for itself and for its tasks, if it is invited."""
        return self._proof.own_keys if self._proof else []

    def joined(self) -> None:
        """The host's own key is known now: the next connection shows it, not the invite's."""
        if self._proof is not None:
            self._proof.joined()
        self._good = True  # the way was

    def _where_to(self) -> Route:
        return self._route or parse_route(DEFAULT_ADDRESS)

    def doors(self) -> list[Door]:
        """All ways in, the best first; their addresses are those that clients use."""
        where = self._where_to()
        if self._proof is None or where.is_ipc:
            return _doors(where)
        shown = self._proof.show()
        if shown is None:
            return _doors(where)
        if not self._route and shown.addresses:
            where = Route(map(parse_address, shown.addresses))
        return _doors(where, shown.server, shown.secret)

    def dial(self, dealer: Dealer) -> None:
        """Have a dealer connect by the last way if it was good, else by the next."""
        if not self._good:
            self._at += 1
            if self._proof is not None:
                self._proof.doubted()
        doors = self.doors()
        self._good = False
        self._ways = len(doors)
        self._tried += 1
        door = doors[self._at % len(doors)]
        self.way = door.address
        several = len({one.address for one in doors}) > 1
        dealer.connect(
            door.address if self._part != "host" else host_address(door.address),
            door.server,
            door.secret,
            ipv4=door.ipv4,
            seconds=ONE_OF_SEVERAL_SECONDS if several else ALONE_SECONDS,
        )

    def welcomed(self) -> None:
        """The last way tried was good."""
        self._good = True
        self._tried = 0

    def goes_on(self) -> bool:
        """After a failure: whether another way is to be tried at once; else it is time to pause."""
        if 0 < self._tried < self._ways:
            return True
        self._tried = 0
        return False

    def for_tasks(self) -> str:
        """What a host's tasks, as clients of the farm, are to use: no more than they need."""
        return self._proof.for_tasks() if self._proof else self._token

    def text(self) -> str:
        """The token itself, for a process elsewhere: ``none`` and what is not said stay."""
        return self._proof.text() if self._token and self._proof else self._token
