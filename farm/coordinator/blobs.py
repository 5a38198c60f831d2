"""The coordinator's side of its blob folder: taking, keeping, syncing, letting go, cleaning up.

Promises: whatever a record names is on the disk before the record is, under a name that lives until
the record is gone. A file by that name that somebody removed costs the one task that needs it.
"""

import contextlib
import errno
import fcntl
import logging
import os
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from farm.blobs import Blobs, inlined
from farm.blobs.layout import (
    DURABLE_NAME,
    FREE,
    FREE_CLASSES,
    KEPT,
    LOCK_NAME,
    NEW,
    PEERS,
    TOKEN_NAME,
    identity,
    is_own,
)
from farm.model import BLOB_BYTES, Blob, Payload
from farm.protocol.codec import entries_of
from farm.protocol.messages import Assign, ClientWelcome, HostWelcome, Message, Results
from farm.protocol.parts import Group, Result
from farm.protocol.records import Arguments, Buried, Finished, Record, Submitted
from farm.ranges import RangeSet
from farm.store import StoreFailed

__all__ = ["BlobFolder", "temporary_folder"]

logger = logging.getLogger("farm.coordinator")

SYNC_THREADS = 4
"""Of files synced one after the other, each waits for a commit of the file system of its own."""
FREE_BYTES_MAX = 256 << 20
"""Files that wait to be written again have at most about this much."""
TRIM_BYTES = 64 << 20
"""So much is let go before they are counted."""
SWEEP_SECONDS = 30.0
GONE_SECONDS = 1.0
"""How long after the end of a connection it is looked whether its process has ended."""
NEW_SECONDS = 60.0
"""Who has not finished to make its folder in this time never will."""
TEMPORARY = "farm-blobs-"

E = TypeVar("E", Group, Result)

_sync = getattr(os, "fdatasync", os.fsync)


class BlobFolder:
    """One coordinator's folder. ``sync`` and ``release`` are for the journal's thread only."""

    def __init__(self, root: Path, epoch: int) -> None:
        self.root = root
        self.token = b""
        self._blobs = Blobs(str(root), KEPT, f"{epoch:x}.")
        self._folder = -1
        self._syncers = ThreadPoolExecutor(SYNC_THREADS, "farm-blobs")
        # By name; of records that were appended and are not committed.
        self._syncing: dict[str, Future[None]] = {}
        self._released = 0  # bytes, since free files were counted
        self._sweep_at = 0.0

    @classmethod
    def open(cls, root: Path, epoch: int, *, durable: bool = True) -> "BlobFolder | None":
        """Make the folder, or use it again; None where there can be none."""
        made = cls(root, epoch)
        try:
            made._make(durable=durable)
        except OSError as error:
            logger.warning("large payloads are copied, for %s cannot be used: %s", root, error)
            return None
        return made

    def _make(self, *, durable: bool) -> None:
        self.root.mkdir(mode=0o700, exist_ok=True)
        for name in (KEPT, PEERS, *(f"{FREE}/{c}" for c in FREE_CLASSES)):
            (self.root / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.root / DURABLE_NAME).unlink(missing_ok=True)
        if durable:
            (self.root / DURABLE_NAME).touch(mode=0o600)
        token = self.root / TOKEN_NAME
        with contextlib.suppress(OSError, ValueError, IndexError):  # a crash may have emptied it
            self.token = bytes.fromhex(token.read_text("ascii").split()[0])
        self.token = self.token or os.urandom(16)
        fresh = self.root / f"{TOKEN_NAME}.new"
        fresh.write_bytes(identity(self.token))
        fresh.rename(token)
        probe = self.root / "probe"
        probe.unlink(missing_ok=True)
        probe.hardlink_to(token)
        probe.unlink()
        for folder in (self.root, self.root.parent):  # or a crash could undo their making
            _sync_folder(folder)
        self._folder = os.open(self.root / KEPT, os.O_RDONLY | os.O_CLOEXEC)

    def clean(self, live: Container[str]) -> None:
        """Let go of what no record names, after a crash."""
        for file in _files_in(self.root / KEPT):
            if (name := f"{KEPT}/{file.name}") not in live:
                self._blobs.release(name)
        self._trim()

    def close(self) -> None:
        """Stop using it; what is kept stays."""
        if self._folder >= 0:
            self._syncers.shutdown(cancel_futures=True)
            os.close(self._folder)
            self._folder = -1

    # ------------------------------------------------------------ messages

    def adopt(self, shares: str, message: Message) -> None:
        """Take the blobs of a message that arrived; ``shares`` is where its sender's lie."""
        for entry in entries_of(message):
            if entry.size >= BLOB_BYTES:
                entry.payloads = [
                    self._take(shares, one) if isinstance(one, Blob) else one
                    for one in entry.payloads
                ]

    def _take(self, shares: str, blob: Blob) -> Payload:
        """The blob under a name of ours; if it is not the sender's, there is nothing behind it."""
        return self._blobs.take(blob if is_own(blob.name, shares) else Blob("nobody's", blob.size))

    def outgoing(self, shares: str, message: Message) -> Message:
        """The message as a peer can read it."""
        if isinstance(message, (Assign, Results)):
            return message if shares else inlined(message, self._blobs.read)
        if isinstance(message, (ClientWelcome, HostWelcome)):
            message.blobs, message.blobs_token = str(self.root), self.token
        return message

    def read(self, blob: Blob) -> Payload:
        """The bytes of a blob; one that is damaged stays a blob."""
        return self._blobs.read(blob)

    # ------------------------------------------------------------ for the journal

    def begin_sync(self, records: Sequence[Record]) -> None:
        """Begin to write out the blobs that records need; ``sync`` will wait for it.

        They are committed together: nobody will read the arguments of a task whose outcome is among
        them. Several at a time: the file system then makes them durable together.
        """
        for name in _needed(records):
            self._syncing[name] = self._syncers.submit(self._sync, f"{self.root}/{name}")

    def sync(self, records: Iterable[Record]) -> None:
        """Make the blobs that records need durable; raises ``StoreFailed`` if the disk does not."""
        try:
            names = {name for record in records for _, _, name in _named(record)}
            begun = [self._syncing.pop(name) for name in names if name in self._syncing]
            for syncing in begun:
                syncing.result()
            if begun:
                os.fsync(self._folder)
        except OSError as error:
            # Nobody knows now what was written.
            raise StoreFailed(f"{self.root} could not be synced: {error}") from error

    def _sync(self, path: str) -> None:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return  # the task that needs it will say so
        try:
            _sync(fd)
        finally:
            os.close(fd)

    def release(self, names: Sequence[str]) -> None:
        """Let go of blobs that nothing needs any more."""
        for name in names:
            try:
                self._blobs.release(name)
            except OSError as error:
                if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                    logger.warning("the file %s of the blob folder stays: %s", name, error)
            self._released += BLOB_BYTES
        if self._released > TRIM_BYTES:
            self._trim()

    def give_up_free(self) -> None:
        """The disk is full: let it have the files that wait to be written again."""
        self._trim(0)

    def _trim(self, most: int = FREE_BYTES_MAX) -> None:
        self._released = total = 0
        for size_class in FREE_CLASSES:
            for file in _files_in(self.root / FREE / str(size_class)):
                with contextlib.suppress(FileNotFoundError):
                    total += file.stat().st_size
                    if total > most:
                        file.unlink()

    # ------------------------------------------------------------ peers that are gone

    def note_gone(self) -> None:
        """A connection ended: perhaps its process did, too."""
        self._sweep_at = min(self._sweep_at, time.monotonic() + GONE_SECONDS)

    def sweep(self, now: float) -> None:
        """Now and then: remove what peers that are gone have left."""
        if now < self._sweep_at:
            return
        self._sweep_at = now + SWEEP_SECONDS
        for folder in _files_in(self.root / PEERS):
            with contextlib.suppress(OSError):
                if _is_gone(folder):
                    # Not to be written again: a worker may outlive its host for a moment.
                    shutil.rmtree(folder)


