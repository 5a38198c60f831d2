"""What becomes of an invite when a host comes with it: a key of the host's own, or a refusal."""

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from farm.identity import Role
from farm.keys.entries import Entry
from farm.keys.pairs import KEY_BYTES

__all__ = ["Newcomer", "Refusal", "admitted"]


class Newcomer(NamedTuple):
    """A host that has come with an invite.

    It has made two pairs of keys, for itself and for its tasks; these are the public ones.
    """

    name: str
    public: bytes
    tasks: bytes


class Refusal(NamedTuple):
    """Why a host may not join, and whether it may later."""

    why: str
    retry: bool = False


def admitted(
    entries: tuple[Entry, ...],
    invite: str,
    host: Newcomer,
    now: float,
    is_connected: Callable[[str], bool],
) -> tuple[Entry, ...] | Refusal:
    """All keys with that of the host, which is its own from now on; the same if it has it.

    A name that has joined may come with a new key, also when the invite has expired, unless its
    last key was revoked, or is connected.
    """
    found = next((one for one in entries if one.id == invite), None)
    if found is None or found.revoked:
        return Refusal("the invite was revoked")
    before = [one for one in entries if (one.name, one.invite) == (host.name, invite)]
    if any(one.public == host.public and not one.revoked for one in before):
        return entries
    others = [one for one in entries if one not in before]
    if why := _why_not(found, before, others, host, now):
        return Refusal(why)
    if any(is_connected(one.id) for one in before):
        return Refusal(f"a host {host.name!r} that has joined with this invite is connected", True)
    own = Entry(
        name=host.name,
        role=Role.HOST,
        scope="own",
        public=host.public,
        tasks=host.tasks,
        made=now,
        invite=invite,
    )
    names = tuple(dict.fromkeys((*found.joined, host.name)))
    counted = msgspec.structs.replace(found, joined=names)
    return (*(counted if one is found else one for one in others), own)


def _why_not(
    invite: Entry, before: list[Entry], others: list[Entry], host: Newcomer, now: float
) -> str:
    """Why a host may not join; ``before`` are keys with which it has."""
    if {len(host.public), len(host.tasks)} != {KEY_BYTES}:
        return "the host has made no key of its own to join with: it is of another version"
    if any(one.revoked for one in before):
        return f"the key of the host {host.name!r} was revoked"
    theirs = {key for one in others for key in (one.public, one.tasks)}
    if theirs & {host.public, host.tasks}:
        return "its key is somebody else's"
    if any(one.name == host.name and one.is_valid(now) for one in others):
        return f"there is a key {host.name!r} already: give the host another --name"
    state = invite.state(now)
    if host.name not in invite.joined and state != "valid":
        return f"the invite is {state}, and this host did not join before"
    return ""
