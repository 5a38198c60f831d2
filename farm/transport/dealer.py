"""A client's or host's side of its connection: one DEALER socket, used for one connection only.

Promises: nothing blocks, and nothing that the other side does raises. A connection is ``connected``
once the other side has answered, and ``lost`` once, for the reason that ``lost`` gives; then it is
closed and a new ``Dealer`` is made. Used from one thread.
"""

import errno
import logging
import struct
import time
from collections import deque
from collections.abc import Container
from typing import Any, Literal

import zmq

from farm.errors import ProtocolError
from farm.logs import Seldom
from farm.protocol.codec import decoder
from farm.protocol.messages import Message
from farm.transport.address import Address
from farm.transport.frames import read_frames, readable, send_frames
from farm.transport.numbering import Numbering
from farm.transport.options import (
    ATTEMPT_SECONDS,
    MESSAGES_HWM,
    OUTBOX_BYTES_MAX,
    OUTBOX_MESSAGES_MAX,
    prepare,
    show_key,
)

__all__ = ["Dealer"]

RECEIVE_BYTES = 32 << 20
"""``receive`` returns after this many bytes, however many messages it was allowed."""

_CONNECTED = zmq.EVENT_HANDSHAKE_SUCCEEDED
_REASONS = {
    zmq.EVENT_CLOSED: "nothing answers at {address}",
    zmq.EVENT_CONNECT_RETRIED: "nothing answers at {address}",  # alone if the name is unknown
    zmq.EVENT_DISCONNECTED: "{address} closed the connection",
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: "",  # see _why
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: "{address} is no farm: it does not speak its protocol",
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: "{address} refused the key",
}
_MISMATCH = zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH
_NEEDS_KEY = (
    "{address} lets only those in who have a key: set FARM_TOKEN (farm keys new, where it runs,"
    " makes one)"
)
_HAS_NO_KEY = (
    "{address} is a farm without keys, and this process has one, so it does not trust it;"
    " FARM_TOKEN=none goes without"
)
_HUNG_UP = "{address} is no farm, or one that lets only those in who have a key (FARM_TOKEN)"
_WRONG_KEY = (
    "{address} hung up: it does not let this key in (the token is another farm's, or was revoked or"
    " replaced, or has expired; or that farm is one without keys), or the network cut it off"
)
_HANGS_UP = (errno.EPIPE, errno.ECONNRESET)
"""What a handshake fails with that the other side has ended; else it has not answered in time."""
_EVENTS = _CONNECTED | zmq.EVENT_CONNECTED | sum(_REASONS)


