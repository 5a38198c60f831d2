"""What a session has received on its connection, and has to tell the coordinator."""

from math import inf
from operator import attrgetter

from farm.client.session_port import SessionSettings
from farm.protocol.messages import Results, Taken

__all__ = ["Receipts"]

_SIZE = attrgetter("size")


class Receipts:
    """Counts results, which come within a window. ``due``: when they are to be acknowledged."""

    def __init__(self, settings: SessionSettings) -> None:
        self.due = inf
        self._seconds = settings.take_seconds
        self._bytes_max = settings.window_bytes // 4
        self._received = self._bytes = 0

    def disconnected(self) -> None:
        """The next connection counts from the beginning."""
        self.due = inf
        self._bytes = 0

    def received(self, message: Results, now: float) -> None:
        """Results have come: a few may wait to be acknowledged together."""
        self._received = message.number
        if self.due == inf:
            self.due = now + self._seconds
        self._bytes += sum(map(_SIZE, message.entries))
        if self._bytes > self._bytes_max:
            self.due = now  # or the results behind these would wait

    def take(self) -> Taken | None:
        """What acknowledges all of them, if any have come since."""
        if self.due == inf:
            return None
        self.due = inf
        self._bytes = 0
        return Taken(self._received)
