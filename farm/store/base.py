"""What a store is: an append-only journal of records and a table of functions.

Promises of every store: a commit is all or nothing, and durable when it returns (unless the store
says that it is not); the commit number never falls, whatever is deleted; no epoch is ever given
out twice; a refusal to open touches nothing.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from farm.errors import StoreError
from farm.protocol.records import Record

__all__ = [
    "Append",
    "Change",
    "Delete",
    "DropFunctions",
    "Opened",
    "PutFunction",
    "Store",
    "StoreFailed",
    "StoreFull",
    "StoreStalled",
]


class StoreStalled(StoreError):
    """The store takes nothing just now: a full disk, another program's lock.

    Nothing was committed and nothing is damaged; the same changes can be committed later.
    """


class StoreFull(StoreStalled):
    """There is no disk space left for what was to be committed."""


class StoreFailed(StoreError):
    """The store cannot go on: a failed fsync or write, a record that cannot be read back.

    What the disk now holds is not known, so trying again would promise too much: the process has
    to end, and recovery begins from what is really there.
    """


class Append(NamedTuple):
    """A record joins the journal; ``ref`` is greater than every one before it."""

    ref: int
    record: Record


class Delete(NamedTuple):
    """Records leave the journal; a ref that is not there is ignored."""

    refs: Sequence[int]


class PutFunction(NamedTuple):
    """A function's bytes are kept under their hash; known ones stay as they are."""

    hash: bytes
    name: str
    data: bytes


class DropFunctions(NamedTuple):
    """Functions that nothing names any more; an unknown hash is ignored."""

    hashes: Sequence[bytes]


Change = Append | Delete | PutFunction | DropFunctions


class Opened(NamedTuple):
    """An open store: the epoch just committed, the store's id, its commit number."""

    epoch: int
    store_id: bytes
    commit: int


class Store(Protocol):
    """A journal of records, a table of functions, and the numbers that survive both.

    ``commit`` is called by one thread at a time, ``maintain`` by one other; ``read`` by any.
    """

    @property
    def durable(self) -> bool:
        """Whether what is committed outlives the process."""

    @property
    def short(self) -> str:
        """Why the store should get no new work, although it commits; empty if all is well."""

    @property
    def wants_maintenance(self) -> bool:
        """Whether enough has been written or freed for ``maintain`` to be worth its while."""

    def open(self, epoch_floor: int, wall_ms: int) -> Opened:
        """Take the lock, check what is there, commit a new epoch.

        The epoch is the greatest of the stored one plus one, ``epoch_floor`` and ``wall_ms``
        (milliseconds since 1970). Raises ``StoreLocked`` or ``StoreUnreadable``, or another
        ``StoreError`` for a place that no store can be kept in.
        """

    def note_epoch(self, epoch: int) -> None:
        """An epoch that was used elsewhere: the next one that this store gives is above it."""

    def functions(self) -> Iterator[tuple[bytes, str, bytes]]:
        """Every function kept: hash, name, data."""

    def records(self, *, light: bool = False) -> Iterator[tuple[int, Record]]:
        """Every record with its ref, in order; raises ``StoreUnreadable`` for a damaged one.

        ``light``: of tasks that start much later it need not have the arguments, but what stands
        for them.
        """

    def read(self, ref: int) -> Record | None:
        """One committed record, or None if it was deleted; from any thread."""

    def commit(self, changes: Sequence[Change]) -> None:
        """Make all changes, in order, in one transaction; durable on return.

        The commit number becomes the greatest ref ever appended. Raises ``StoreStalled`` if
        the same call may succeed later, ``StoreFailed`` if none ever will.
        """

    def maintain(self) -> None:
        """Give space back and keep later commits fast; errors as in ``commit``."""

    def close(self) -> None:
        """Give up the lock; idempotent."""
