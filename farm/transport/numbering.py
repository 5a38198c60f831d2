"""One connection as one side of it sees it: codec and message numbers in both directions.

ZeroMQ drops a message above the size limit in silence. Therefore each direction counts its
messages from 0, and a gap is an error: the connection has to be opened again.
"""

from collections.abc import Sequence
from typing import Generic, TypeVar

from farm.errors import ProtocolError
from farm.protocol.codec import Decoder, encode
from farm.protocol.messages import MESSAGE_BYTES_MAX, Message

__all__ = ["Gap", "Numbering"]

M = TypeVar("M")


class Gap(ProtocolError):
    """A message is not the next of its connection."""


class Numbering(Generic[M]):
    """Frames for messages that leave and messages for frames that arrive, in order."""

    __slots__ = ("_decoder", "received", "sent")

    def __init__(self, decoder: Decoder[M]) -> None:
        self._decoder = decoder
        self.sent = 0
        self.received = 0

    def pack(self, message: Message) -> list[bytes]:
        """The frames of the next message to send; raises ``ProtocolError`` if it is too large."""
        frames = encode(self.sent, message)
        size = len(frames[0]) if len(frames) == 1 else sum(map(len, frames))
        if size > MESSAGE_BYTES_MAX:
            raise ProtocolError(
                f"a {type(message).__name__} of {size:,} bytes cannot be sent; "
                f"the limit is {MESSAGE_BYTES_MAX:,}"
            )
        self.sent += 1
        return frames

    def unpack(self, frames: Sequence[bytes]) -> M:
        """The message that arrived; raises ``ProtocolError`` if it is malformed, or not the next.

        After an error the connection is of no more use.
        """
        size = len(frames[0]) if len(frames) == 1 else sum(map(len, frames))
        if size > MESSAGE_BYTES_MAX:
            raise ProtocolError(f"a message is larger than {MESSAGE_BYTES_MAX:,} bytes")
        number, message = self._decoder.decode(frames)
        if number != self.received:
            raise Gap(
                f"message {number} arrived instead of {self.received}: something was lost on the "
                "way; a message above the size limit is dropped by the transport"
            )
        self.received += 1
        return message
