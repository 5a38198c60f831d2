"""The head of an answer, sent with its body: sending is half of what a short answer costs."""

import asyncio

__all__ = ["Joined"]

JOINED_BYTES_MAX = 64 << 10
"""Longer parts are sent by themselves: to copy them would cost more."""


class Joined(asyncio.Transport):
    """What one answer is written to, in place of its connection.

    The first part, its head, waits for the second, but not longer than until the loop turns: of an
    answer that comes bit by bit it is there at once.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._head: bytes | None = None
        self._due: asyncio.Handle | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep the first part, and send it with the second."""
        if self._due is None:
            self._head = bytes(data)
            self._due = self._loop.call_soon(self.flush)
            return
        if self._head is not None and len(data) <= JOINED_BYTES_MAX:
            data, self._head = self._head + data, None
            self._due.cancel()
        self.flush()
        self._transport.write(data)

    def flush(self) -> None:
        """Send the head, if it is here still."""
        if self._head is not None:
            head, self._head = self._head, None
            if not self._transport.is_closing():
                self._transport.write(head)

    def close(self) -> None:
        """Send what there is, and end the connection."""
        self.flush()
        self._transport.close()

    def is_closing(self) -> bool:
        """Whether the connection ends."""
        return self._transport.is_closing()
