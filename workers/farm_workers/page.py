"""A page of memory that the agent and one worker share: where the worker is, in four integers.

The worker writes the ordinal of each item before it begins it, and then looks at the limit; the
agent writes the limit, waits ``SETTLE_SECONDS`` and then looks at the ordinal. By then either the
worker has seen the limit, or the agent sees the item: no store stays unseen for that long.
"""

import mmap
import os

__all__ = ["SETTLE_SECONDS", "Page"]

SETTLE_SECONDS = 0.001
_BYTES = 4096


class Page:
    """The memory of one worker after the other, in one slot.

    ``words``: the ordinal of the item begun last plus one, when it began (monotonic nanoseconds),
    the ordinal below which nothing may begin any more, and that of the item to be stopped plus one.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._memory = mmap.mmap(fd, _BYTES)
        self.words = memoryview(self._memory).cast("q")

    @classmethod
    def create(cls) -> "Page":
        """New memory, which no other process has yet."""
        if hasattr(os, "memfd_create"):
            fd = os.memfd_create("farm-worker", os.MFD_CLOEXEC)
        else:
            import tempfile  # noqa: PLC0415 -- not needed on Linux, and slow to load

            with tempfile.TemporaryFile() as file:
                fd = os.dup(file.fileno())
        os.truncate(fd, _BYTES)
        return cls(fd)

    def clear(self) -> None:
        """Begin again, for a new worker."""
        for word in range(4):
            self.words[word] = 0

    @property
    def index(self) -> int | None:
        """The ordinal of the item that the worker began last."""
        return self.words[0] - 1 if self.words[0] else None

    def seconds(self, now: float) -> float:
        """For how long that item has been running, at a monotonic time."""
        return max(0.0, now - self.words[1] / 1e9) if self.words[1] else 0.0

    def limit(self, ordinal: int) -> None:
        """Let the worker begin nothing below this ordinal."""
        self.words[2] = ordinal

    def interrupt(self, ordinal: int) -> None:
        """Name the item that is to be stopped."""
        self.words[3] = ordinal + 1

    def close(self) -> None:
        """Free the memory."""
        self.words.release()
        self._memory.close()
        os.close(self.fd)
