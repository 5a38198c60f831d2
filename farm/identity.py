"""Who a peer is: the name, the role and the reach of the key with which it came."""

from enum import StrEnum
from typing import NamedTuple

__all__ = ["TRUSTED", "Identity", "Role"]


class Role(StrEnum):
    """What a key is for; an admin may do what a client may, and more."""

    CLIENT = "client"
    HOST = "host"
    ADMIN = "admin"


class Identity(NamedTuple):
    """One peer. What counts as its own belongs to its ``name``: a new key under it owns it, too.

    ``scope`` says how far it reaches. A client's is ``own`` (what clients of its name submitted),
    ``all``, or ``tasks``, of the clients that a host's tasks are: what they submit belongs to whom
    the task that does so belongs to. A host's is ``own`` (only a host of that name) or ``all``
    (hosts of any name that no other key has). ``key`` is the public id of its key, and empty where
    no keys are in use.
    """

    name: str
    role: Role
    scope: str
    key: str

    @property
    def sees_all(self) -> bool:
        """Whether it may see what belongs to others."""
        return self.scope == "all" or self.role is Role.ADMIN

    @property
    def is_trusted(self) -> bool:
        """Whether no keys are in use, so that it may be anybody."""
        return not self.key and self.role is Role.ADMIN


TRUSTED = Identity("", Role.ADMIN, "all", "")
"""What every peer is where no keys are in use."""
