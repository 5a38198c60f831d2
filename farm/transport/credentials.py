"""Where a process finds its farm, and with which key it goes there.

The key comes from the first of these that there is: what the program says, ``FARM_TOKEN`` (a token,
or the path of a file with one), ``FARM_TOKEN_FILE``, and, on loopback, the key that a farm of the
same user keeps on this machine. ``none`` means to go without. A token in a file is read again
for each connection, so it can be replaced while the process runs.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from farm.config import DEFAULT_ADDRESS
from farm.keys import LOCAL_TOKEN, Pair, Token, TokenError, keys_folder
from farm.keys.files import read_private
from farm.keys.token import PREFIX
from farm.transport.address import Address, Route, host_address, parse_address, parse_route
from farm.transport.dealer import Dealer

__all__ = ["NO_KEY", "TOKEN_VARIABLE", "Credentials", "Door", "token_said"]

NO_KEY = "none"
TOKEN_VARIABLE = "FARM_TOKEN"  # noqa: S105 - the name of one

ONE_OF_SEVERAL_SECONDS, ALONE_SECONDS = 3.0, 6.0
"""How long an attempt may take: if there are others to try, each has less."""

PART_CHARS_MAX = 64
"""What is longer, between two slashes, is not shown: a token is, and hardly a file's name."""
_NEITHER = f"{TOKEN_VARIABLE} is neither a token nor the path of a file with one"

Part = Literal["client", "host", "tasks"]

_NEEDED = {"client": "client's or an admin's", "host": "host's", "tasks": "host's"}


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
        self._token = token
        self._file = _file_of(token)
        self._own = Path(keys or keys_folder()) / LOCAL_TOKEN
        self._route = parse_route(address) if address else None
        self._at = -1
        self._good = False
        self._ways = 1
        self._tried = 0  # in this round of all ways
        self._own_pairs: tuple[Pair, ...] = ()
        self._use_own = False
        if part == "host" and self._is_invite():
            self._own_pairs = Pair.make(), Pair.make()
        self.way = self.doors()[0].address
        """Where it connected last, as clients would; at first, where it will."""
        self.address = self._route or Route([self.way])
        """Where the farm is: the addresses that clients use."""

    def __repr__(self) -> str:
        return f"<credentials for {self.address}>"

    @property
    def own_keys(self) -> list[bytes]:
        """Public keys that this host has made for itself and for its tasks, if it is invited."""
        return [pair.public for pair in self._own_pairs]

    def joined(self) -> None:
        """The host's own key is known now: the next connection shows it, not the invite's."""
        self._use_own = bool(self._own_pairs)
        self._good = True  # the way was

    def _is_invite(self) -> bool:
        where = self._route or parse_route(DEFAULT_ADDRESS)
        token = None if all(one.scheme == "ipc" for one in where) else self._read(where)
        return token is not None and token.invites

    def doors(self) -> list[Door]:
        """All ways in, the best first; their addresses are those that clients use."""
        where = self._route or parse_route(DEFAULT_ADDRESS)
        if all(one.scheme == "ipc" for one in where):  # only this user gets in there
            return _doors(where)
        token = self._read(where)
        if token is None:
            return _doors(where)
        secret: bytes = getattr(token, self._part)
        if not secret:
            raise TokenError(
                f"{self._where} is not a {_NEEDED[self._part]} token; farm keys new NAME --role"
                f" {'client' if self._part == 'client' else 'host'}  makes one"
            )
        if self._use_own and token.invites:
            secret = self._own_pairs[0].secret
        if not self._route and token.addresses:
            where = Route(map(parse_address, token.addresses))
        return _doors(where, token.server, secret)

    def dial(self, dealer: Dealer) -> None:
        """Have a dealer connect by the last way if it was good, else by the next."""
        if not self._good:
            self._at += 1
            self._use_own = False  # if it does not know the host's own key, that is to join again
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
        if not self._token:
            return ""
        if self._own_pairs:
            token = self._read(self._route or parse_route(DEFAULT_ADDRESS)) or Token((), b"")
            tasks = self._own_pairs[1].secret
            return Token(token.addresses, token.server, tasks=tasks).text()
        if self._token == NO_KEY:
            return self._token
        if not self._token.startswith(PREFIX):
            return str(self._file)
        token = Token.parse(self._token, self._where)
        return msgspec.structs.replace(token, host=b"", client=b"").text()

    def text(self) -> str:
        """The token itself, for a process elsewhere: ``none`` and what is not said stay."""
        if self._token in {"", NO_KEY}:
            return self._token
        token = self._read(self._route or parse_route(DEFAULT_ADDRESS))
        return "" if token is None else token.text()

    @property
    def _where(self) -> str:
        """What the token is called in errors, which must not show it."""
        if self._token.startswith(PREFIX):
            return "the token in FARM_TOKEN"
        return f"the token in {self._token or self._own}"

    def _read(self, address: Route) -> Token | None:
        if self._token == NO_KEY:
            return None
        if self._token.startswith(PREFIX):
            return Token.parse(self._token, self._where)
        if self._token:
            return self._from_file(self._file, self._token)
        if address.is_private:
            try:
                return self._from_file(self._own, str(self._own))
            except FileNotFoundError:
                return None
        return None

    def _from_file(self, path: Path, called: str) -> Token:
        try:
            data = read_private(path)
        except FileNotFoundError:
            if path == self._own and not self._token:
                raise
            raise TokenError(
                _NEITHER
                if _may_be_secret(called)
                else f"there is no file {called}, which should hold a token"
            ) from None
        except OSError as error:
            raise TokenError(
                _NEITHER
                if _may_be_secret(called)
                else f"{called}, which should hold a token, cannot be read: {error.strerror}"
            ) from None
        return Token.parse(data.decode("utf-8", "replace"), called)


def _file_of(token: str) -> Path:
    """The file that is meant, also when this process is in another folder; if one is."""
    if token.startswith(PREFIX):
        return Path()
    try:
        return Path(token).expanduser().absolute()
    except (RuntimeError, OSError):  # no such user, or this folder is gone: nor is there the file
        return Path(token)


def _may_be_secret(called: str) -> bool:
    """Whether what should be a path may be a token, or part of one, that was pasted badly."""
    return PREFIX in called or any(len(part) > PART_CHARS_MAX for part in Path(called).parts)
