"""Payloads whose bytes are in the store alone: what stands for them meanwhile, and their return."""

from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from farm.model import BLOB_BYTES, Blob, Payload

if TYPE_CHECKING:
    from farm.core.batch import Batch
    from farm.protocol.parts import Ended, Group

__all__ = [
    "Held",
    "Stored",
    "fill",
    "inline_bytes",
    "inline_size",
    "is_stored",
    "stand_in",
    "stored",
]

SIZES_MAX = 4096


class Stored:
    """Stands for a payload of this many bytes; no message can carry it."""

    __slots__ = ("size",)

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size


Held = Payload | Stored
"""A payload as a batch has it."""


@lru_cache(SIZES_MAX)  # payloads of one size share what stands for them
def stand_in(size: int) -> Any:
    """What stands for a payload of this size."""
    return Stored(size)


def stored(payloads: Iterable[Held]) -> list[Any]:
    """The same without bytes. Blobs have none here, and stay."""
    return [one if not one or isinstance(one, Blob) else stand_in(len(one)) for one in payloads]


def is_stored(payloads: Iterable[Held]) -> bool:
    """Whether their bytes are in the store alone; they all are, or none."""
    first = next((one for one in payloads if one and not isinstance(one, Blob)), b"")
    return isinstance(first, Stored)


def inline_bytes(payloads: Iterable[Held]) -> int:
    """How many bytes of payloads are not in files."""
    return sum(len(one) for one in payloads if not isinstance(one, Blob))


def inline_size(one: "Batch | Group | Ended") -> int:
    """The same of tasks or outcomes; only payloads that are large enough can be in files."""
    return one.size if one.size < BLOB_BYTES else inline_bytes(one.payloads)


def fill(batch: "Batch", group: "Group") -> None:
    """Put the bytes that a stored group has back into a batch, where they are missing."""
    lo, hi = max(batch.first, group.first), min(batch.stop, group.first + group.count)
    if lo >= hi:
        return
    kept, found = batch.payloads, group.payloads
    if batch.packed:
        if isinstance(kept[0], Stored):
            kept[0] = found[0]
        return
    for index, payload in zip(
        range(lo - batch.first, hi - batch.first),
        found[lo - group.first : hi - group.first],
        strict=True,
    ):
        if isinstance(kept[index], Stored):
            kept[index] = payload
