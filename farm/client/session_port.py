"""What a session asks of its shell, and what the shell tells it once."""

from typing import NamedTuple, Protocol

from farm.identity import Identity
from farm.protocol.messages import Answer, CancelReply, FromClient, JobInfo, Refused, Result, Run

__all__ = ["SessionPort", "SessionSettings"]


class SessionSettings(NamedTuple):
    """What a session is told once."""

    farm: str
    """The version of this package."""
    python: str
    """The minor version of this Python, such as ``3.11``: payloads can be read by no other."""
    window_bytes: int = 64 << 20
    """Result bytes that may be on the way at a time; past that they wait in the store."""
    take_seconds: float = 0.25
    """How long acknowledgements of results may wait to travel together; nobody waits for them."""
    hello_seconds: float = 10.0
    """A coordinator that does not answer HELLO within this time is given up."""
    silent_beats: float = 3.0
    """A coordinator that is silent for so many beats is given up."""
    waits_for_room: bool = True
    """If not, tasks that the farm has no room for fail, with the reason ``busy``."""
    behalf: Identity | None = None
    """For whom the session is, if not for whose key this process has."""


class SessionPort(Protocol):
    """What a session calls, synchronously, from inside its own methods. Nothing here may raise."""

    def send(self, message: FromClient) -> None:
        """Send a message on the present connection; after it is gone, drop it."""

    def disconnect(self, reason: str) -> None:
        """End the present connection; the session regards it as gone already."""

    def settled(self, results: list[Result]) -> None:
        """Tasks of this session, or followed ones, ended.

        Each task comes once, except that a packed entry comes whole: ids in it that are settled
        already are to be skipped.
        """

    def failed(self, first: int, count: int, why: Refused) -> None:
        """The coordinator refused tasks of this session for good; they never ran."""

    def started(self, runs: list[Run]) -> None:
        """Workers have begun tasks of this session: a hint."""

    def progress(self, notes: list[tuple[bytes, int, float, float, str]]) -> None:
        """``(session, counter, done, total, note)``: how far running tasks say they are."""

    def replied(self, message: CancelReply | JobInfo | Answer) -> None:
        """The answer to a request; a ``JobInfo`` comes again when its job changes."""

    def rejected(self, code: str, message: str, retry: bool) -> None:
        """The coordinator refuses this session; ``retry`` says whether trying again can help."""

    def room(self, tasks: int, size: int) -> None:
        """So many tasks and payload bytes are unsent now; it was more."""
