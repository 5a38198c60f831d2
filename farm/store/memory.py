"""A store that is gone with the process, for farms without a directory.

Promises: the behaviour of every other store, at the cost of a dictionary entry a record. Records
are kept as they are, not copied, so they must not be changed once they are appended.
"""

import os
from collections.abc import Iterator, Sequence

from farm.protocol.records import Record
from farm.store.base import Append, Change, Delete, Opened, PutFunction

__all__ = ["MemoryStore"]


class MemoryStore:
    """Records and functions in dictionaries; never full, never locked."""

    durable = False
    short = ""
    wants_maintenance = False

    def __init__(self) -> None:
        self._store_id = os.urandom(16)
        self._epoch = 0
        self._commit = 0
        # Bounded by what the core admits: it deletes what is finished and delivered.
        self._records: dict[int, Record] = {}
        self._functions: dict[bytes, tuple[str, bytes]] = {}

    def open(self, epoch_floor: int, wall_ms: int) -> Opened:
        """Begin an epoch; see ``Store.open``."""
        self._epoch = max(self._epoch + 1, epoch_floor, wall_ms)
        return Opened(self._epoch, self._store_id, self._commit)

    def note_epoch(self, epoch: int) -> None:
        """The next epoch is above this one."""
        self._epoch = max(self._epoch, epoch)

    def functions(self) -> Iterator[tuple[bytes, str, bytes]]:
        """Every function kept: hash, name, data."""
        for key, (name, data) in list(self._functions.items()):
            yield key, name, data

    def records(self, *, light: bool = False) -> Iterator[tuple[int, Record]]:
        """Every record with its ref, in order; ``light`` makes no difference."""
        yield from list(self._records.items())

    def read(self, ref: int) -> Record | None:
        """One record, or None if it was deleted."""
        return self._records.get(ref)

    def commit(self, changes: Sequence[Change]) -> None:
        """Make all changes, in order."""
        for change in changes:
            if isinstance(change, Append):
                self._records[change.ref] = change.record
                self._commit = max(self._commit, change.ref)
            elif isinstance(change, Delete):
                for ref in change.refs:
                    self._records.pop(ref, None)
            elif isinstance(change, PutFunction):
                self._functions.setdefault(change.hash, (change.name, change.data))
            else:
                for key in change.hashes:
                    self._functions.pop(key, None)

    def maintain(self) -> None:
        """Nothing to do: memory is given back by deleting."""

    def close(self) -> None:
        """Nothing to give up; what was committed can be opened again in this process."""
