"""The coordinator's side of many connections: one ROUTER socket, for clients or for hosts.

Promises: ``send`` never blocks and never raises for what a peer does; a message that cannot leave
waits, in order, in that peer's outbox, and a peer whose outbox is full is dropped. What arrives
is decoded and in order: a peer that sends what cannot be read, or loses a message on the way, is
told and dropped, counted, and logged at most once a second. Used from one thread.
"""

import contextlib
import logging
import os
import socket as sockets
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Any, Literal

import zmq

from farm.errors import ProtocolError
from farm.identity import TRUSTED, Identity
from farm.logs import Seldom
from farm.protocol.codec import decoder
from farm.protocol.messages import Beat, Message, Rejected
from farm.transport.address import Address, AddressError, bind_address
from farm.transport.frames import (
    descriptor_of,
    key_of,
    read_frames,
    read_signed,
    readable,
    send_frames,
)
from farm.transport.numbering import Gap, Numbering
from farm.transport.options import (
    MESSAGES_HWM,
    OUTBOX_BYTES_MAX,
    OUTBOX_MESSAGES_MAX,
    ask_for_keys,
    prepare,
)

__all__ = ["Connection", "Router"]

RECEIVE_BYTES = 32 << 20
"""``receive`` returns after this many bytes, however many messages it was allowed."""
TOLD_MAX = 1024
"""How many refused routing ids are remembered, to tell each only once."""


class Connection:
    """One connection as the coordinator sees it; compared by identity, never used again.

    ``label`` is for whoever logs about it, ``shares`` the peer's part of the blob folder, if it has
    one, ``identity`` who the peer is. One that is not ``reachable`` has ended: what the peer said
    before that is still read, its goodbye perhaps.
    """

    __slots__ = (
        "descriptor",
        "identity",
        "label",
        "numbering",
        "open",
        "outbox",
        "outbox_bytes",
        "reachable",
        "routing_id",
        "shares",
        "side",
    )

    def __init__(
        self,
        side: str,
        routing_id: bytes,
        numbering: Numbering[Any],
        identity: Identity = TRUSTED,
    ) -> None:
        self.side = side
        self.identity = identity
        self.descriptor = -1
        self.routing_id = routing_id
        self.numbering = numbering
        self.open = True
        self.reachable = True
        self.label = ""
        self.shares = ""
        # Bounded by OUTBOX_MESSAGES_MAX and OUTBOX_BYTES_MAX in Router.send.
        self.outbox: deque[list[bytes]] = deque()
        self.outbox_bytes = 0

    def __repr__(self) -> str:
        return f"<{self.side} {self.routing_id.hex()}>"


