"""What must hold of the parts of messages and records that carry payloads."""

from collections.abc import Iterable

import msgspec

from farm.errors import ProtocolError
from farm.protocol.parts import COUNTER_MAX, ITEMS_PER_TASK_MAX, Ended, Grant, Group, Result

__all__ = ["MALFORMED", "Entry", "check_entries"]

Entry = Group | Grant | Ended | Result

MALFORMED = (msgspec.MsgspecError, ValueError, OverflowError, RecursionError, MemoryError)
"""What decoding may raise. ``ValueError``: text that is no UTF-8. ``MemoryError``: a list that
claims billions of entries. ``RecursionError``: thousands of lists in lists."""


def check_entries(entries: Iterable[Entry]) -> None:
    """Refuse entries whose counts contradict their payloads, before anything relies on them."""
    for entry in entries:
        if entry.first < 0 or entry.count < 1:
            raise ProtocolError(f"an entry names {entry.count} tasks from {entry.first}")
        start = entry.start if isinstance(entry, (Group, Grant)) else 0
        if max(entry.first, start) + entry.count > COUNTER_MAX:  # parts of it could not be named
            raise ProtocolError(f"an entry of {entry.count} tasks ends beyond {COUNTER_MAX}")
        if entry.packed and entry.count > ITEMS_PER_TASK_MAX:
            raise ProtocolError(
                f"a packed task of {entry.count} items; {ITEMS_PER_TASK_MAX} can be"
            )
        if isinstance(entry, Group) and entry.keys:
            _check_keys(entry)
        payloads = len(entry.payloads)
        if payloads != (1 if entry.packed else entry.count) and (
            payloads or isinstance(entry, (Group, Grant)) or entry.ending <= 1
        ):
            raise ProtocolError(f"an entry of {entry.count} tasks has {payloads} payloads")
        if sum(map(len, entry.payloads)) != entry.size:
            raise ProtocolError("an entry's size is not the sum of its payloads")


def _check_keys(group: Group) -> None:
    if group.packed:
        raise ProtocolError("a packed task has keys; its items cannot have any")
    if len(group.keys) != group.count:
        raise ProtocolError(f"an entry of {group.count} tasks has {len(group.keys)} keys")
    if any(key.unique == bool(key.body) for key in group.keys):
        raise ProtocolError("a key is neither unique nor an idempotency key with a body")
