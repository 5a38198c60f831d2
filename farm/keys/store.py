"""The farm's side of keys: one folder, changed by commands and by hosts that join, read by all.

``server.json`` has the server's secret keys, ``peers.json`` what recognises each peer (no secrets),
``local.token`` what this user's own processes on this machine connect with. Every change is made
under a lock and replaces a whole file, so readers need no lock and never see half of one.
"""

import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from farm.errors import ConfigError
from farm.identity import Identity, Role
from farm.keys.entries import INVITED, Entries, Entry, Kind, Ring, Server, hash_of
from farm.keys.files import check_folder, locked, make_folder, read_private, write_private
from farm.keys.invites import Admissions, Newcomer, Refusal
from farm.keys.pairs import Pair
from farm.keys.token import Token

__all__ = ["LOCAL_TOKEN", "ROTATED_PORTS", "KeyStore", "keys_folder"]

SERVER, PEERS = "server.json", "peers.json"
LOCAL_TOKEN = "local.token"  # noqa: S105 - the name of a file
"""The file with which this user's processes on this machine connect."""
LOCAL = ("local", "local-host")
"""Names of the keys that this user's processes on this machine have."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
BEARER = "farmhttp-"
BEARER_BYTES = 32
KEYS_MAX = 20_000
FORGET_SECONDS = 30 * 86_400.0
"""How long is remembered that a key was revoked, or has expired."""
ROTATED_PORTS = 2
"""How far the ports of a second server key are from those of the first."""

T = TypeVar("T")
Signature = tuple[tuple[int, int, int], ...]


def keys_folder(setting: str = "", environ: Mapping[str, str] | None = None) -> Path:
    """Where keys are: as set, or in the user's state folder."""
    if setting:
        return Path(setting).expanduser().absolute()
    environ = os.environ if environ is None else environ
    home = environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(home).expanduser() / "farm" / "keys"