def temporary_folder() -> tuple[Path, int]:
    """A folder for a farm without a disk, and the descriptor of its lock; removes what others left.

    A coordinator that was killed could not remove its own.
    """
    for folder in Path(tempfile.gettempdir()).glob(f"{TEMPORARY}*"):
        with contextlib.suppress(OSError):
            if _is_gone(folder):
                shutil.rmtree(folder)
    made = Path(tempfile.mkdtemp(prefix=TEMPORARY))
    lock = os.open(made / f"{LOCK_NAME}.new", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    (made / f"{LOCK_NAME}.new").rename(made / LOCK_NAME)
    return made, lock


def _is_gone(folder: Path) -> bool:
    """Whether the process that holds a folder's lock has ended."""
    if folder.name.startswith(NEW) or not (folder / LOCK_NAME).exists():
        return time.time() - folder.stat().st_mtime > NEW_SECONDS
    with (folder / LOCK_NAME).open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _files_in(folder: Path) -> list[Path]:
    """What is in a folder; nothing if somebody removed it."""
    with contextlib.suppress(FileNotFoundError):
        return list(folder.iterdir())
    return []


def _sync_folder(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _needed(records: Sequence[Record]) -> list[str]:
    """The blobs that must be durable before these records are, which are committed together."""
    over: defaultdict[bytes, RangeSet] = defaultdict(RangeSet)
    for record in records:
        if isinstance(record, Finished):
            for entry in record.entries:
                over[entry.session].add(entry.first, entry.first + entry.count)
    return [
        name
        for record in records
        for session, tasks, name in _named(record)
        if session is None or over[session].gaps(*tasks)
    ]


def _named(record: Record) -> Iterator[tuple[bytes | None, tuple[int, int], str]]:
    """The blobs that a record names; of arguments also of which tasks, that may have to be run."""
    match record:
        case Submitted(session=session, groups=entries):
            for entry, at, blob in _blobs_in(entries):
                first, count = (entry.first, entry.count) if entry.packed else (entry.first + at, 1)
                yield session, (first, first + count), blob.name
        case Finished(entries=entries):
            for _, _, blob in _blobs_in(entries):
                yield None, (0, 0), blob.name
        case Buried(group=group) | Arguments(group=group):
            for _, _, blob in _blobs_in([group]):
                yield None, (0, 0), blob.name


def _blobs_in(entries: Iterable[E]) -> Iterator[tuple[E, int, Blob]]:
    for entry in entries:
        if entry.size >= BLOB_BYTES:
            for at, one in enumerate(entry.payloads):
                if isinstance(one, Blob):
                    yield entry, at, one
