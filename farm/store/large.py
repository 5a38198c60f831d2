"""The file of large rows, beside the SQLite file: each row in one piece, written once.

Through SQLite a row of 1 MB costs its write-ahead log and its checkpoint, page by page; here it
is one write into space that is used again and again (docs/decisions/0010). Promises: a row is on
the disk when ``sync`` returns; the space of a freed row is not used again before ``free``; what
is read is the row asked for, or a ``StoreFailed``. The journal says which rows there are and
where: this file alone knows nothing.
"""

import contextlib
import os
import struct
from collections.abc import Iterable
from pathlib import Path

from farm.errors import StoreUnreadable
from farm.ranges import RangeSet
from farm.store.base import StoreFailed

__all__ = ["LARGE_BYTES", "LargeRows"]

LARGE_BYTES = 128 << 10
"""Rows of at least this size are kept here; below it a second fsync costs more than it saves."""

_UNIT = 4096  # places are multiples of it
_MAGIC = b"farm large rows\x00"
_HEADER = struct.Struct("16s16s")  # the file: magic, store id
_ROW = struct.Struct("4s4xqq8s")  # a row: magic, ref, size, the beginning of the store id
_ROW_MAGIC = b"row\x00"
_PIECE = 1 << 20  # larger single writes to fresh pages were measured to cost four times as much


def _units(size: int) -> int:
    return -(-(size + _ROW.size) // _UNIT)


class LargeRows:
    """Rows by place. Calls that write need the store's writing turn; ``read`` needs none."""

    def __init__(self, path: Path, store_id: bytes) -> None:
        self._path = path
        self._store_id = store_id
        self._fd = -1
        self._free = RangeSet()  # units inside the file that hold no row
        self._end = 1  # units; unit 0 is the header
        self._live = 0

    @property
    def live_bytes(self) -> int:
        """The space that rows occupy."""
        return self._live * _UNIT

    @property
    def file_bytes(self) -> int:
        """The size that the file needs, free space in the middle included."""
        return self._end * _UNIT

    def open(self, rows: Iterable[tuple[int, int, int]]) -> None:
        """Check the file against the journal's ``(ref, place, size)``, in order of place.

        Writes nothing. Raises ``StoreUnreadable`` if a row is missing.
        """
        flags = os.O_RDWR | os.O_CLOEXEC
        with contextlib.suppress(FileNotFoundError):
            self._fd = os.open(self._path, flags)
            header = os.pread(self._fd, _HEADER.size, 0).ljust(_HEADER.size, b"\0")
            if not any(header):  # a power cut came while it was made: no row was ever in it
                self.close()
            elif header != _HEADER.pack(_MAGIC, self._store_id):
                raise self._unreadable("it does not belong to this store")
        for ref, place, size in rows:
            start, stop = place // _UNIT, place // _UNIT + _units(size)
            if start < self._end or not self._holds(ref, place, size):
                raise self._unreadable(f"row {ref} is not where it should be")
            self._free.add(self._end, start)
            self._end = stop
            self._live += stop - start

    def attach(self) -> None:
        """Open the file for reading only, if there is one."""
        with contextlib.suppress(FileNotFoundError):
            self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)

    def _unreadable(self, what: str) -> StoreUnreadable:
        return StoreUnreadable(
            f"{self._path}, which holds the large rows of the store, is damaged or missing: "
            f"{what}; restore both files from the same backup, or move both away to begin anew"
        )

    def _holds(self, ref: int, place: int, size: int) -> bool:
        if self._fd < 0 or os.fstat(self._fd).st_size < place + _ROW.size + size:
            return False
        return os.pread(self._fd, _ROW.size, place) == self._row_header(ref, size)

    def _row_header(self, ref: int, size: int) -> bytes:
        return _ROW.pack(_ROW_MAGIC, ref, size, self._store_id[:8])

    def put(self, ref: int, data: bytes) -> int:
        """Write a row where there is room and return its place; not durable before ``sync``."""
        if self._fd < 0:
            self._create()
        units = _units(len(data))
        start = self._room(units)
        self._write(start * _UNIT, self._row_header(ref, len(data)), data)
        if start >= self._end:
            self._end = start + units
        self._free.remove(start, start + units)
        self._live += units
        return start * _UNIT

    def _create(self) -> None:
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(fd, _HEADER.pack(_MAGIC, self._store_id).ljust(_UNIT, b"\0"), 0)
            os.fsync(fd)
            directory = os.open(self._path.parent, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError:
            os.close(fd)
            self._path.unlink()
            raise
        self._fd = fd

    def _room(self, units: int) -> int:
        # The first hole that fits: low places fill up, so that the end can be cut off.
        for start, stop in self._free:
            if stop - start >= units:
                return start
        return self._end

    def _write(self, place: int, header: bytes, data: bytes) -> None:
        view = memoryview(data)
        done = os.pwritev(self._fd, [header, view[: _PIECE - len(header)]], place)
        if done < len(header):
            raise StoreFailed(f"{self._path}: a write of {len(header)} bytes was cut short")
        at = done - len(header)
        while at < len(view):
            at += os.pwrite(self._fd, view[at : at + _PIECE], place + len(header) + at)

    def sync(self) -> None:
        """Make every row put so far durable; raises ``StoreFailed`` if the disk does not."""
        try:
            os.fdatasync(self._fd) if hasattr(os, "fdatasync") else os.fsync(self._fd)
        except OSError as error:
            # Whatever the reason, even a full disk: nobody knows now what was written.
            raise StoreFailed(f"{self._path} could not be synced: {error}") from error

    def read(self, ref: int, place: int, size: int) -> bytes:
        """A row's bytes; raises ``StoreFailed`` if they are not there (any more)."""
        data = os.pread(self._fd, _ROW.size + size, place) if self._fd >= 0 else b""
        if len(data) != _ROW.size + size or data[: _ROW.size] != self._row_header(ref, size):
            raise StoreFailed(f"{self._path}: row {ref} is not where it should be")
        return data[_ROW.size :]

    def read_whole(self, ref: int, place: int, size: int) -> bytes:
        """As ``read``, of a file to which another process writes.

        Freed space is written again from its beginning on, and in order. So what was read is
        whole if the head of the row is still there afterwards.
        """
        data = self.read(ref, place, size)
        if not self._holds(ref, place, size):
            raise StoreFailed(f"{self._path}: row {ref} is not where it should be")
        return data

    def free(self, place: int, size: int) -> None:
        """The row at this place is gone: its deletion, or its failed commit, is final."""
        start = place // _UNIT
        self._free.add(start, start + _units(size))
        self._live -= _units(size)
        tail = self._free.overlap(self._end - 1, self._end)
        if tail:
            last = max(a for a, b in self._free if b == self._end)
            self._free.remove(last, self._end)
            self._end = last

    def lower_place(self, place: int, size: int) -> bool:
        """Whether a row at this place would find room further down."""
        return self._room(_units(size)) * _UNIT < place

    def cut(self, keep_bytes: int) -> bool:
        """Give what lies more than ``keep_bytes`` behind the last row back to the file system."""
        limit = self.file_bytes + keep_bytes
        if self._fd < 0 or os.fstat(self._fd).st_size <= limit:
            return False
        os.ftruncate(self._fd, limit)
        return True

    def close(self) -> None:
        """Close the file; idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
