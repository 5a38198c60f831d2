"""A blob folder as one process uses it: files claimed, held, read and let go."""

import contextlib
import io
import itertools
import mmap
import os
import weakref
from collections import deque
from pathlib import Path
from time import monotonic
from typing import BinaryIO

from farm.blobs.layout import (
    DURABLE_NAME,
    FREE,
    FREE_CLASSES,
    LOCK_NAME,
    PEERS,
    TOKEN_NAME,
    free_class,
    fresh_peer,
    identity,
)
from farm.blobs.writer import Writer
from farm.errors import PayloadError
from farm.model import BLOB_BYTES, Blob, Payload

__all__ = ["Blobs", "Held"]

_LOOK_SECONDS = 0.01  # how long a class of free files that was empty is taken to be
_UNABLE_SECONDS = 1.0  # how long nothing is written after the disk was full


class Held(Blob, gc=True, eq=False, dict=True, weakref=True):
    """A blob under a name of this process's own, which is let go with this object."""

    def __del__(self) -> None:
        blobs: Blobs | None = self.__dict__.get("blobs")
        if blobs is not None:
            blobs.release(self.name)

    @property
    def blobs(self) -> "Blobs | None":
        """Where it lies; None once it was given away."""
        return self.__dict__.get("blobs")

    def give(self) -> Blob:
        """The blob, whose name now belongs to somebody else."""
        self.__dict__["blobs"] = None
        return Blob(self.name, self.size)

    def open(self) -> BinaryIO:
        """The file; raises ``PayloadError`` naming it if it is not whole."""
        mapped: mmap.mmap | None = self.__dict__.get("mapped")
        if mapped is not None:
            return io.BytesIO(mapped)
        path = f"{self.__dict__['blobs'].root}/{self.name}"
        try:
            file = open(path, "rb")  # noqa: PTH123, SIM115 - a Path costs as much again
        except OSError as error:
            raise PayloadError(
                f"the payload in the file {path} is lost: {error.strerror}"
            ) from None
        size = os.fstat(file.fileno()).st_size
        if size < self.size:
            file.close()
            raise PayloadError(
                f"the payload in the file {path} is damaged: {size:,} bytes of {self.size:,}"
            )
        return file

    def detach(self) -> None:
        """Be readable although the folder may vanish."""
        with contextlib.suppress(OSError, PayloadError, ValueError), self.open() as file:
            self.__dict__["mapped"] = mmap.mmap(file.fileno(), self.size, access=mmap.ACCESS_READ)


