"""How much may be on the way on a client's connection, and for whom that is."""

from typing import NamedTuple

from farm._version import __version__
from farm.client.session_port import SessionSettings
from farm.identity import Identity
from farm.transport.options import MESSAGES_HWM

__all__ = ["USUAL", "Flow"]


class Flow(NamedTuple):
    """The bounds of a connection. The defaults are for all; tests and tools have others."""

    window_bytes: int = 64 << 20
    """Result bytes that may be on the way at a time; past that they wait in the store."""
    messages_hwm: int = MESSAGES_HWM
    """The high-water mark of the socket, in messages: well above the largest credit."""
    behalf: Identity | None = None
    """For whom the session is, if not for whose key this process has; an admin is believed."""

    def session(self, python: str, *, waits_for_room: bool) -> SessionSettings:
        """What a session with these bounds is told."""
        return SessionSettings(
            __version__,
            python,
            self.window_bytes,
            waits_for_room=waits_for_room,
            behalf=self.behalf,
        )


USUAL = Flow()
"""What all but tests have."""
