"""Waits for sockets and file descriptors, with one call of the system for all of them.

``zmq.Poller`` asks libzmq for the state of every socket before it waits and after it, and waits
twice, which costs a turn of a loop more than all that it does with a message. Here the descriptors
that libzmq has for this are waited for, together with all others.

Such a descriptor becomes readable when something happens to its socket, and anything that is done
with the socket may take that back. So what is asked before waiting is the sockets themselves, and
a descriptor that is readable says no more than that its socket should be read: mostly a message has
come. To ask costs several calls of the system, so it is done no more often than that.

Whoever was woken by one message does best to read that alone: whether there are more is asked
before the next wait in any case, and then somebody has an answer already.
"""

import select
import time
from typing import TypeAlias

import zmq

from farm.transport.frames import readable

__all__ = ["POLLIN", "POLLOUT", "Poller"]

POLLIN = int(zmq.POLLIN)
POLLOUT = int(zmq.POLLOUT)
_EVENTS = {
    POLLIN: select.POLLIN,
    POLLOUT: select.POLLOUT,
    POLLIN | POLLOUT: select.POLLIN | select.POLLOUT,
}

NAP_SECONDS = 0.05
"""A longer wait is none that one message ended: this process may have been stopped meanwhile."""

Source: TypeAlias = "int | zmq.Socket[bytes]"


class Poller:
    """Used from one thread. A socket is waited for until it has a message."""

    def __init__(self) -> None:
        self.woken = False
        """Whether nothing was ready at first, and then something soon was."""
        self._poll = select.poll()
        # Bounded by the open descriptors.
        self._sockets: dict[int, zmq.Socket[bytes]] = {}  # by descriptor
        self._descriptors: dict[zmq.Socket[bytes], int] = {}

    def register(self, source: Source, flags: int = POLLIN) -> None:
        """Wait for these events of a descriptor, instead of others, or for a socket's messages."""
        if isinstance(source, int):
            self._poll.register(source, _EVENTS[flags])
        elif source not in self._descriptors:
            descriptor = self._descriptors[source] = int(source.get(zmq.FD))
            self._sockets[descriptor] = source
            self._poll.register(descriptor, select.POLLIN)

    def unregister(self, source: Source) -> None:
        """Wait for it no more. A socket is not closed yet."""
        if not isinstance(source, int):
            source = self._descriptors.pop(source)
            del self._sockets[source]
        self._poll.unregister(source)

    def poll(self, milliseconds: int, *quiet: "Source | None") -> set[Source]:
        """What is ready, or may be; waits so long until something is.

        A ``quiet`` socket was asked, had nothing, and nothing was done with it since: it need not
        be asked once more.
        """
        ready: set[Source] = set()
        for socket in self._descriptors:
            if socket not in quiet and readable(socket):
                ready.add(socket)
        sockets, began = self._sockets, 0.0 if ready else time.monotonic()
        for descriptor, _ in self._poll.poll(0 if ready else milliseconds):
            ready.add(sockets.get(descriptor, descriptor))
        self.woken = time.monotonic() - began < NAP_SECONDS
        return ready