class Blobs:
    """The folder as one process uses it, from any of its threads.

    ``own`` is where its names lie, each beginning with ``prefix``. ``lock`` is the descriptor of
    the lock that says that the process is there; it is held as long as this object is.
    ``hurries``: what is written here will be waited for until it is on the disk.
    """

    least = BLOB_BYTES
    hurries = False

    def __init__(self, root: str, own: str, prefix: str = "", lock: int = -1) -> None:
        self.root, self.own = root, own
        self._prefix = prefix
        self._numbers = itertools.count(1)
        self._pid = os.getpid()
        # Names of free files, of each class what one listing found and was not used up since: the
        # coordinator removes what is free beyond a bound in bytes, and none has less than half of
        # its class.
        self._free: dict[int, deque[str]] = {c: deque() for c in FREE_CLASSES}
        self._look_at = dict.fromkeys(FREE_CLASSES, 0.0)
        self._unable_until = 0.0
        self._secured: weakref.WeakSet[Held] = weakref.WeakSet()
        if lock >= 0:
            weakref.finalize(self, _leave, f"{root}/{own}", lock, self._pid).atexit = False

    @classmethod
    def join(cls, root: str, token: bytes) -> "Blobs | None":
        """Use a coordinator's folder if this process sees it, and not only one of that name."""
        try:
            if not root or Path(root, TOKEN_NAME).read_bytes() != identity(token):
                return None
            name, lock = fresh_peer(root)
        except OSError:
            return None
        return cls(root, f"{PEERS}/{name}", lock=lock)

    @classmethod
    def for_results(cls, root: str, own: str, prefix: str) -> "Blobs":
        """The same for a worker: nobody sees a result of a durable farm before the disk has it."""
        blobs = cls(root, own, prefix)
        blobs.hurries = os.path.exists(f"{root}/{DURABLE_NAME}")  # noqa: PTH110
        return blobs

    # ------------------------------------------------------------ writing

    def begin(self, hint: int) -> "Writer":
        """Write a payload of about ``hint`` bytes."""
        return Writer(self, hint)

    def keep(self, data: bytes) -> Payload:
        """A payload that is in memory: in a file if it is large, and there is room."""
        if len(data) < self.least:
            return data
        writer = self.begin(len(data))
        writer.write(data)
        return writer.finish()

    @property
    def is_able(self) -> bool:
        """Whether it makes sense to try to write."""
        return not self._unable_until or monotonic() >= self._unable_until

    def note_unable(self) -> None:
        """Something could not be written."""
        self._unable_until = monotonic() + _UNABLE_SECONDS

    def claim(self, size: int) -> tuple[int, str]:
        """A file to be written, of about ``size`` bytes: its descriptor and name."""
        wanted = free_class(size)
        free = self._free[wanted]
        if not free and monotonic() >= self._look_at[wanted]:
            free.extend(os.listdir(f"{self.root}/{FREE}/{wanted}"))  # noqa: PTH208 - names only
            if not free:
                self._look_at[wanted] = monotonic() + _LOOK_SECONDS
        while free:
            name = self._new_name()
            path = f"{self.root}/{name}"
            try:
                os.rename(f"{self.root}/{FREE}/{wanted}/{free.pop()}", path)  # noqa: PTH104
            except (FileNotFoundError, IndexError):
                continue  # another process has it, or another thread
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            if os.fstat(fd).st_nlink == 1:  # only now can nobody get another name for it
                return fd, name
            os.close(fd)
            os.unlink(path)  # noqa: PTH108
        name = self._new_name()
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        return os.open(f"{self.root}/{name}", flags, 0o600), name

    # ------------------------------------------------------------ having

    def take(self, blob: Blob, kind: str = "") -> Payload:
        """The same file under a name of our own, or its bytes where that cannot be.

        If it is gone: a blob that cannot be opened.
        """
        name = self._new_name(kind)
        try:
            os.link(f"{self.root}/{blob.name}", f"{self.root}/{name}")
        except OSError:
            return self.read(blob)
        return Blob(name, blob.size)

    def secure(self, blob: Blob, kind: str = "") -> Payload:
        """What ``take`` says, held."""
        taken = self.take(blob, kind)
        if isinstance(taken, Blob) and taken.name.startswith(self.own):
            held = self.hold(taken.name, blob.size)
            self._secured.add(held)
            return held
        return taken

    def read(self, blob: Blob) -> Payload:
        """The bytes of a blob; one that is damaged stays a blob, which cannot be opened."""
        path = f"{self.root}/{blob.name}"
        with contextlib.suppress(OSError), open(path, "rb", buffering=0) as file:  # noqa: PTH123
            data = file.read(blob.size)
            if data is not None and len(data) == blob.size:
                return data
        return Blob(path, blob.size)

    def hold(self, name: str, size: int) -> Held:
        """A file that has a name of ours."""
        held = Held(name, size)
        held.__dict__["blobs"] = self
        return held

    def release(self, name: str) -> None:
        """Let go of a name; a file without another is free. From any thread, and finalizers."""
        if os.getpid() != self._pid:
            return  # a copy in a process that was forked from the owner
        path = f"{self.root}/{name}"
        with contextlib.suppress(FileNotFoundError):
            found = os.stat(path)  # noqa: PTH116
            if found.st_nlink > 1 or found.st_size < BLOB_BYTES:
                os.unlink(path)  # noqa: PTH108
                return
            size_class = free_class(found.st_size)
            file = f"{self.own.rpartition('/')[2]}.{name.rpartition('/')[2]}"
            os.rename(path, f"{self.root}/{FREE}/{size_class}/{file}")  # noqa: PTH104

    def detach(self) -> None:
        """What was secured stays readable even if the folder is removed; for the same thread."""
        for held in list(self._secured):
            held.detach()

    def _new_name(self, kind: str = "") -> str:
        return f"{self.own}/{kind}{self._prefix}{next(self._numbers)}"


def _leave(folder: str, lock: int, pid: int) -> None:
    """Nothing is held any more: remove the folder, unless something was left in it."""
    if os.getpid() == pid:
        with contextlib.suppress(OSError):
            os.unlink(f"{folder}/{LOCK_NAME}")  # noqa: PTH108
            os.rmdir(folder)  # noqa: PTH106
    os.close(lock)
