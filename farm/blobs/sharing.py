"""A peer's part in a blob folder, and messages for those who have none."""

from collections.abc import Callable
from typing import TypeVar

import msgspec

from farm.blobs.folder import Blobs, Held
from farm.model import BLOB_BYTES, Blob, Payload
from farm.protocol.codec import entries_of
from farm.protocol.messages import Results, Shares

__all__ = ["Sharing", "inlined"]

M = TypeVar("M")


class Sharing:
    """A peer's part in the blob folder of the coordinator that it is connected to.

    ``blobs`` is None where it has none. What was written in the folder of an earlier coordinator is
    sent as bytes.
    """

    def __init__(self) -> None:
        self.blobs: Blobs | None = None
        self._known = ("", b"")

    def welcome(self, root: str, token: bytes) -> Shares | None:
        """A coordinator names its folder; what to tell it, if this process sees that."""
        if self.blobs is None or self._known != (root, token):
            self._known = root, token
            self.blobs = Blobs.join(root, token)
        return None if self.blobs is None else Shares(self.blobs.own)

    def keep(self, payload: bytes) -> Payload:
        """A payload as it is sent: in a file if it is large."""
        return payload if self.blobs is None else self.blobs.keep(payload)

    def outgoing(self, message: M) -> M:
        """The message as the coordinator can read it."""
        return inlined(message, self._sent)

    def _sent(self, blob: Blob) -> Payload:
        held = blob.blobs if isinstance(blob, Held) else None
        return blob if held is None or held is self.blobs else held.read(blob)

    def secure(self, message: Results) -> None:
        """Have names of our own for the blobs of results."""
        for entry in message.entries:
            if entry.size >= BLOB_BYTES and self.blobs is not None:
                entry.payloads = [
                    self.blobs.secure(one) if isinstance(one, Blob) else one
                    for one in entry.payloads
                ]


def inlined(message: M, read: Callable[[Blob], Payload]) -> M:
    """The message with what ``read`` says in the place of its blobs; the same if it has none."""
    for entry in entries_of(message):
        if entry.size >= BLOB_BYTES:
            break
    else:
        return message
    entries = list(entries_of(message))
    changed = False
    for at, entry in enumerate(entries):
        payloads = [read(one) if isinstance(one, Blob) else one for one in entry.payloads]
        if any(a is not b for a, b in zip(payloads, entry.payloads, strict=True)):
            # The coordinator's journal may be writing the entry itself.
            entries[at] = msgspec.structs.replace(entry, payloads=payloads)
            changed = True
    if not changed:
        return message
    return msgspec.structs.replace(message, **{_ENTRIES[type(message).__name__]: entries})  # type: ignore[type-var]


_ENTRIES = {"Submit": "groups", "Assign": "grants", "Report": "ended", "Results": "entries"}
