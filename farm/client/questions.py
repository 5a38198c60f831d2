"""Questions to the farm as they travel, checked where they are asked.

The IO thread writes them into messages; what cannot be written would end it there.
"""

from typing import Any

from farm.errors import ConfigError
from farm.payload import PAYLOAD_BYTES_MAX
from farm.protocol.encoding import to_msgpack

__all__ = ["check_question", "text_of"]


def check_question(what: str, arguments: dict[str, Any]) -> None:
    """Raise ``TypeError`` if it is not plain data, ``ConfigError`` if it is too large."""
    text_of("the question", what)
    size = 0
    for name, value in (("the question", what), *arguments.items()):
        try:
            size += len(to_msgpack(value))
        except (TypeError, OverflowError, RecursionError) as error:
            raise TypeError(f"{name} cannot be sent, it is no plain data: {error}") from None
    if size > PAYLOAD_BYTES_MAX:
        raise ConfigError(f"a question of {size:,} bytes is too large to be sent")


def text_of(name: str, value: Any) -> str:
    """A text, of no class of its own; raises ``TypeError`` if it is none."""
    if not isinstance(value, str):
        raise TypeError(f"{name} is {value!r}; it must be a text")
    return str.__str__(value)
