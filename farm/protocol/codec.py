"""Messages to ZeroMQ frames and back.

A message is ``[envelope, attachment, ...]``. The envelope is msgpack: ``[number, message,
places]``. Payloads above ``ATTACH_BYTES`` travel as attachments, frames of their own that are
never copied into the envelope; ``places`` says to which entry and payload each belongs.
"""

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Generic, TypeVar

import msgspec

from farm.errors import ProtocolError
from farm.model import Blob, Payload
from farm.protocol.encoding import to_msgpack
from farm.protocol.entries import MALFORMED, Entry, check_entries
from farm.protocol.messages import (
    Assign,
    FromClient,
    FromHost,
    Message,
    Report,
    Results,
    Submit,
    ToClient,
    ToHost,
)

__all__ = ["ATTACH_BYTES", "Decoder", "decoder", "encode", "entries_of"]

ATTACH_BYTES = 1 << 16
"""Payloads above this size are attached."""

M = TypeVar("M")


class _Envelope(msgspec.Struct, Generic[M], array_like=True, gc=False):
    number: int
    message: M
    places: list[tuple[int, int]] = []


_ENTRIES: dict[type, Callable[[Any], Sequence[Entry]]] = {
    Submit: attrgetter("groups"),
    Assign: attrgetter("grants"),
    Report: attrgetter("ended"),
    Results: attrgetter("entries"),
}
"""Where a message has the parts that carry payloads."""


def encode(number: int, message: Message) -> list[bytes]:
    """The frames of a message; ``number`` counts the messages of one direction."""
    find = _ENTRIES.get(type(message))
    for entry in find(message) if find is not None else ():
        if entry.size > ATTACH_BYTES:
            return _encode_attached(number, message)
    return [to_msgpack((number, message))]


def entries_of(message: object) -> Sequence[Entry]:
    """The parts of a message that carry payloads."""
    find = _ENTRIES.get(type(message))
    return find(message) if find is not None else ()


def _encode_attached(number: int, message: Message) -> list[bytes]:
    places: list[tuple[int, int]] = []
    frames: list[bytes] = []
    held: list[tuple[Entry, list[Payload]]] = []
    for e, entry in enumerate(entries_of(message)):
        if entry.size <= ATTACH_BYTES:
            continue
        held.append((entry, entry.payloads))
        entry.payloads = list(entry.payloads)
        for p, payload in enumerate(entry.payloads):
            if len(payload) > ATTACH_BYTES and not isinstance(payload, Blob):
                places.append((e, p))
                frames.append(payload)
                entry.payloads[p] = b""
    envelope = to_msgpack((number, message, places))
    for entry, payloads in held:
        entry.payloads = payloads
    return [envelope, *frames]


class Decoder(Generic[M]):
    """Reads the messages of one direction, for instance all that a client may send."""

    def __init__(self, messages: Any) -> None:
        self._decoder = msgspec.msgpack.Decoder(_Envelope[messages])

    def decode(self, frames: Sequence[bytes]) -> tuple[int, M]:
        """The number and message; raises ``ProtocolError`` for anything malformed."""
        if not frames:
            raise ProtocolError("an empty message arrived")
        try:
            envelope: _Envelope[M] = self._decoder.decode(frames[0])
        except MALFORMED as error:
            raise ProtocolError(f"a malformed message arrived: {error}") from error
        message, places = envelope.message, envelope.places
        if len(places) != len(frames) - 1:
            raise ProtocolError(
                f"a message names {len(places)} attachments and has {len(frames) - 1}"
            )
        if places:
            _attach(message, places, frames)
        find = _ENTRIES.get(type(message))
        if find is not None:
            check_entries(find(message))
        return envelope.number, message


def _attach(message: object, places: list[tuple[int, int]], frames: Sequence[bytes]) -> None:
    entries = entries_of(message)
    for (e, p), frame in zip(places, frames[1:], strict=True):
        if not (0 <= e < len(entries) and 0 <= p < len(entries[e].payloads)):
            raise ProtocolError(f"an attachment belongs to entry {e}, payload {p}: there is none")
        entries[e].payloads[p] = frame


_DECODERS: dict[str, Decoder[Any]] = {}


def decoder(direction: str) -> Decoder[Any]:
    """The decoder of ``from_client``, ``to_client``, ``from_host`` or ``to_host`` messages."""
    if not _DECODERS:
        for name, messages in (
            ("from_client", FromClient),
            ("to_client", ToClient),
            ("from_host", FromHost),
            ("to_host", ToHost),
        ):
            _DECODERS[name] = Decoder(messages)
    return _DECODERS[direction]
