"""How a function carries the modules that were uploaded with it: an archive before its pickle.

The bytes are known by how they begin, so who only wants the function, or only the archive, opens
nothing else. A function without an upload is its pickle, and nothing more.
"""

import struct
from typing import NamedTuple

from farm.digest import blake2b

__all__ = ["DIGEST_BYTES", "Carried", "carry", "digest_of", "split"]

DIGEST_BYTES = 16
_MAGIC = b"\x00farm-upload-1\x00"  # no pickle begins like this
_HEADER = struct.Struct(f"<{len(_MAGIC)}s{DIGEST_BYTES}sI")


class Carried(NamedTuple):
    """An upload as it came: the hash of the archive, and the archive."""

    digest: bytes
    archive: bytes


def digest_of(archive: bytes) -> bytes:
    """What an archive is known by."""
    return blake2b(archive, digest_size=DIGEST_BYTES).digest()


def carry(digest: bytes, archive: bytes, pickled: bytes) -> bytes:
    """A function with its upload."""
    return _HEADER.pack(_MAGIC, digest, len(archive)) + archive + pickled


def split(data: bytes) -> tuple[Carried | None, bytes]:
    """The upload of a function, if it has one, and its pickle."""
    if not data.startswith(_MAGIC) or len(data) < _HEADER.size:
        return None, data
    _, digest, size = _HEADER.unpack_from(data)
    end = _HEADER.size + size
    return Carried(digest, data[_HEADER.size : end]), data[end:]
