"""What the core asks of the world."""

from collections.abc import Hashable, Sequence
from typing import Protocol

from farm.identity import Identity
from farm.model import Blob, Payload
from farm.protocol.messages import ToClient, ToHost
from farm.protocol.records import Record

__all__ = ["Peer", "Port"]

Peer = Hashable
"""One connection, as the shell names it; never reused."""


class Port(Protocol):
    """The outputs of the core.

    ``persist``, ``prune``, ``keep_function``, ``drop_functions`` and ``release`` form one ordered
    sequence of changes: they are committed in that order, in groups, and ``Core.on_committed`` is
    told the greatest ``ref`` that is durable. A store in memory has each of them on return.
    """

    def send(self, peer: Peer, message: ToClient | ToHost) -> None:
        """Send to a connection; if it is gone, nothing happens but ``Core.on_closed`` later."""

    def close(self, peer: Peer) -> None:
        """Close a connection after what was sent."""

    def identity(self, peer: Peer) -> Identity:
        """Who is at the other end of a connection; the same for as long as it lasts."""

    def persist(self, ref: int, record: Record) -> None:
        """Append a record to the journal."""

    def prune(self, refs: Sequence[int]) -> None:
        """Delete records from the journal."""

    def keep_function(self, digest: bytes, name: str, data: bytes) -> None:
        """Store a function's bytes."""

    def drop_functions(self, digests: Sequence[bytes]) -> None:
        """Delete functions that no task uses any more."""

    def release(self, blobs: Sequence[str]) -> None:
        """These blobs are needed no more, once the changes before this are committed."""

    def read(self, blob: Blob) -> Payload:
        """The bytes of a blob that the core needs; the blob where they are lost."""

    def load(self, ref: int) -> None:
        """Read a committed record back; answered by ``Core.on_loaded``."""

    def fetch(self, ref: int) -> Record | None:
        """A committed record at once, while everybody waits; None if the store has it no more."""

    def counters(self) -> dict[str, int | float]:
        """What the process counts about itself, for ``farm status``."""

    def warn(self, text: str) -> None:
        """Something that people should know; may be said often, and is logged once in a while."""

    def stop(self, reason: str, epoch: int = 0) -> None:
        """This coordinator must not serve; the process says why and ends.

        The next one on this store must begin above ``epoch``.
        """
