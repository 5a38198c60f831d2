"""What a launcher and an agent that it started say to each other, a line of JSON at a time.

The launcher writes one ``Start`` and then ``DRAIN`` or ``STOP`` to the agent's standard input. The
agent answers with ``Said`` on its standard output; what it logs and its tasks print goes to
standard error.
"""

from typing import Any

import msgspec

__all__ = ["DRAIN", "LINE_BYTES_MAX", "STOP", "Said", "Start"]

DRAIN = b"drain\n"
"""Finish what runs, give back the rest, and leave."""
STOP = b"stop\n"
"""Leave at once."""
LINE_BYTES_MAX = 60_000
"""A ``Start`` fits into the pipe to a process that does not read yet."""


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """The first line. ``settings`` are those of ``AgentSettings``.

    ``environment`` has the token, if there is one. ``linger``: how long the agent goes on when
    nobody keeps it any more; None: for as long as nobody tells it to leave.
    """

    settings: dict[str, Any]
    directory: str = ""
    environment: dict[str, str] = {}
    linger: float | None = 60.0


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """How it is with the agent. ``state`` is one of those that a ``Watch`` can be in."""

    state: str
    text: str = ""
    pid: int = 0
    running: int = 0
    slots: int = 0
