"""The settings of every socket of the farm.

HWM is the fuse, credit the control: a peer that keeps to its credit never meets a high-water
mark. What a socket still holds is dropped when it is closed, for what matters is sent again.
"""

import zmq

from farm.protocol.messages import MESSAGE_BYTES_MAX

__all__ = [
    "ATTEMPT_SECONDS",
    "CONTROL_MESSAGES",
    "CREDIT_TASKS",
    "MESSAGES_HWM",
    "OUTBOX_BYTES_MAX",
    "OUTBOX_MESSAGES_MAX",
    "ask_for_keys",
    "hwm_for",
    "prepare",
    "show_key",
]

CREDIT_TASKS = 65_536
"""The largest credit: tasks that may be on the way, each in a message of its own at worst."""
CONTROL_MESSAGES = 65_536
"""What else is on the way: acknowledgements, results, credit, beats, questions."""


def hwm_for(credit_tasks: int) -> int:
    """Messages in each direction of a connection on which so many tasks may be on the way."""
    return 4 * (credit_tasks + CONTROL_MESSAGES)


MESSAGES_HWM = hwm_for(CREDIT_TASKS)
"""The high-water mark of every socket."""

OUTBOX_MESSAGES_MAX = 4096
"""Messages that wait in this process for one peer behind a full socket."""

OUTBOX_BYTES_MAX = 4 * MESSAGE_BYTES_MAX
"""And their bytes."""

ATTEMPT_SECONDS = 6.0
"""A connection that takes longer to come about is lost, for both sides: handshakes of a thousand
hosts that come at once take seconds, and whoever is given up begins anew, and makes it longer."""

_COMMON = {
    zmq.LINGER: 0,
    zmq.IPV6: 1,
    zmq.MAXMSGSIZE: MESSAGE_BYTES_MAX,
    # A connection that never says who it is costs a descriptor that long, and not for ever.
    zmq.HANDSHAKE_IVL: int(1000 * ATTEMPT_SECONDS),
    # ZMTP's own heartbeat finds a machine that is gone; a peer that is stuck is for our beats.
    zmq.HEARTBEAT_IVL: 5_000,
    zmq.HEARTBEAT_TIMEOUT: 15_000,
    zmq.HEARTBEAT_TTL: 20_000,
    zmq.TCP_KEEPALIVE: 1,
}
_ROUTER = {
    # An unreachable peer is an error, not a message that vanishes.
    zmq.ROUTER_MANDATORY: 1,
    zmq.BACKLOG: 1024,
}
_DEALER = {
    # One socket per connection: a message queued for the last one never opens the next. -1, which
    # says the same, would drop what has arrived and is not yet read when the connection ends; six
    # days come to never, for the socket is closed as soon as its end is noticed.
    zmq.RECONNECT_IVL: 1 << 29,
    zmq.CONNECT_TIMEOUT: 5_000,
}
COPY_BYTES_MAX = 1 << 16
"""Frames above this size are handed to libzmq without a copy."""


def prepare(socket: "zmq.Socket[bytes]", hwm: int = MESSAGES_HWM) -> None:
    """Set every option of a ROUTER or DEALER; to be called before bind or connect."""
    own = _ROUTER if socket.type == zmq.ROUTER else _DEALER
    marks = {zmq.SNDHWM: hwm, zmq.RCVHWM: hwm}
    for option, value in (_COMMON | own | marks).items():
        socket.setsockopt(option, value)
    socket.copy_threshold = COPY_BYTES_MAX


def ask_for_keys(socket: "zmq.Socket[bytes]", side: str, secret: bytes) -> None:
    """What is bound from now on has this secret key, and asks the ZAP handler about each peer.

    Without a handler nobody gets in. ``side`` is what the handler calls this socket.
    """
    socket.setsockopt(zmq.ZAP_DOMAIN, side.encode("ascii"))
    socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
    socket.setsockopt(zmq.CURVE_SERVER, 1)
    socket.setsockopt(zmq.CURVE_SECRETKEY, secret)


def show_key(socket: "zmq.Socket[bytes]", server: bytes, secret: bytes) -> None:
    """Connect with this secret key, and only to who has the server's."""
    from farm.keys.pairs import Pair  # noqa: PLC0415 - connections on one machine need none

    socket.setsockopt(zmq.CURVE_SERVERKEY, server)
    socket.setsockopt(zmq.CURVE_PUBLICKEY, Pair.of(secret).public)
    socket.setsockopt(zmq.CURVE_SECRETKEY, secret)
