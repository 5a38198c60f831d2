"""Values as JSON text inside a payload: for readers who must not unpickle.

Such a payload is a pickle of a fixed form, written by hand: "decode this JSON". Python clients open
it as any other; who knows the form cuts the text out, and nothing is unpickled.
"""

import struct
from typing import Any, Protocol

import msgspec

from farm.errors import PayloadError
from farm.model import Payload

__all__ = ["HEAD_BYTES", "Json", "json_span", "json_text", "to_json"]

_HEAD = b"\x80\x05cmsgspec.json\ndecode\n\x8e"  # PROTO 5, GLOBAL, BINBYTES8
_LENGTH = struct.Struct("<Q")
_TAIL = b"\x85R."  # TUPLE1, REDUCE, STOP
HEAD_BYTES = len(_HEAD) + _LENGTH.size
"""With so many bytes of a payload it is known whether it is JSON text, and of which length."""


class _Files(Protocol):
    """Where large payloads are kept, see ``farm.blobs.Blobs``."""

    least: int

    def keep(self, data: bytes) -> Payload:
        """A payload that is in memory already."""


class Json(bytes):
    """JSON text; as a task's result it arrives as the value that it says."""

    __slots__ = ()

    def payload(self, files: _Files | None = None) -> Payload:
        """The text as it is stored: in a file if it is large."""
        data = b"".join((_HEAD, _LENGTH.pack(len(self)), self, _TAIL))
        return data if files is None or len(data) < files.least else files.keep(data)


def to_json(value: Any) -> Json:
    """A value as JSON text; raises ``PayloadError`` naming the part that JSON cannot say.

    Dates, UUIDs, dataclasses and the like become what msgspec makes of them.
    """
    try:
        return Json(msgspec.json.encode(value))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        path, part, why = _culprit(value, "the result", error)
    raise PayloadError(f"{path} is {type(part).__name__}, which JSON cannot say: {why}")


def _culprit(value: Any, path: str, error: Exception) -> tuple[str, Any, Exception]:
    """The smallest part that has no JSON: where it is, what it is, and why."""
    if isinstance(error, RecursionError):
        return path, value, error
    parts = value if isinstance(value, dict) else {}
    if isinstance(value, list | tuple):
        parts = dict(enumerate(value))
    for key, part in parts.items():
        try:
            msgspec.json.encode(part)
        except Exception as deeper:  # noqa: BLE001 - whatever it is, it is the reason
            return _culprit(part, f"{path}[{key!r}]", deeper)
    return path, value, error


def json_span(head: bytes, size: int) -> tuple[int, int] | None:
    """Where the JSON text lies in a payload of so many bytes that begins so; None if it has none.

    ``head`` are its first ``HEAD_BYTES``, or more.
    """
    if len(head) < HEAD_BYTES or not head.startswith(_HEAD):
        return None
    (length,) = _LENGTH.unpack_from(head, len(_HEAD))
    stop = HEAD_BYTES + length
    return (HEAD_BYTES, stop) if stop + len(_TAIL) == size else None


def json_text(payload: bytes) -> bytes | None:
    """The JSON text in a payload, or None if that is a pickle of another kind."""
    span = json_span(payload[:HEAD_BYTES], len(payload))
    return None if span is None else payload[slice(*span)]
