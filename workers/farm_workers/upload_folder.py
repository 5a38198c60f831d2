"""The folder that an agent has for the modules that are uploaded to its workers."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

__all__ = ["UploadFolder"]

PREFIX = "farm-uploads-"
LOCK = "lock"


class UploadFolder:
    """The agent's folder, with one in it for each slot: private, locked while the agent lives.

    What agents that were killed have left is removed by the next. Nothing here raises; ``path`` is
    empty where there can be no folder, and ``trouble`` says why. ``place`` is where it is made: if
    empty, among the temporary files.
    """

    def __init__(self, place: str = "") -> None:
        self.path, self.trouble = "", ""
        self._lock: int | None = None
        try:
            place = place or tempfile.gettempdir()
            for left in Path(place).glob(f"{PREFIX}*"):
                _remove_if_left(left)
            path = tempfile.mkdtemp(prefix=PREFIX, dir=place)
            # It appears with the lock held: who looks for what was left sees it then or not at all.
            self._lock = os.open(f"{path}/new", os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            Path(path, "new").rename(Path(path, LOCK))
        except OSError as error:
            self.trouble = f"there can be no uploads: {error}"
        else:
            self.path = path

    def slot(self, number: int) -> str:
        """Where the worker of a slot has its uploads; empty if nowhere."""
        return f"{self.path}/{number}" if self.path else ""

    def close(self) -> None:
        """Remove all of it."""
        path, self.path = self.path, ""
        if path:
            shutil.rmtree(path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _remove_if_left(folder: Path) -> None:
    """Remove a folder whose agent is gone."""
    with contextlib.suppress(OSError):
        if folder.stat().st_uid != os.geteuid() or folder.is_symlink():
            return
        fd = os.open(folder / LOCK, os.O_RDWR)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(fd)
