"""What a process shows of itself where a farm asks for keys: its token, and where that is found.

Errors name the file or the variable, and never show what is in it.
"""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from farm.keys import LOCAL_TOKEN, Pair, Token, TokenError, keys_folder
from farm.keys.files import read_private
from farm.keys.token import PREFIX
from farm.transport.address import Route

if TYPE_CHECKING:
    from farm.transport.credentials import Part

__all__ = ["Proof", "Shown"]

PART_CHARS_MAX = 64
"""What is longer, between two slashes, is not shown: a token is, and hardly a file's name."""
_NEITHER = "FARM_TOKEN is neither a token nor the path of a file with one"
_NEEDED = {"client": "client's or an admin's", "host": "host's", "tasks": "host's"}


class Shown(NamedTuple):
    """Addresses that the token says, the farm's public key, and our secret one."""

    addresses: tuple[str, ...]
    server: bytes
    secret: bytes

    def __repr__(self) -> str:
        return "<what is shown to a farm>"


class Proof:
    """The token of one process; ``part``, ``token`` and ``keys`` are those of ``Credentials``.

    ``where`` is where the farm is. Raises ``ConfigError`` for a token that is none.
    """

    def __init__(self, part: "Part", token: str, keys: str | Path, where: Route) -> None:
        self._part = part
        self._token = token
        self._file = _file_of(token)
        self._own = Path(keys or keys_folder()) / LOCAL_TOKEN
        self._has_own = where.is_private
        self._own_pairs: tuple[Pair, ...] = ()
        self._use_own = False
        if part == "host" and not where.is_ipc:
            told = self._read()
            if told is not None and told.invites:
                self._own_pairs = Pair.make(), Pair.make()

    @property
    def own_keys(self) -> list[bytes]:
        """Public keys that this host has made for itself and for its tasks, if it is invited."""
        return [pair.public for pair in self._own_pairs]

    def joined(self) -> None:
        """The host's own key is known now: the next connection shows it, not the invite's."""
        self._use_own = bool(self._own_pairs)

    def doubted(self) -> None:
        """A connection was not welcome: if the host's own key is not known, it is to join again."""
        self._use_own = False

    def show(self) -> Shown | None:
        """What the next connection shows; None if there is no token."""
        token = self._read()
        if token is None:
            return None
        secret: bytes = getattr(token, self._part)
        if not secret:
            raise TokenError(
                f"{self._where} is not a {_NEEDED[self._part]} token; farm keys new NAME --role"
                f" {'client' if self._part == 'client' else 'host'}  makes one"
            )
        if self._use_own and token.invites:
            secret = self._own_pairs[0].secret
        return Shown(token.addresses, token.server, secret)

    def for_tasks(self) -> str:
        """What a host's tasks, as clients of the farm, are to use: no more than they need."""
        if not self._token:
            return ""
        if self._own_pairs:
            token = self._read() or Token((), b"")
            tasks = self._own_pairs[1].secret
            return Token(token.addresses, token.server, tasks=tasks).text()
        if not self._token.startswith(PREFIX):
            return str(self._file)
        token = Token.parse(self._token, self._where)
        return msgspec.structs.replace(token, host=b"", client=b"").text()

    def text(self) -> str:
        """The token itself; empty if there is none."""
        token = self._read()
        return "" if token is None else token.text()

    @property
    def _where(self) -> str:
        """What the token is called in errors, which must not show it."""
        if self._token.startswith(PREFIX):
            return "the token in FARM_TOKEN"
        return f"the token in {self._token or self._own}"

    def _read(self) -> Token | None:
        if self._token.startswith(PREFIX):
            return Token.parse(self._token, self._where)
        if self._token:
            return self._from_file(self._file, self._token)
        if self._has_own:
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
