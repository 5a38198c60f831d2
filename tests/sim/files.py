"""The coordinator's blob folder, and the checks on it.

A simulated blob has its content in its name, behind the name proper, so only what becomes of the
names is kept here: each is there until it is released, once, or cleaned up at a start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from farm.core.blobs import live_blobs
from farm.model import BLOB_BYTES, Blob
from farm.protocol.codec import entries_of
from farm.protocol.records import Arguments, Buried, Finished, Submitted, decode_record
from farm.store.blob_files import BlobFiles
from tests.sim.truth import Violation
from tests.sim.work import content

if TYPE_CHECKING:
    from typing import Any

    from farm.core import Core
    from farm.model import Payload
    from farm.protocol.records import Record
    from tests.sim.journal import Disk
    from tests.sim.truth import Book, Id, Truth
    from tests.sim.world import World

__all__ = ["Files"]

SHARE = 0.5
"""Of the payloads of a peer that sees the folder so many are blobs."""


class Files:
    """What is in the folder, from one coordinator to the next."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.there: set[str] = set()
        self.released: set[str] = set()
        self._made = 0

    def _name(self, kind: str, data: bytes) -> str:
        self._made += 1
        return f"{kind}/{self._made}/{data.decode()}"

    # ------------------------------------------------------------ messages

    def write(self, data: bytes, *, shares: bool) -> Payload:
        """A peer's payload, now and then as a blob."""
        if not shares or self.world.chance.random() > SHARE:
            return data
        return Blob(self._name("peer", data), BLOB_BYTES + len(data))

    def adopt(self, message: Any) -> None:
        """A message arrived: the coordinator has names of its own for what it names."""
        for entry in self._entries_of(message):
            entry.payloads = [
                self._kept(one) if isinstance(one, Blob) else one for one in entry.payloads
            ]

    def _entries_of(self, message: Any) -> list[Any]:
        """What in a message may name blobs, if there are any in this world."""
        return list(entries_of(message)) if self.world.plan.blobs else []

    def _kept(self, blob: Blob) -> Blob:
        self.world.stats["blobs"] += 1
        name = self._name("kept", content(blob))
        self.there.add(name)
        return Blob(name, blob.size)

    def inline(self, message: Any) -> Any:
        """The message for a peer that does not see the folder."""
        found = self._entries_of(message)
        if not any(isinstance(one, Blob) for entry in found for one in entry.payloads):
            return message
        for at, entry in enumerate(found):
            payloads = [content(one) for one in entry.payloads]
            size = sum(map(len, payloads))
            found[at] = msgspec.structs.replace(entry, payloads=payloads, size=size)
        field = "grants" if type(message).__name__ == "Assign" else "entries"
        return msgspec.structs.replace(message, **{field: found})

    def secure(self, message: Any) -> None:
        """A peer that is connected hears of blobs: they must be there."""
        for entry in self._entries_of(message):
            for one in entry.payloads:
                if isinstance(one, Blob):
                    self.require(one.name)

    def require(self, name: str) -> None:
        if name in self.released:
            raise Violation("blob released early", f"{name} is still needed")

    # ------------------------------------------------------------ the journal

    def release(self, names: tuple[str, ...]) -> None:
        """What was written before this is committed."""
        for name in names:
            if name not in self.there:
                raise Violation("blob released twice", name)
            self.there.remove(name)
            self.released.add(name)
            self._not_needed(name, "blob released early")

    def copied(self, disk: Disk) -> set[str]:
        """What a backup has of the folder: what the records that are committed need."""
        files = BlobFiles()
        for ref, data in disk.records.items():
            files.add(ref, decode_record(data))
        needed = {f"kept/{name}" for name in files.needed(disk.records)}
        for name in sorted(needed - self.there):
            raise Violation("blob released early", f"{name} cannot be copied")
        return needed

    def restored(self, copied: set[str]) -> None:
        """The folder is that of a backup."""
        self.there = set(copied)
        self.released -= copied

    def started(self, machine: Core) -> None:
        """A coordinator has loaded its journal, and removes what that does not name."""
        live = live_blobs(machine.ledger, machine.dead)
        for name in sorted(live):
            if name not in self.there:
                raise Violation("blob lost", f"{name} is gone and still needed")
        for name in sorted(self.there - live.keys()):
            self._not_needed(name, "blob lost")
        self.there.intersection_update(live)

    def _not_needed(self, name: str, check: str) -> None:
        for ref, record in self.world.truth.committed.records.items():
            if _needs(ref, record, name, self.world.truth):
                raise Violation(check, f"{name} is named by {record}")


def _needs(ref: int, record: Record, name: str, truth: Truth) -> bool:
    """Whether somebody would look for a blob because of this record."""
    match record:
        case Finished():
            return any(
                _is_wanted(ref, (entry.session, counter), truth.committed)
                for entry in record.entries
                if _names(entry.payloads, name)
                for i, counter in enumerate(range(entry.first, entry.first + entry.count))
                if entry.packed or _names(entry.payloads[i : i + 1], name)
            )
        case Submitted():
            return any(
                truth.committed[record.session, counter].outcome is None
                for group in record.groups
                if _names(group.payloads, name)
                for i, counter in enumerate(range(group.first, group.first + group.count))
                if group.packed or _names(group.payloads[i : i + 1], name)
            )
        case Buried() | Arguments():
            return _names(record.group.payloads, name)
    return False


def _is_wanted(ref: int, task: Id, book: Book) -> bool:
    """Whether an outcome is that of a task that is there, or of one that ends as that did."""
    if book[task].submitted:
        return True
    alike = (book[one] for one in book.duplicates.get(task, ()))
    return any(one.submitted and ref in one.finished for one in alike)


def _names(payloads: list[Payload], name: str) -> bool:
    return any(isinstance(one, Blob) and one.name == name for one in payloads)