class Router:
    """A bound socket; ``side`` says who connects to it.

    ``counters`` has what happened since the start; a ``stray`` came from a dropped connection, what
    is ``congested`` met a full socket and had to wait, and peers for which too much waited are
    ``overflowed``: they were dropped. A message whose key does not fit, or no more, is ``barred``.

    ``identify`` says who has a key, by what the ZAP handler calls it, if that peer may send to this
    side; without it no keys are in use.
    """

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        side: Literal["client", "host"],
        *,
        hwm: int = MESSAGES_HWM,
        identify: Callable[[str], Identity | None] | None = None,
    ) -> None:
        self.side = side
        self._identify = identify
        self.counters = dict.fromkeys(
            ("received", "sent", "garbled", "stray", "gone", "congested", "overflowed", "barred"), 0
        )
        self.socket = context.socket(zmq.ROUTER)
        prepare(self.socket, hwm)
        self._decoder = decoder(f"from_{side}")
        # Bounded by the open connections, and those by RLIMIT_NOFILE: each has a descriptor.
        self._connections: dict[bytes, Connection] = {}
        self._waiting: dict[Connection, None] = {}
        self._closed: list[Connection] = []
        self._unreachable: list[Connection] = []  # some of the open ones, not yet read out
        self._quiet = False
        self._told: OrderedDict[bytes, None] = OrderedDict()
        self._seldom = Seldom(logging.getLogger("farm.transport"))

    def bind(self, address: Address, secret: bytes = b"") -> None:
        """Listen, with a secret key if keys are in use.

        Raises ``AddressError`` saying why that cannot be, and what to do.
        """
        if secret:
            ask_for_keys(self.socket, self.side, secret)
        bound = bind_address(address)
        if bound.scheme == "ipc" and _answers(bound.host):
            raise AddressError(
                f"{address} is in use: another process listens there; stop it or use another path"
            )
        try:
            self.socket.bind(str(bound))
            if bound.scheme == "ipc":
                os.chmod(bound.host, 0o600)  # noqa: PTH101
        except (zmq.ZMQError, OSError) as error:
            remedy = (
                "another process listens there; stop it or use another port"
                if getattr(error, "errno", 0) == zmq.EADDRINUSE
                else f"{zmq.strerror(error.errno or 0)}"
            )
            raise AddressError(f"cannot listen on {address}: {remedy}") from None

    def unbind(self, address: Address) -> None:
        """Listen there no more; what is connected stays. The address is free a little later."""
        self.socket.unbind(str(bind_address(address)))

    def __len__(self) -> int:
        return len(self._connections)

    @property
    def backlog(self) -> int:
        """How many connections have messages waiting for ``flush``."""
        return len(self._waiting)

    @property
    def quiet(self) -> "zmq.Socket[bytes] | None":
        """Its socket, if a ``Poller`` need not ask it before it waits."""
        return self.socket if self._quiet else None

    @property
    def has_news(self) -> bool:
        """Whether ``receive`` would say that a connection is gone, although nothing arrived."""
        return bool(self._closed) or self._has_heard_out

    @property
    def _has_heard_out(self) -> bool:
        """Whether peers have gone of which nothing is left to read."""
        return bool(self._unreachable) and not readable(self.socket)

    def receive(self, limit: int, *, ready: bool = False) -> list[tuple[Connection, Any]]:
        """What has arrived, without waiting; at most ``limit`` messages are read, good or bad.

        ``ready``: a ``Poller`` just now said that something may have.
        The message is None if the connection is gone; it is then said once, and last.
        """
        found: list[tuple[Connection, Any]] = []
        size = 0
        identity, last = TRUSTED, None
        for _ in range(limit):
            if size >= RECEIVE_BYTES:
                break
            if not (ready or readable(self.socket)):
                self._quiet = True
                break
            self._quiet = ready = False  # as far as is known
            try:
                if self._identify is None:
                    routing_id, *frames = read_frames(self.socket)
                else:
                    (routing_id, *frames), last = read_signed(self.socket)
            except zmq.Again:  # something else has woken the poller
                continue
            size += sum(map(len, frames))
            connection = self._connections.get(routing_id)
            if last is not None:
                known = self._sender(last, connection)
                if known is None:
                    continue
                identity = known
            numbering = connection.numbering if connection else Numbering(self._decoder)
            try:
                message = numbering.unpack(frames)
            except ProtocolError as error:
                self._refuse(routing_id, connection, error)
                continue
            if connection is None:
                connection = Connection(self.side, routing_id, numbering, identity)
                connection.descriptor = -1 if last is None else descriptor_of(last)
                self._connections[routing_id] = connection
            self.counters["received"] += 1
            found.append((connection, message))
        found += self._take_gone()
        return found

    def _take_gone(self) -> list[tuple[Connection, None]]:
        """Those that are gone, of which all is read that they said."""
        if self._has_heard_out:
            for connection in self._unreachable:
                self._drop(connection)
            self._unreachable.clear()
        gone, self._closed = self._closed, []
        return [(connection, None) for connection in gone]

    def _sender(self, last: zmq.Frame, connection: Connection | None) -> Identity | None:
        """Who sent this message; None for a key that may not, or not under this routing id."""
        key = key_of(last)
        if connection is None:
            known = self._identify and self._identify(key)
        else:
            known = connection.identity
        if known is None or known.key != key:
            self.counters["barred"] += 1
            _shut(descriptor_of(last))
            return None
        return known

    def send(self, connection: Connection, message: Message) -> None:
        """Send, or let it wait; a connection that is gone shows up in ``receive``.

        Raises ``ProtocolError`` if the message itself is above the size limit.
        """
        if not (connection.open and connection.reachable):
            return
        frames = connection.numbering.pack(message)
        self.counters["sent"] += 1
        if not connection.outbox and self._try(connection, frames):
            return
        if connection.reachable:
            self.counters["congested"] += 1
            connection.outbox.append(frames)
            connection.outbox_bytes += sum(map(len, frames))
            self._waiting[connection] = None
            if (
                len(connection.outbox) > OUTBOX_MESSAGES_MAX
                or connection.outbox_bytes > OUTBOX_BYTES_MAX
            ):
                self.counters["overflowed"] += 1
                self._seldom.warning(f"{connection} reads too slowly and is dropped")
                self._drop(connection)

    def flush(self) -> None:
        """Try again to send what waits."""
        for connection in list(self._waiting):
            outbox = connection.outbox
            while outbox and self._try(connection, outbox[0]):
                connection.outbox_bytes -= sum(map(len, outbox.popleft()))
            if not outbox:
                self._waiting.pop(connection, None)

    def close(self, connection: Connection) -> None:
        """Forget a connection, after what was sent.

        What it still sends is dropped, and it is not said to be gone.
        """
        if connection.open:
            connection.open = False
            self._connections.pop(connection.routing_id, None)

    def cut(self, key: str) -> int:
        """End every connection of a key at once, without a word; how many there were.

        ``receive`` then says that they are gone.
        """
        ended = [one for one in self._connections.values() if one.identity.key == key]
        for connection in ended:
            _shut(connection.descriptor)
            self._drop(connection)
        return len(ended)

    def reaches(self, key: str) -> bool:
        """Whether a connection of this key is there: one that is gone shows when it is sent to."""
        found = [one for one in self._connections.values() if one.identity.key == key]
        for connection in found:
            self.send(connection, Beat())
        return any(connection.reachable for connection in found)

    def shut(self, linger_seconds: float = 0.0) -> None:
        """Close the socket, giving what was sent that long to leave."""
        self.socket.close(linger=int(linger_seconds * 1000))

    def _try(self, connection: Connection, frames: Sequence[bytes]) -> bool:
        """Whether the frames are off; a connection that is gone is sent nothing any more."""
        self._quiet = False
        try:
            # Only attachments are worth lending.
            message = (connection.routing_id, *frames)
            send_frames(self.socket, message, copy=len(frames) == 1)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            self.counters["gone"] += 1
            self._part(connection)
            return False
        return True

    def _part(self, connection: Connection) -> None:
        """A peer has gone: what it said before is read, and then the connection is dropped."""
        connection.reachable = False
        connection.outbox.clear()
        self._waiting.pop(connection, None)
        if self._connections.get(connection.routing_id) is connection:
            self._unreachable.append(connection)

    def _drop(self, connection: Connection) -> None:
        if connection.open and self._connections.get(connection.routing_id) is connection:
            self._closed.append(connection)
        self.close(connection)
        self._waiting.pop(connection, None)
        connection.outbox.clear()

    def _refuse(
        self, routing_id: bytes, connection: Connection | None, error: ProtocolError
    ) -> None:
        """Count and tell; a message in flight from a dropped connection is no news."""
        if connection is None and (isinstance(error, Gap) or routing_id in self._told):
            self.counters["stray"] += 1
            return
        self.counters["garbled"] += 1
        self._seldom.warning(f"{self.side} {routing_id.hex()} is dropped: {error}")
        self._told[routing_id] = None
        if len(self._told) > TOLD_MAX:
            self._told.popitem(last=False)
        teller = connection or Connection(self.side, routing_id, Numbering(self._decoder))
        # What cannot be read at the very start will be no better the next time.
        said = Rejected("garbled", str(error), retry=connection is not None)
        if not teller.outbox:
            self._try(teller, teller.numbering.pack(said))
        if connection is not None:
            self._drop(connection)


def _shut(descriptor: int) -> None:
    """End the TCP connection that libzmq has at this descriptor, which stays libzmq's to close.

    If libzmq has closed it and opened another there, that one's peer connects again.
    """
    with contextlib.suppress(OSError), sockets.socket(fileno=os.dup(descriptor)) as twin:
        if twin.family in (sockets.AF_INET, sockets.AF_INET6):
            twin.shutdown(sockets.SHUT_RDWR)


def _answers(path: str) -> bool:
    """Whether a process listens on this Unix socket; libzmq would take it over unasked."""
    with contextlib.closing(sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except (BlockingIOError, TimeoutError):  # so many wait for it that there is no room
            return True
        except OSError:
            return False
        return True
