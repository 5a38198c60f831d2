"""Pairs of keys for CURVE, and the short ids by which people know them."""

import hashlib
from functools import lru_cache
from typing import NamedTuple

import zmq
from zmq.utils import z85

__all__ = ["KEY_BYTES", "Pair", "key_id", "public_of"]

KEY_BYTES = 32
ID_BYTES = 8
IDS_MAX = 65_536
"""So many keys have their ids remembered."""


class Pair(NamedTuple):
    """A secret key and the public key that belongs to it, 32 bytes each."""

    public: bytes
    secret: bytes

    def __repr__(self) -> str:
        return f"<pair {key_id(self.public)}>"

    @classmethod
    def make(cls) -> "Pair":
        """A new pair, from the operating system's randomness."""
        public, secret = zmq.curve_keypair()
        return cls(z85.decode(public), z85.decode(secret))

    @classmethod
    def of(cls, secret: bytes) -> "Pair":
        """The pair of a secret key."""
        return cls(public_of(secret), secret)


def public_of(secret: bytes) -> bytes:
    """The public key that belongs to a secret one."""
    return z85.decode(zmq.curve_public(z85.encode(secret)))


@lru_cache(maxsize=IDS_MAX)  # all keys are read again when one has changed
def key_id(public: bytes) -> str:
    """What a public key is called in lists and logs."""
    return hashlib.blake2b(public, digest_size=ID_BYTES).hexdigest()
