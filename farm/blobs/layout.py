"""What lies where in a blob folder."""

import fcntl
import os
import re
from pathlib import Path

__all__ = [
    "DURABLE_NAME",
    "FREE",
    "FREE_CLASSES",
    "KEPT",
    "LOCK_NAME",
    "NEW",
    "PEERS",
    "TOKEN_NAME",
    "free_class",
    "fresh_peer",
    "identity",
    "is_own",
]

KEPT, PEERS, FREE = "kept", "peers", "free"
NEW = "new-"
"""Begins the names of folders of peers that are being made."""
TOKEN_NAME = "token"  # noqa: S105 - a file's name
LOCK_NAME = "lock"
DURABLE_NAME = "durable"
"""A file that is there if what is kept is to be on the disk before it counts."""
FREE_CLASSES = range(17, 27)
"""Free files are sorted by size: those of class c have at most 2 ** c bytes, and more than half."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_OWN = re.compile(r"peers/[0-9a-f]{16}")
_NAME = re.compile(r"[0-9a-z.]{1,40}")


def identity(token: bytes) -> bytes:
    """What stands in the token file of a folder: that it is this one, on this machine."""
    boot = _BOOT_ID.read_bytes() if _BOOT_ID.exists() else b""
    return token.hex().encode() + b"\n" + boot


def free_class(size: int) -> int:
    """The class of free files in which one of this size belongs."""
    return min(max((size - 1).bit_length(), FREE_CLASSES[0]), FREE_CLASSES[-1])


def is_own(name: str, own: str) -> bool:
    """Whether a peer whose folder is ``own`` may name a file so."""
    folder, _, file = name.rpartition("/")
    return folder == own and bool(_OWN.fullmatch(own)) and bool(_NAME.fullmatch(file))


def fresh_peer(root: str) -> tuple[str, int]:
    """Make a folder for a peer; its name, and the descriptor of its lock, which is held."""
    name = os.urandom(8).hex()
    # Locked before it has its name: nobody may take it for one of a peer that is gone.
    folder = Path(root, PEERS, NEW + name)
    folder.mkdir(mode=0o700)
    lock = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    folder.rename(Path(root, PEERS, name))
    return name, lock
