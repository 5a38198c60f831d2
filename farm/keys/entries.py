"""What a farm keeps of its peers' keys: no secrets, only what recognises them."""

import hashlib
import hmac
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from farm.identity import Identity, Role
from farm.keys.pairs import KEY_BYTES, key_id

__all__ = ["INVITED", "Entries", "Entry", "Kind", "Ring", "Server", "Verdict", "hash_of"]

INVITED = "invite"
"""The scope of a host that came with an invite: those that have joined with it."""


class Kind(StrEnum):
    """How a key is shown: on a connection, as a bearer token, or by several hosts that join."""

    CURVE = "curve"
    HTTP = "http"
    INVITE = "invite"


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One key. Times are seconds since 1970; ``expires`` 0 is never, ``revoked`` 0 is not."""

    name: str
    role: Role
    scope: str
    kind: Kind = Kind.CURVE
    public: bytes = b""
    tasks: bytes = b""
    """The public key that a host's tasks have as clients of the farm."""
    hash: bytes = b""
    """Of a bearer token."""
    made: float
    expires: float = 0.0
    revoked: float = 0.0
    replaced: bool = False
    """Its name has a newer one: it ends with the server key for which it was made."""
    uses: int = 0
    joined: tuple[str, ...] = ()
    """Of an invite: how many hosts may join with it, and which have."""
    invite: str = ""
    """Of a host that has joined: the id of the invite with which it did."""

    @property
    def id(self) -> str:
        """What the key is called in lists and logs."""
        return key_id(self.public) if self.public else self.hash[:8].hex()

    def identity(self) -> Identity:
        """Who shows it."""
        return Identity(self.name, self.role, self.scope, self.id)

    def state(self, now: float) -> str:
        """In one word."""
        if self.revoked:
            return "revoked"
        if self.expires and now >= self.expires:
            return "expired"
        if self.kind is Kind.INVITE and len(self.joined) >= self.uses:
            return "used"
        return "replaced" if self.replaced else "valid"

    def is_valid(self, now: float) -> bool:
        """Whether it is good for anything at this time."""
        # What has joined stays; a new host's name is looked at when it says it.
        return not self.revoked and (bool(self.joined) or not 0 < self.expires <= now)


class Entries(msgspec.Struct, frozen=True, kw_only=True):
    """The file of all keys."""

    version: int = 1
    keys: tuple[Entry, ...] = ()


Secret = Annotated[bytes, Meta(min_length=KEY_BYTES, max_length=KEY_BYTES)]


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """The server's file: where peers find it, and its secret keys, the newest last.

    There are two while it changes from one to the other; the second has ports of its own then.
    """

    version: int = 1
    address: str = ""
    secrets: Annotated[tuple[Secret, ...], Meta(min_length=1)] = ()


class Verdict(NamedTuple):
    """Whether a key may connect: who it is, or why not, in one word."""

    identity: Identity | None
    reason: str = ""


def hash_of(bearer: str) -> bytes:
    """What is kept of a bearer token. It is random and long: it needs no salt and no delay."""
    return hashlib.sha256(bearer.encode("utf-8", "surrogatepass")).digest()


class Ring:
    """The keys as they were when they were read; never changes.

    ``admit`` decides about new connections and ``identify`` about known ones, by the id.
    """

    def __init__(self, entries: tuple[Entry, ...] = ()) -> None:
        self.entries = entries
        self._bearers = [entry for entry in entries if entry.kind is Kind.HTTP]
        self._publics: dict[bytes, tuple[Entry, Identity, str]] = {}
        self._ids: dict[str, tuple[Entry, Identity, str]] = {}
        self._joined: dict[tuple[str, str], list[str]] = {}
        for entry in entries:
            if entry.invite:
                self._joined.setdefault((entry.invite, entry.name), []).append(entry.id)
            if entry.public:
                side = "host" if entry.role is Role.HOST else "client"
                self._add(entry.public, entry, entry.identity(), side)
            if entry.tasks:
                tasks = Identity(entry.name, Role.CLIENT, "tasks", key_id(entry.tasks))
                self._add(entry.tasks, entry, tasks, "client")

    def _add(self, public: bytes, entry: Entry, identity: Identity, side: str) -> None:
        self._publics[public] = self._ids[identity.key] = (entry, identity, side)

    def admit(self, public: bytes, side: str, now: float) -> Verdict:
        """Whether whoever has this key may connect where this side does."""
        found = self._publics.get(public)
        if found is None:
            return Verdict(None, "unknown")
        entry, identity, its_side = found
        if not entry.is_valid(now):
            return Verdict(None, entry.state(now))
        if its_side != side:
            return Verdict(None, "wrong_side")
        return Verdict(identity)

    def identify(self, key: str, side: str, now: float) -> Identity | None:
        """Who has the key of this id, if that is still valid, and for this side."""
        found = self._ids.get(key)
        if found is None or found[2] != side or not found[0].is_valid(now):
            return None
        return found[1]

    def valid(self, now: float) -> frozenset[str]:
        """The ids of all keys that may be connected now."""
        return frozenset(key for key, found in self._ids.items() if found[0].is_valid(now))

    def valid_until(self, now: float) -> float:
        """When the next of the keys ends that are valid now; infinite if none does by itself."""
        ends = (one.expires for one in self.entries if not (one.revoked or one.joined))
        return min((end for end in ends if end > now), default=float("inf"))

    def joined(self, invite: str, name: str) -> Sequence[str]:
        """The ids of keys with which a host of this name has joined by an invite."""
        return self._joined.get((invite, name), ())

    def bearer(self, text: str, now: float) -> Identity | None:
        """Who shows this bearer token; one nearly right takes no longer than one all wrong."""
        digest, found = hash_of(text), None
        for entry in self._bearers:
            if hmac.compare_digest(entry.hash, digest):
                found = entry
        return found.identity() if found is not None and found.is_valid(now) else None
