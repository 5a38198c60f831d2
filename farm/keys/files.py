"""Files that only their owner may read, written whole or not at all.

Whatever else is found is refused, with the command that puts it right: a secret that others could
have read is none.
"""

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from farm.errors import ConfigError

__all__ = ["KeysLocked", "check_folder", "locked", "make_folder", "read_private", "write_private"]

LOCK = "lock"


class KeysLocked(ConfigError):
    """The keys are not this user's, or can be read by others."""


def make_folder(folder: Path) -> None:
    """Make a folder that only this user can enter, or check the one that is there."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"the folder for keys cannot be made: {error}") from None
    check_folder(folder)


def check_folder(folder: Path) -> None:
    """Raise ``KeysLocked`` unless only this user can enter the folder."""
    _check(folder, folder.stat(), "700")


def _check(path: Path, found: os.stat_result, mode: str) -> None:
    if found.st_uid not in (os.geteuid(), 0):
        raise KeysLocked(f"{path} holds keys and belongs to another user: use files of your own")
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise KeysLocked(
            f"{path} holds keys and is open to other users"
            f" (mode {stat.S_IMODE(found.st_mode):04o}): chmod {mode} {path}"
        )


def read_private(path: Path) -> bytes:
    """The content of a file of this user alone; raises ``KeysLocked``, ``OSError``."""
    with path.open("rb") as file:
        _check(path, os.fstat(file.fileno()), "600")
        return file.read()


def write_private(path: Path, data: bytes) -> None:
    """Replace a file, so that whoever reads it finds the old or the new content, whole."""
    new = path.with_name(f".{path.name}.new")
    with contextlib.suppress(FileNotFoundError):
        new.unlink()
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:  # noqa: PTH123 - it has a descriptor
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Be the only one who changes the folder's files; raises ``ConfigError`` if it is not there."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        raise ConfigError(
            f"there are no keys in {folder}: make them with  farm keys init"
        ) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