class Dealer:
    """One connection; ``side`` says which side this process is.

    Poll every one of ``sources`` for reading, and call ``receive`` when one is readable and, until
    ``connected``, once a second.
    """

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        side: Literal["client", "host"],
        *,
        hwm: int = MESSAGES_HWM,
    ) -> None:
        self.connected = False
        self.lost = ""
        self.congested = 0
        """How many messages met a full socket and had to wait."""
        self.overflowed = False
        """Whether it was lost because too much waited."""
        self.socket = context.socket(zmq.DEALER)
        prepare(self.socket, hwm)
        self._monitor = self.socket.get_monitor_socket(_EVENTS)
        self._monitor_fd = int(self._monitor.get(zmq.FD))
        readable(self._monitor)  # before it was asked once, its descriptor says nothing
        self._numbering: Numbering[Any] = Numbering(decoder(f"to_{side}"))
        # Bounded by OUTBOX_MESSAGES_MAX and OUTBOX_BYTES_MAX in send.
        self._outbox: deque[list[bytes]] = deque()
        self._outbox_bytes = 0
        self._quiet = False
        self._address = ""
        self._ended = ""
        self._has_key = False
        self._reached = False
        self._began = self._give_up = float("inf")
        self._seldom = Seldom(logging.getLogger("farm.transport"))

    @property
    def sources(self) -> "tuple[zmq.Socket[bytes], int]":
        """What to poll for reading: its socket, and the descriptor by which it hears of its end."""
        return self.socket, self._monitor_fd

    @property
    def quiet(self) -> "zmq.Socket[bytes] | None":
        """Its socket, if it has nothing: a ``Poller`` need not ask it before it waits."""
        if not self._quiet:
            self._quiet = not readable(self.socket)
        return self.socket if self._quiet else None

    @property
    def crowded(self) -> bool:
        """Whether somebody listens there who had no time for us: it did not come about so long."""
        late = time.monotonic() > (self._began + self._give_up) / 2
        return self._reached and late and not self.connected

    def is_silent(self, ready: Container[object]) -> bool:
        """Whether ``receive`` would find nothing, given those that a ``Poller`` just now named."""
        nothing = self.socket not in ready and self._monitor_fd not in ready
        return nothing and self.connected and not self._ended

    @property
    def backlog(self) -> int:
        """How many messages wait for ``flush``; then do not wait long for the next event."""
        return len(self._outbox)

    def connect(
        self,
        address: Address,
        server: bytes = b"",
        secret: bytes = b"",
        *,
        ipv4: bool = False,
        seconds: float = float("inf"),
    ) -> None:
        """Begin to connect; ``connected`` or ``lost`` comes with a later ``receive``.

        With keys, the farm must have the ``server`` one, and may know ours by the ``secret`` one.
        A name is looked up for this connection: with ``ipv4`` only for addresses of that kind, else
        for IPv6 before IPv4. It is lost if it takes more than ``seconds`` to come about.
        """
        self._address = str(address)
        self._has_key = bool(secret)
        if secret:
            show_key(self.socket, server, secret)
        self._began = time.monotonic()
        self._give_up = self._began + min(seconds, ATTEMPT_SECONDS)
        if ipv4 or address.host == "localhost":
            self.socket.setsockopt(zmq.IPV6, 0)
        try:
            self.socket.connect(self._address)
        except zmq.ZMQError as error:
            self._lose(f"{address} cannot be reached: {zmq.strerror(error.errno or 0)}")

    def receive(self, limit: int, ready: Container[object] | None = None) -> list[Any]:
        """The messages that have arrived, at most ``limit``, without waiting.

        ``ready``: those of ``sources`` that a ``Poller`` just now named, if there was one.
        What arrived before the connection was lost is still returned; ``lost`` is set after it.
        """
        if ready is None or self._monitor_fd in ready or not self.connected:
            self._read_monitor()
        found: list[Any] = []
        has_more = ready is not None and self.socket in ready
        if not (has_more or ready is None or self._ended):
            return found
        size = 0
        while len(found) < limit and size < RECEIVE_BYTES and not self.lost:
            if not (has_more or readable(self.socket)):
                self._quiet = True
                if self._ended:
                    self._lose(self._ended)
                break
            self._quiet = has_more = False  # as far as is known
            try:
                frames = read_frames(self.socket)
            except zmq.Again:  # something else has woken the poller
                continue
            size += sum(map(len, frames))
            try:
                found.append(self._numbering.unpack(frames))
            except ProtocolError as error:
                self._seldom.warning(f"the connection to {self._address} is closed: {error}")
                self._lose(str(error))
        return found

    def send(self, message: Message) -> None:
        """Send, or let it wait; if too much waits already, the connection is lost.

        Raises ``ProtocolError`` if the message itself is above the size limit.
        """
        if self.lost:
            return
        frames = self._numbering.pack(message)
        if not self._outbox and self._try(frames):
            return
        self.congested += 1
        self._outbox.append(frames)
        self._outbox_bytes += sum(map(len, frames))
        if len(self._outbox) > OUTBOX_MESSAGES_MAX or self._outbox_bytes > OUTBOX_BYTES_MAX:
            self.overflowed = True
            self._lose(f"{self._address} reads too slowly")

    def flush(self) -> None:
        """Try again to send what waits."""
        while self._outbox and self._try(self._outbox[0]):
            self._outbox_bytes -= sum(map(len, self._outbox.popleft()))

    def close(self, linger_seconds: float = 0.0) -> None:
        """Close the socket, giving what was sent that long to leave."""
        if not self.socket.closed:
            self.socket.disable_monitor()
            self._monitor.close(linger=0)
            self.socket.close(linger=int(linger_seconds * 1000))

    def _try(self, frames: list[bytes]) -> bool:
        self._quiet = False
        try:
            # Only attachments are worth lending.
            send_frames(self.socket, frames, copy=len(frames) == 1)
        except zmq.Again:
            return False
        return True

    def _read_monitor(self) -> None:
        """Take the socket's events."""
        while readable(self._monitor):
            event, _ = read_frames(self._monitor)
            kind, value = struct.unpack_from("=HI", event)
            if kind == _CONNECTED:
                self.connected = True
            elif kind == zmq.EVENT_CONNECTED:
                self._reached = True
            else:
                # Kept while messages that came before the end still wait to be read.
                self._ended = self._ended or self._why(kind, value).format(address=self._address)
        if not (self._ended or self.connected) and time.monotonic() > self._give_up:
            self._lose(f"nothing answers at {self._address}")

    def _why(self, kind: int, value: int) -> str:
        """What an event says about the end of the connection."""
        if kind == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL and value == _MISMATCH:
            return _HAS_NO_KEY if self._has_key else _NEEDS_KEY
        if kind == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL and value not in _HANGS_UP:
            return "nothing answers at {address}"
        in_handshake = kind in (zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, zmq.EVENT_DISCONNECTED)
        if in_handshake and not self.connected:
            # Whoever finds out first hangs up, and the other does not hear why.
            return _WRONG_KEY if self._has_key else _HUNG_UP
        return next((text for event, text in _REASONS.items() if event == kind), "")

    def _lose(self, reason: str) -> None:
        self.lost = self.lost or reason
        self._outbox.clear()
        self._outbox_bytes = 0
