"""Anything of the protocol as msgpack."""

from typing import Any

import msgspec

__all__ = ["to_msgpack"]

_encoder = msgspec.msgpack.Encoder()


def to_msgpack(value: Any) -> bytes:
    """A message, or a record, as bytes.

    Users' texts may be no Unicode: names of files, as ``os.fsdecode`` gives them, get into job
    names, error messages and notes. What cannot be written in UTF-8 is written as an escape.
    """
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:
        return _encoder.encode(_escaped(msgspec.to_builtins(value, builtin_types=(bytes,))))


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, (list, tuple)):
        return [_escaped(part) for part in value]
    if isinstance(value, dict):
        return {_escaped(key): _escaped(part) for key, part in value.items()}
    return value