class KeyStore:
    """The keys of one farm. Everything that changes them raises ``ConfigError`` if it cannot be."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self._watched = [os.fspath(folder / name) for name in (SERVER, PEERS)]
        self._clock = clock
        self._ring: Ring | None = None
        self._signature: Signature = ()

    @property
    def exists(self) -> bool:
        """Whether there is a server key."""
        return (self.folder / SERVER).exists()

    # ------------------------------------------------------------ reading

    def signature(self) -> Signature:
        """What changes whenever a file of the store does."""
        found = []
        for path in self._watched:
            try:
                stat = os.stat(path)  # noqa: PTH116 - for every request: half the time
            except FileNotFoundError:
                continue
            found.append((stat.st_mtime_ns, stat.st_ino, stat.st_size))
        return tuple(found)

    def server(self) -> Server:
        """The server's keys; raises ``ConfigError`` if there are none."""
        try:
            check_folder(self.folder)
            data = read_private(self.folder / SERVER)
        except FileNotFoundError:
            raise ConfigError(
                f"there are no keys in {self.folder}: make them with  farm keys init"
            ) from None
        return self._decode(SERVER, data, Server)

    def ring(self) -> Ring:
        """The keys of all peers; raises ``ConfigError`` if they cannot be read."""
        return Ring(self._entries())

    def _entries(self) -> tuple[Entry, ...]:
        try:
            check_folder(self.folder)
            data = read_private(self.folder / PEERS)
        except FileNotFoundError:
            return ()
        return self._decode(PEERS, data, Entries).keys

    def _decode(self, name: str, data: bytes, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(data, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ConfigError(f"{self.folder / name} is damaged: {error}") from None

    def bearer(self, text: str) -> Identity | None:
        """Who shows this bearer token; None if nobody may with it, now.

        The files are read again only when they have changed.
        """
        signature = self.signature()
        if self._ring is None or signature != self._signature:
            self._ring, self._signature = self.ring(), signature
        return self._ring.bearer(text, self._clock())

    # ------------------------------------------------------------ the server's keys

    def create(self, address: str) -> None:
        """Make the server's first key, or only note a new address for one that is there."""
        make_folder(self.folder)
        with locked(self.folder):
            server = self.server() if self.exists else Server(secrets=(Pair.make().secret,))
            self._write(SERVER, msgspec.structs.replace(server, address=address))
            self._ensure_local()

    def ensure_local(self) -> None:
        """Have keys that this user's processes on this machine find by themselves."""
        make_folder(self.folder)
        with locked(self.folder):
            if not self.exists:
                self._write(SERVER, Server(secrets=(Pair.make().secret,)))
            self._ensure_local()

    def _ensure_local(self) -> None:
        path, server = self.folder / LOCAL_TOKEN, self.server()
        public = Pair.of(server.secrets[0]).public
        try:
            token = Token.parse(read_private(path).decode("ascii", "replace"), str(path))
        except FileNotFoundError:
            token = None
        valid = {entry.name for entry in self._entries() if not entry.revoked}
        if token is not None and token.server == public and valid.issuperset(LOCAL):
            return
        admin, host, tasks = Pair.make(), Pair.make(), Pair.make()
        now = self._clock()
        others = [entry for entry in self._entries() if entry.name not in LOCAL]
        own = [
            Entry(name=LOCAL[0], role=Role.ADMIN, scope="all", public=admin.public, made=now),
            Entry(
                name=LOCAL[1],
                role=Role.HOST,
                scope="all",
                public=host.public,
                tasks=tasks.public,
                made=now,
            ),
        ]
        self._save([*others, *own])
        token = Token((), public, admin.secret, host.secret, tasks.secret)
        write_private(path, token.text().encode("ascii") + b"\n")

    def rotate(self) -> None:
        """Make a second server key, for which new tokens are made, beside the first."""
        with locked(self.folder):
            server = self.server()
            if len(server.secrets) > 1:
                raise ConfigError(
                    "the server key is being changed already: give every peer its new token, then"
                    "  farm keys rotate --finish"
                )
            secrets_ = (*server.secrets, Pair.make().secret)
            self._write(SERVER, msgspec.structs.replace(server, secrets=secrets_))

    def finish_rotation(self) -> list[str]:
        """End the first of two server keys, and the peers' keys that were replaced; their names."""
        with locked(self.folder):
            server = self.server()
            if len(server.secrets) == 1:
                raise ConfigError("there is one server key: begin with  farm keys rotate")
            self._write(SERVER, msgspec.structs.replace(server, secrets=server.secrets[1:]))
            now, entries = self._clock(), self._entries()
            ended = [entry.name for entry in entries if entry.replaced and entry.is_valid(now)]
            self._save(
                msgspec.structs.replace(entry, revoked=now) if entry.replaced else entry
                for entry in entries
            )
            self._ensure_local()
            return ended

    # ------------------------------------------------------------ peers

    def new(
        self,
        name: str,
        role: Role,
        *,
        scope: str = "",
        expires: float = 0.0,
        http: bool = False,
        again: bool = False,
    ) -> str:
        """Make a key and return its token, which is kept nowhere; ``expires`` is in seconds.

        ``again``: a second key for a name that has one, which goes on until the rotation ends.
        """
        self._check_name(name)
        with locked(self.folder):
            server, entries = self.server(), list(self._entries())
            now = self._clock()
            held = [one for one in entries if one.name == name and one.is_valid(now)]
            if held and not again:
                raise ConfigError(
                    f"there is a key {name!r}: revoke it first (farm keys revoke {name}), or add a"
                    " second one with --again"
                )
            if again and not held:
                raise ConfigError(f"there is no key {name!r} to make another for")
            entry = Entry(
                name=name,
                role=role,
                scope=scope or ("own" if role is Role.CLIENT else "all"),
                made=now,
                expires=now + expires if expires else 0.0,
            )
            if held and (held[0].role, held[0].kind is Kind.HTTP) != (role, http):
                raise ConfigError(f"the key {name!r} is a {held[0].role}'s; make this one the same")
            text, entry = self._bearer(entry) if http else self._pair(entry, server)
            marked = [
                msgspec.structs.replace(one, replaced=True) if one in held else one
                for one in entries
            ]
            self._save([*marked, entry])
            return text

    def _bearer(self, entry: Entry) -> tuple[str, Entry]:
        if entry.role is Role.HOST:
            raise ConfigError("a host does not speak HTTP: make a client's key, or an admin's")
        text = BEARER + secrets.token_urlsafe(BEARER_BYTES)
        return text, msgspec.structs.replace(entry, kind=Kind.HTTP, hash=hash_of(text))

    def _pair(self, entry: Entry, server: Server) -> tuple[str, Entry]:
        pair = Pair.make()
        public = Pair.of(server.secrets[-1]).public
        addresses = self._addresses(server)
        if entry.kind is Kind.INVITE:  # its hosts make keys for their tasks themselves
            token = Token(addresses, public, host=pair.secret, invites=True)
        elif entry.role is Role.HOST:
            tasks = Pair.make()
            token = Token(addresses, public, host=pair.secret, tasks=tasks.secret)
            entry = msgspec.structs.replace(entry, tasks=tasks.public)
        else:
            token = Token(addresses, public, client=pair.secret)
        return token.text(), msgspec.structs.replace(entry, public=pair.public)

    @staticmethod
    def _addresses(server: Server) -> tuple[str, ...]:
        if not server.address:
            raise ConfigError(
                "it is not known where other machines find this farm: say it with"
                "  farm keys init --address tcp://NAME-OF-THIS-MACHINE:7070"
            )
        if len(server.secrets) == 1:
            return (server.address,)
        # The newer key has ports of its own until the older one ends, and then those.
        head, _, port = server.address.rpartition(":")
        return f"{head}:{int(port) + ROTATED_PORTS}", server.address

    def invite(self, name: str, *, uses: int, expires: float) -> str:
        """Make a token with which up to ``uses`` hosts join until it expires; see ``join``."""
        self._check_name(name)
        with locked(self.folder):
            entries, now = self._entries(), self._clock()
            if any(one.name == name and one.is_valid(now) for one in entries):
                raise ConfigError(f"there is a key {name!r}: choose another name")
            entry = Entry(
                name=name,
                role=Role.HOST,
                scope=INVITED,
                kind=Kind.INVITE,
                made=now,
                expires=now + expires,
                uses=uses,
            )
            text, entry = self._pair(entry, self.server())
            self._save([*entries, entry])
            return text

    def join(self, hosts: Sequence[Newcomer]) -> list[Refusal | None]:
        """Give hosts that come with invites keys of their own, or say of each why not.

        Of them all there is one change of the files.
        """
        with locked(self.folder):
            admissions = Admissions(self._entries(), self._clock())
            answers = [self._admit(admissions, host) for host in hosts]
            if admissions.changed:
                self._save(admissions.entries)
            return answers

    def _admit(self, admissions: Admissions, host: Newcomer) -> Refusal | None:
        try:
            self._check_name(host.name)
        except ConfigError as error:
            return Refusal(str(error))
        return admissions.admit(host)

    def revoke(self, name: str) -> list[Entry]:
        """End all keys of a name, and those of the hosts that have joined with it; returns them.

        Raises ``ConfigError`` if it has none.
        """
        with locked(self.folder):
            entries, now = self._entries(), self._clock()
            named = {one.id for one in entries if one.name == name}
            ended = [
                one
                for one in entries
                if not one.revoked and (one.name == name or one.invite in named)
            ]
            if not ended:
                raise ConfigError(f"there is no key {name!r} that could be revoked")
            self._save(
                msgspec.structs.replace(one, revoked=now) if one in ended else one
                for one in entries
            )
            return ended

    # ------------------------------------------------------------ files

    def _check_name(self, name: str) -> None:
        if not NAME.fullmatch(name) or name in LOCAL:
            raise ConfigError(
                f"{name!r} is no name for a key: up to 64 letters, digits and . _ @ -, beginning"
                f" with a letter or digit, and not {' or '.join(LOCAL)}"
            )
        if not self.exists:
            self.server()  # says what to do

    def _save(self, entries: Iterable[Entry]) -> None:
        now = self._clock()
        entries = tuple(entries)
        invites = {one.id for one in entries if one.kind is Kind.INVITE and not _is_old(one, now)}
        # Who was revoked alone must not join again as long as others may.
        kept = tuple(one for one in entries if one.invite in invites or not _is_old(one, now))
        if len(kept) > KEYS_MAX:
            raise ConfigError(f"there are {KEYS_MAX} keys already: revoke some")
        self._write(PEERS, Entries(keys=kept))

    def _write(self, name: str, content: msgspec.Struct) -> None:
        data = msgspec.json.format(msgspec.json.encode(content))
        write_private(self.folder / name, data + b"\n")


def _is_old(entry: Entry, now: float) -> bool:
    """Whether nobody needs to be told any more why this key is refused."""
    ended = entry.revoked or (0.0 if entry.joined else entry.expires)
    return bool(ended) and now > ended + FORGET_SECONDS
