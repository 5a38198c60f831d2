"""How much may be on the way on a client's connection."""

from typing import NamedTuple

from farm.transport.options import MESSAGES_HWM

__all__ = ["USUAL", "Flow"]


class Flow(NamedTuple):
    """The bounds of a connection. The defaults are for all; tests and tools have others."""

    window_bytes: int = 64 << 20
    """Result bytes that may be on the way at a time; past that they wait in the store."""
    messages_hwm: int = MESSAGES_HWM
    """The high-water mark of the socket, in messages: well above the largest credit."""


USUAL = Flow()
"""What all but tests have."""
