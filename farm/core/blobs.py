"""The blobs that the ledger needs: payloads in files, of which it knows the names only.

Whatever a message names belongs to the core from then on: to a batch until the outcomes of its
tasks are committed, to a dead task until that is forgotten, to an outcome until its record is
deleted, or to nobody. A batch and the dead of its tasks may need the same one. ``Port.release``
says when nobody needs it any more, once for each.
"""

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from farm.model import BLOB_BYTES, Blob, TaskId
from farm.protocol.parts import Ended, Grant, Group, Result

if TYPE_CHECKING:
    from farm.core.dead import DeadTasks
    from farm.core.ledger import Ledger
    from farm.core.port import Port

__all__ = ["blob_names", "live_blobs", "names_in", "whole"]


def names_in(payloads: Iterable[object]) -> list[str]:
    """The names of the blobs among payloads."""
    return [payload.name for payload in payloads if isinstance(payload, Blob)]


def blob_names(entries: Iterable[Group | Grant | Ended | Result]) -> set[str]:
    """The names of the blobs in parts of a message."""
    names: set[str] = set()
    for entry in entries:
        if entry.size >= BLOB_BYTES:  # else none of its payloads can be one
            names.update(names_in(entry.payloads))
    return names


def live_blobs(ledger: "Ledger", dead: "DeadTasks") -> Counter[str]:
    """Every blob that is needed, and by how many batches, outcomes and dead tasks."""
    live: Counter[str] = Counter(dead.blobs())
    for session in ledger.sessions.values():
        for batch in session.batches:
            if batch.size >= BLOB_BYTES:
                for name in names_in(batch.payloads):
                    live[name] += 1
            for outcome in batch.outcomes:
                for name in outcome.blobs:
                    live[name] += 1
    return live


def whole(port: "Port", group: Group, task: TaskId) -> Group:
    """A group with the bytes of its blobs, for somebody who may not see the files."""
    payloads = [port.read(one) if isinstance(one, Blob) else one for one in group.payloads]
    if lost := names_in(payloads):
        raise ValueError(f"the arguments of task {task} are lost: there is no file {lost[0]}")
    return msgspec.structs.replace(group, payloads=payloads)
