"""Writing a payload into a file, and, if somebody will wait for the disk, beginning that."""

import functools
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from farm.model import Blob, Payload
from farm.protocol.parts import PAYLOAD_BYTES_MAX

if TYPE_CHECKING:
    from farm.blobs.folder import Blobs

__all__ = ["Writer", "begin_writeback"]

_PIECE = 1 << 20  # larger single writes to fresh pages were measured to cost four times as much
_WRITE = 2  # SYNC_FILE_RANGE_WRITE: begin, and wait for nothing


def begin_writeback(fd: int) -> None:
    """Let the disk begin with a file, where that can be said; whoever syncs it then waits less."""
    if (begin := _sync_file_range()) is not None:
        begin(fd, 0, 0, _WRITE)  # of no consequence if it fails


@functools.cache
def _sync_file_range() -> Callable[[int, int, int, int], int] | None:
    """Of Linux's C libraries; Python does not offer it."""
    import ctypes  # noqa: PLC0415 - 18 ms, for those who need it

    function = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if function is not None:
        function.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    return function


class Writer:
    """A payload on its way to a file; while it is small, and if it must, in memory."""

    __slots__ = ("_blobs", "_fd", "_hint", "_name", "_parts", "size")

    def __init__(self, blobs: "Blobs", hint: int) -> None:
        self.size = 0
        self._blobs = blobs
        self._hint = hint
        self._fd = -1
        self._name = ""
        self._parts: list[bytes] = []

    def write(self, data: Any) -> int:
        """What a pickler calls, with any buffer."""
        raw = getattr(data, "raw", None)  # of a pickle.PickleBuffer, in whatever order it is
        view: memoryview = memoryview(data) if raw is None else raw()
        self.size += view.nbytes
        if self.size > PAYLOAD_BYTES_MAX:
            return view.nbytes  # it will be refused for its size
        if self._fd < 0 and self._begins():
            parts, self._parts = self._parts, []
            try:
                self._fd, self._name = self._blobs.claim(max(self.size, self._hint))
                self._put(memoryview(b"".join(parts)))
            except OSError:
                self._give_up(parts)
        if self._fd < 0:
            self._parts.append(bytes(view))
            return view.nbytes
        done = self.size - view.nbytes
        try:
            self._put(view.cast("B"))
        except OSError:  # the disk is full: memory it is
            self._give_up([os.pread(self._fd, done, 0)])
            self._parts.append(bytes(view))
        return view.nbytes

    def _begins(self) -> bool:
        return self.size >= self._blobs.least and self._blobs.is_able

    def _put(self, view: memoryview) -> None:
        at = 0
        while at < len(view):
            at += os.write(self._fd, view[at : at + _PIECE])

    def _give_up(self, parts: list[bytes]) -> None:
        self._blobs.note_unable()
        self._parts = parts
        self._close()

    def _close(self) -> None:
        """Whatever was written is not needed."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._blobs.release(self._name)

    def finish(self) -> Payload:
        """The payload; above ``PAYLOAD_BYTES_MAX`` only as long as it would be."""
        if self.size > PAYLOAD_BYTES_MAX:
            self._close()
            return Blob("", self.size)
        if self._fd < 0:
            return b"".join(self._parts)
        if self._blobs.hurries:
            begin_writeback(self._fd)
        os.close(self._fd)
        self._fd = -1
        return self._blobs.hold(self._name, self.size)

    def drop(self) -> None:
        """It is not wanted after all."""
        self._close()
