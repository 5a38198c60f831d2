"""What a schedule gives to what it runs: plain data, which is kept and comes back as it was."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

__all__ = ["NOTHING", "listed", "options_of", "table"]

NOTHING: Mapping[str, Any] = {}
"""One for all that have no such table."""
WHOLE_MIN, WHOLE_END = -(1 << 63), 1 << 64
"""Whole numbers that can be kept."""


def listed(what: str, value: object) -> tuple[Any, ...]:
    """A list as it is kept; raises ``ValueError`` naming ``what``."""
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return tuple(_plain(what, one) for one in value)
    raise ValueError(f"{what} is {value!r}; it must be a list")


def table(what: str, value: object) -> Mapping[str, Any]:
    """A table as it is kept; raises ``ValueError`` naming ``what``."""
    if not value and (value is None or isinstance(value, Mapping)):
        return NOTHING
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _plain(what, one) for key, one in value.items()}
    raise ValueError(f"{what} is {value!r}; it must be a table of names and values")


def options_of(value: object) -> Mapping[str, Any]:
    """Options of tasks, of which types of exceptions and durations may be said as in Python."""
    if not isinstance(value, Mapping):
        return table("options", value)
    return table("options", {name: _said(one) for name, one in value.items()})


def _said(option: Any) -> Any:
    """An option as a file would say it."""
    if isinstance(option, type):
        return f"{option.__module__}.{option.__qualname__}"
    if isinstance(option, timedelta):
        return option.total_seconds()
    return [*map(_said, option)] if isinstance(option, list | tuple) else option


def _plain(what: str, value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(what, one) for one in value]
    if isinstance(value, Mapping) and all(isinstance(key, str | int) for key in value):
        return {key: _plain(what, one) for key, one in value.items()}
    if isinstance(value, int) and not WHOLE_MIN <= value < WHOLE_END:
        raise ValueError(f"{what} has {value!r}; a whole number must fit into 64 bits")
    if isinstance(value, str):
        value.encode()  # a lone surrogate is an error of its own, and a ValueError
    elif value is not None and not isinstance(value, bool | int | float | bytes):
        raise ValueError(
            f"{what} has {value!r}, which is no text, number, list or table: "
            "write what JSON can say"
        )
    return value
