"""Whole messages onto and off a socket, with as few and as cheap calls as that takes.

What pyzmq offers for it costs several times what the message does: a call that finds nothing
raises, to ask whether a message has more frames takes longer than to read one, and every flag is
an enum. So flags are plain numbers here, a socket is asked for its events, each frame brings the
answer whether there is one more, and what is sent does not pass through ``zmq.Socket.send``, which
looks for what only other kinds of sockets have.
"""

from collections.abc import Callable, Sequence

import zmq
from zmq.backend import Socket as BareSocket

__all__ = [
    "descriptor_of",
    "key_of",
    "read_frames",
    "read_signed",
    "readable",
    "send_frames",
]

_EVENTS = zmq.EVENTS  # no number: pyzmq would look up what it means
_READABLE = int(zmq.POLLIN)
_DESCRIPTOR = int(zmq.SRCFD)
_NOW = int(zmq.DONTWAIT)
_NOW_AND_MORE = int(zmq.DONTWAIT) | int(zmq.SNDMORE)
_send: Callable[..., object] = BareSocket.send


def readable(socket: "zmq.Socket[bytes]") -> bool:
    """Whether a message has arrived."""
    return bool(socket.get(_EVENTS) & _READABLE)  # type: ignore[operator]  # it is a number


def read_frames(socket: "zmq.Socket[bytes]") -> list[bytes]:
    """The frames of the next message; raises ``zmq.Again`` if there is none.

    They arrive together: whoever has the first has all.
    """
    frame = socket.recv(_NOW, False)
    frames = [frame.bytes]
    while frame.more:
        frame = socket.recv(_NOW, False)
        frames.append(frame.bytes)
    return frames


def read_signed(socket: "zmq.Socket[bytes]") -> tuple[list[bytes], zmq.Frame]:
    """The same, and the last of them as it came, which says who sent it."""
    frame = socket.recv(_NOW, False)
    frames = [frame.bytes]
    while frame.more:
        frame = socket.recv(_NOW, False)
        frames.append(frame.bytes)
    return frames, frame


def key_of(frame: zmq.Frame) -> str:
    """What the ZAP handler calls the key of whoever sent a frame; empty if it has none."""
    try:
        return str(frame.get("User-Id"))
    except zmq.ZMQError:
        return ""


def descriptor_of(frame: zmq.Frame) -> int:
    """The file descriptor of the connection on which a frame came."""
    return int(frame.get(_DESCRIPTOR))


def send_frames(socket: "zmq.Socket[bytes]", frames: Sequence[bytes], *, copy: bool) -> None:
    """Send a message; raises ``zmq.Again`` if it cannot leave now, and then none of it has.

    Unless ``copy``, frames of at least the socket's ``copy_threshold`` are lent, not copied.
    """
    last = len(frames) - 1
    for at in range(last):
        _send(socket, frames[at], _NOW_AND_MORE, copy)
    _send(socket, frames[last], _NOW, copy)
