"""What becomes of an invite when a host comes with it: a key of the host's own, or a refusal."""

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from farm.identity import Role
from farm.keys.entries import Entry
from farm.keys.pairs import KEY_BYTES

__all__ = ["Admissions", "Newcomer", "Refusal"]


class Newcomer(NamedTuple):
    """A host that has come with an invite, by the id of that.

    It has made two pairs of keys, for itself and for its tasks; these are the public ones.
    ``connected`` are the ids of keys in use with which this name has joined before.
    """

    invite: str
    name: str
    public: bytes
    tasks: bytes
    connected: frozenset[str] = frozenset()


class Refusal(NamedTuple):
    """Why a host may not join, and whether it may later."""

    why: str
    retry: bool = False


class Admissions:
    """The keys of a farm while hosts join it, a thousand perhaps: all is looked up, not for."""

    def __init__(self, entries: Iterable[Entry], now: float) -> None:
        self.changed = False
        self._now = now
        self._entries: dict[int, Entry] = {}
        self._next = 0
        self._by_id: dict[str, int] = {}
        self._by_key: dict[bytes, int] = {}
        self._by_name: dict[str, list[int]] = {}
        for entry in entries:
            self._add(entry)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All keys, with those of the hosts that were let in."""
        return tuple(self._entries.values())

    def admit(self, host: Newcomer) -> Refusal | None:
        """Let a host in with its own key from now on, if it has not joined with that already.

        A name that has joined may come with a new key, also when the invite has expired, unless its
        last key was revoked, or is connected.
        """
        at = self._by_id.get(host.invite, -1)
        invite = self._entries.get(at)
        if invite is None or invite.revoked:
            return Refusal("the invite was revoked")
        named = self._by_name.get(host.name, [])
        before = [one for one in named if self._entries[one].invite == host.invite]
        keys = [self._entries[one] for one in before]
        if any(one.public == host.public and not one.revoked for one in keys):
            return None
        if why := self._why_not(invite, before, host):
            return Refusal(why)
        if any(one.id in host.connected for one in keys):
            said = f"a host {host.name!r} that has joined with this invite is connected"
            return Refusal(said, retry=True)
        for number in before:
            self._remove(number)
        self._add(
            Entry(
                name=host.name,
                role=Role.HOST,
                scope="own",
                public=host.public,
                tasks=host.tasks,
                made=self._now,
                invite=host.invite,
            )
        )
        if host.name not in invite.joined:
            counted = msgspec.structs.replace(invite, joined=(*invite.joined, host.name))
            self._entries[at] = counted
        self.changed = True
        return None

    def _why_not(self, invite: Entry, before: list[int], host: Newcomer) -> str:
        """Why a host may not join; ``before`` are the keys with which it has."""
        if {len(host.public), len(host.tasks)} != {KEY_BYTES}:
            return "the host has made no key of its own to join with: it is of another version"
        if any(self._entries[one].revoked for one in before):
            return f"the key of the host {host.name!r} was revoked"
        owners = {self._by_key[key] for key in (host.public, host.tasks) if key in self._by_key}
        if owners.difference(before):
            return "its key is somebody else's"
        others = (one for one in self._by_name.get(host.name, []) if one not in before)
        if any(self._entries[one].is_valid(self._now) for one in others):
            return f"there is a key {host.name!r} already: give the host another --name"
        state = invite.state(self._now)
        if host.name not in invite.joined and state != "valid":
            return f"the invite is {state}, and this host did not join before"
        return ""

    def _add(self, entry: Entry) -> None:
        number, self._next = self._next, self._next + 1
        self._entries[number] = entry
        self._by_id[entry.id] = number
        self._by_name.setdefault(entry.name, []).append(number)
        for key in (entry.public, entry.tasks):
            if key:
                self._by_key[key] = number

    def _remove(self, number: int) -> None:
        entry = self._entries.pop(number)
        self._by_name[entry.name].remove(number)
        self._by_id.pop(entry.id, None)
        for key in (entry.public, entry.tasks):
            self._by_key.pop(key, None)
