"""The lock file that keeps a second coordinator off a store, and where it can be trusted.

Promises: of all processes of one machine at most one holds the lock of a path; it is free as soon
as its holder is gone, however that ended; the file exists only while the lock is held or was
lost in a crash. SQLite's own locks would not do: in WAL mode two writers share a file happily.
"""

import fcntl
import os
import re
from pathlib import Path

from farm.errors import StoreError, StoreLocked

__all__ = ["MOUNTS", "FileLock", "file_system", "refuse_network"]

MOUNTS = Path("/proc/self/mounts")
"""Where Linux lists what is mounted; absent elsewhere."""

# Locks and shared memory do not reach the other machines that have these mounted.
_NETWORK = re.compile(
    "9p|afs|beegfs|ceph|cifs|coda|davfs|fhgfs|gfs2|glusterfs|gpfs|lustre|ncpfs|nfs4?|ocfs2|"
    "orangefs|pvfs2|smb[23]|smbfs|"
    r"fuse\.(ceph|curlftpfs|davfs|gcsfuse|glusterfs|goofys|juicefs|moosefs|rclone|s3fs|sshfs)"
)


class FileLock:
    """An exclusive lock held by ``flock`` on a file of its own that names the holder's pid."""

    def __init__(self, path: Path, store: Path) -> None:
        self._path = path
        self._store = store
        self._fd = -1

    def acquire(self) -> None:
        """Take the lock at once, or raise ``StoreLocked`` naming the holder."""
        while True:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                self._lock(fd)
            except BaseException:
                os.close(fd)
                raise
            if self._is_path_of(fd):
                break
            os.close(fd)  # its holder has just removed it; take the next one
        self._fd = fd
        try:
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        except OSError:  # a full disk
            self.release()
            raise

    def _lock(self, fd: int) -> None:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise StoreLocked(
                f"the store {self._store} is in use by another coordinator, process {pid}; "
                "connect to that one, stop it, or name another store"
            ) from None

    def _is_path_of(self, fd: int) -> bool:
        try:
            return os.path.samestat(os.fstat(fd), self._path.stat())
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Give the lock up and remove its file; does nothing if it is not held."""
        if self._fd >= 0:
            # Removed before it is unlocked, so that nobody locks a file about to vanish unseen.
            self._path.unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = -1


def file_system(directory: Path, mounts: Path = MOUNTS) -> str:
    """The type of the file system that a directory is on, or "" if this cannot be known."""
    try:
        lines = mounts.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return ""
    target = directory.resolve()
    kind, depth = "", -1
    for line in lines:
        fields = line.split(" ")
        if len(fields) < 3:  # noqa: PLR2004 - device, mount point, type
            continue
        octal = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[1])
        point = Path(octal)
        # Of two mounts on one point the later hides the earlier.
        if target.is_relative_to(point) and len(point.parts) >= depth:
            kind, depth = fields[2], len(point.parts)
    return kind


def refuse_network(store: Path, mounts: Path = MOUNTS) -> None:
    """Raise ``StoreError`` if the store's directory is on a network file system."""
    kind = file_system(store.parent, mounts)
    if _NETWORK.fullmatch(kind):
        raise StoreError(
            f"the store {store} would be on a network file system ({kind}), where locks and "
            "fsync cannot be relied on; name a path on a disk of this machine"
        )
