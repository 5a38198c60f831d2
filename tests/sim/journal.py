"""The coordinator's store and journal thread: a disk that survives, and commits that take time.

Changes commit in order and in groups. A crash loses what was not committed; the group that was
being written may or may not be on the disk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from farm.protocol.records import Record, decode_record, encode_record

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tests.sim.checks import Checks
    from tests.sim.clock import Clock, Event

__all__ = [
    "Append",
    "Change",
    "Delete",
    "Disk",
    "DropFunctions",
    "Journal",
    "PutFunction",
    "Release",
]


class Append(NamedTuple):
    """A record, with its bytes as they were when the coordinator handed it over."""

    ref: int
    record: Record
    data: bytes


class Delete(NamedTuple):
    refs: tuple[int, ...]


class PutFunction(NamedTuple):
    hash: bytes
    name: str
    data: bytes


class DropFunctions(NamedTuple):
    hashes: tuple[bytes, ...]


class Release(NamedTuple):
    blobs: tuple[str, ...]


Change = Append | Delete | PutFunction | DropFunctions | Release


class Disk:
    """What is committed."""

    def __init__(self, store: bytes, *, durable: bool) -> None:
        self.store = store
        self.durable = durable
        self.epoch = 0
        self.commit = 0
        self.records: dict[int, bytes] = {}
        self.functions: dict[bytes, tuple[str, bytes]] = {}

    def copy(self) -> Disk:
        """A backup."""
        made = Disk(self.store, durable=self.durable)
        made.epoch, made.commit = self.epoch, self.commit
        made.records, made.functions = dict(self.records), dict(self.functions)
        return made

    def open(self, wall_ms: int) -> int:
        """Commit and return a new epoch."""
        self.epoch = max(self.epoch + 1, wall_ms)
        return self.epoch

    def apply(self, changes: list[Change]) -> None:
        for change in changes:
            match change:
                case Append(ref, _, data):
                    self.records[ref] = data
                    self.commit = max(self.commit, ref)
                case Delete(refs):
                    for ref in refs:
                        self.records.pop(ref, None)
                case PutFunction(key, name, data):
                    self.functions[key] = (name, data)
                case DropFunctions(hashes):
                    for key in hashes:
                        self.functions.pop(key, None)


class Journal:
    """The journal thread of one coordinator process."""

    def __init__(
        self,
        disk: Disk,
        clock: Clock,
        chance: Random,
        checks: Checks,
        committed: Callable[[int], None],
    ) -> None:
        self.disk = disk
        self.clock = clock
        self.chance = chance
        self.checks = checks
        self.committed = committed
        self.commit_seconds = 0.004
        self.stalled_until = 0.0  # no room on the disk
        self.waiting: list[Change] = []
        self.writing: list[Change] = []
        self._event: Event | None = None

    @property
    def idle(self) -> bool:
        return not self.waiting and not self.writing

    def append(self, ref: int, record: Record) -> None:
        self._add(Append(ref, record, encode_record(record)))

    def _add(self, change: Change) -> None:
        if not self.disk.durable:
            self._apply([change])
            return
        self.waiting.append(change)
        if self._event is None:
            self._event = self.clock.after(0.0, self._write)

    def delete(self, refs: list[int]) -> None:
        self._add(Delete(tuple(refs)))

    def put_function(self, key: bytes, name: str, data: bytes) -> None:
        self._add(PutFunction(key, name, data))

    def drop_functions(self, hashes: list[bytes]) -> None:
        self._add(DropFunctions(tuple(hashes)))

    def release(self, blobs: list[str]) -> None:
        self._add(Release(tuple(blobs)))

    def read(self, ref: int) -> Record | None:
        data = self.disk.records.get(ref)
        return None if data is None else decode_record(data)

    def _write(self) -> None:
        if self.clock.now < self.stalled_until:
            self._event = self.clock.at(self.stalled_until, self._write)
            return
        self.writing, self.waiting = self.waiting, []
        delay = self.chance.expovariate(1.0 / self.commit_seconds)
        self._event = self.clock.after(delay, self._written)

    def _written(self) -> None:
        changes, self.writing = self.writing, []
        self._event = self.clock.after(0.0, self._write) if self.waiting else None
        self._apply(changes)
        refs = [change.ref for change in changes if isinstance(change, Append)]
        if refs:
            self.committed(refs[-1])

    def _apply(self, changes: list[Change]) -> None:
        self.checks.committing(changes)
        self.disk.apply(changes)

    def crash(self) -> None:
        """The process is gone; the group under way is on the disk or not, by chance."""
        if self._event:
            self._event.cancel()
        if self.writing and self.chance.random() < 0.5:
            self._apply(self.writing)
        self.waiting = []
        self.writing = []

    def close(self) -> None:
        """The process ends as it should: everything is written first."""
        if self._event:
            self._event.cancel()
        changes = [*self.writing, *self.waiting]
        self.waiting = []
        self.writing = []
        if changes:
            self._apply(changes)
