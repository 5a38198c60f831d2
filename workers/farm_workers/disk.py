"""The free space of the folder for temporary files: a host without any should get no work."""

import os
import tempfile
from pathlib import Path

__all__ = ["Disk"]

LOW_BYTES = 64 << 20
LOW_SHARE = 20
"""Less than this, or than a twentieth of a small disk, is a full one."""
LOOK_SECONDS = 1.0


class Disk:
    """``trouble`` says what is wrong; empty if nothing is. A system call a second."""

    def __init__(self, folder: str | None = None) -> None:
        self.trouble = ""
        self._folder = folder or os.environ.get("TMPDIR") or _usual()
        self._due = 0.0

    def look(self, now: float) -> str:
        """Look again, if that was some time ago; what is wrong."""
        if now >= self._due:
            self._due = now + LOOK_SECONDS
            self.trouble = self._find()
        return self.trouble

    def next_deadline(self) -> float:
        """When to look again."""
        return self._due

    def _find(self) -> str:
        try:
            found = os.statvfs(self._folder)
        except OSError as error:
            return (
                f"the folder for temporary files, {self._folder}, cannot be used: {error.strerror}"
            )
        free, size = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
        enough = min(LOW_BYTES, size // LOW_SHARE)
        if self.trouble:  # some more, or it would come and go
            enough *= 2
        if free < enough:
            return f"the disk of {self._folder}, for temporary files, is full"
        if found.f_files and not found.f_favail:
            return f"the disk of {self._folder}, for temporary files, has no room for another file"
        return ""


def _usual() -> str:
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:  # it cannot write to any, which will be seen
        return str(Path("/tmp"))  # noqa: S108 - where they are on most systems
