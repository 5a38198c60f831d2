"""What one turn of the loop has for the journal, and how long it may wait for company.

A commit costs a sync of the disk, whatever it holds. So what nobody waits for, such as deliveries,
waits a little to travel with what somebody does.
"""

from collections.abc import Sequence
from math import inf
from typing import NamedTuple

from farm.protocol.records import Delivered, Finished, Record, SessionMark, Submitted
from farm.store import Append, Delete, DropFunctions, PutFunction
from farm.store.base import Change

__all__ = ["PATIENCE_SECONDS", "PATIENCE_SECONDS_MAX", "Gathering", "Release"]


class Release(NamedTuple):
    """Blobs that are needed no more once the changes before this are committed."""

    blobs: Sequence[str]


PATIENCE_SECONDS = 0.002
"""How long a submission waits for others. A task that ends within this time costs one commit with
it, not two, and its outcome does not wait for the commit of its submission."""
PATIENCE_SECONDS_MAX = 0.02
"""Submissions wait as long as a commit usually takes, up to this: an outcome that comes a little
later would wait for that commit, and then for its own."""
IDLE_PATIENCE_SECONDS = 0.05
_PATIENCE: dict[type, float] = {
    Submitted: PATIENCE_SECONDS,
    PutFunction: PATIENCE_SECONDS,
    Delivered: IDLE_PATIENCE_SECONDS,
    SessionMark: IDLE_PATIENCE_SECONDS,
    Delete: IDLE_PATIENCE_SECONDS,
    DropFunctions: IDLE_PATIENCE_SECONDS,
    Release: IDLE_PATIENCE_SECONDS,
}
"""How long a change may wait for others; everything else, such as an outcome, may not."""
PATIENT_BYTES = 1 << 16
"""With more payload than this nothing waits: there is enough for a commit of its own."""
LITTLE_ROWS = 8
FOREVER = inf


def _payload_bytes(record: Record) -> int:
    if isinstance(record, Submitted):
        return sum([group.size for group in record.groups])
    if isinstance(record, Finished):
        return sum([result.size for result in record.entries])
    return 0


class Gathering:
    """Changes in the order of adding; bounded by what one turn drains from the sockets."""

    def __init__(self) -> None:
        self.changes: list[Change | Release] = []
        self.size = 0
        """Payload bytes."""
        self._only_added = True
        self.due = FOREVER
        """When they are to be committed at the latest, monotonic seconds."""
        self._patience = FOREVER

    def add(self, change: Change | Release, usual_seconds: float) -> int:
        """One more, where a commit usually takes so long; returns its payload bytes."""
        kind: type = type(change)
        size = 0
        if isinstance(change, Append):
            kind, size = type(change.record), _payload_bytes(change.record)
        elif isinstance(change, PutFunction):
            size = len(change.data)
        else:
            self._only_added = False
        if patience := _PATIENCE.get(kind, 0.0):
            patience = max(patience, min(usual_seconds, PATIENCE_SECONDS_MAX))
        self._patience = min(self._patience, patience)
        self.changes.append(change)
        self.size += size
        return size

    @property
    def little(self) -> bool:
        """Whether it is but a few small rows to add, with nothing to look for and delete."""
        return self._only_added and self.size < PATIENT_BYTES and len(self.changes) <= LITTLE_ROWS

    def may_wait(self, now: float) -> bool:
        """Whether all of them may wait, until ``due``."""
        if self.size >= PATIENT_BYTES:
            return False
        self.due = min(self.due, now + self._patience)
        return now < self.due
