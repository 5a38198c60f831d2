"""Messages between the agent and one worker, over a socket pair.

A message is a header, an envelope of msgpack and, for payloads above ``ATTACH_BYTES``, the
payloads as they are. ``Channel`` is the agent's end: it never blocks, and what a worker writes
can make it ``closed`` but never raise. ``Pipe`` is the worker's end: it blocks, and raises
``EOFError`` or ``OSError`` when the agent is gone.
"""

import select
import socket
import struct
from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Any, Generic, TypeVar

import msgspec

from farm.model import Blob, Payload
from farm.protocol.encoding import to_msgpack
from farm.protocol.entries import MALFORMED
from farm.protocol.messages import PAYLOAD_BYTES_MAX
from farm_workers.host_slices import Key, Slice, SliceEnd

__all__ = [
    "BUFFER_BYTES",
    "READING",
    "TURN_BYTES",
    "Channel",
    "Ends",
    "Failed",
    "Folder",
    "FromWorker",
    "FunctionData",
    "Note",
    "Pipe",
    "Ready",
    "Retired",
    "Setup",
    "ToWorker",
    "Waits",
]

ATTACH_BYTES = 1 << 16
BUFFER_BYTES = 1 << 18
"""Read at once; a larger message gets a larger buffer."""
KEPT_BYTES = 2 << 20
"""A larger buffer is kept up to this size: another such message is likely to follow."""
MESSAGE_BYTES_MAX = 1 << 28
"""Nothing valid is larger: a slice or a flush has at most a few MiB, or one payload more."""
ATTACHMENTS_MAX = MESSAGE_BYTES_MAX // ATTACH_BYTES
TURN_BYTES = 8 << 20
"""The agent reads about this much of one worker before the others have their turn."""
BUFFERS_AT_ONCE = 64
_HEADER = struct.Struct("<II")  # bytes of the envelope, number of attachments
_LENGTH = struct.Struct("<I")

M = TypeVar("M")


class Message(msgspec.Struct, array_like=True, gc=False):
    """A message of the pipe."""


class Setup(Message, tag=2):
    """The first message: who the host is, and what to do before the first task.

    ``group`` is the memory cgroup that this worker may make, and of which version it is;
    ``imports`` are modules that register functions.
    ``uploads`` is its place for uploaded modules; what the agent makes it from has where all are.
    ``address``, ``token`` and ``keys`` are with what its tasks are clients of the farm, as
    ``Credentials`` takes it, ``max_lent`` is as in ``HostSettings``.
    """

    host: str
    initializer: bytes | None = None
    group: tuple[int, str] | None = None
    imports: list[str] = []
    address: str = ""
    max_lent: int = 0
    token: str = ""
    keys: str = ""
    uploads: str = ""


class FunctionData(Message, tag=3):
    """A function's bytes."""

    hash: bytes
    name: str
    data: bytes


class Ready(Message, tag=10):
    """The worker can take slices."""


class Failed(Message, tag=11):
    """The initializer raised; the worker exits."""

    error: str


class Ends(Message, tag=12):
    """What has ended since the last message."""

    parts: list[SliceEnd]


class Note(Message, tag=13):
    """How far a running task is."""

    key: Key
    counter: int
    done: float
    total: float
    note: str


class Waits(Message, tag=16):
    """The item with this ordinal begins to wait for other tasks of the farm, or goes on."""

    ordinal: int
    begins: bool


class Retired(Message, tag=15):
    """The worker runs nothing more and exits: it is no place for what it was given. No blame."""


READING = "in"
"""Begins the names of files that a worker reads; it writes under the others."""


class Folder(Message, tag=4):
    """The blob folder: where it is, and where this worker's names lie and how they begin."""

    root: str
    own: str
    prefix: str


ToWorker = Setup | FunctionData | Slice | Folder
FromWorker = Ready | Failed | Ends | Note | Retired | Waits


class _Envelope(msgspec.Struct, Generic[M], array_like=True, gc=False):
    message: M
    places: list[tuple[int, int]] = []


_to_worker: "msgspec.msgpack.Decoder[Any]" = msgspec.msgpack.Decoder(_Envelope[ToWorker])
_from_worker: "msgspec.msgpack.Decoder[Any]" = msgspec.msgpack.Decoder(_Envelope[FromWorker])


def _entries(message: object) -> Sequence[Slice | SliceEnd]:
    if isinstance(message, Slice):
        return (message,)
    return message.parts if isinstance(message, Ends) else ()


def _pack(message: ToWorker | FromWorker) -> list[bytes]:
    """The buffers of a message, in order."""
    places: list[tuple[int, int]] = []
    attached: list[bytes] = []
    held: list[tuple[Slice | SliceEnd, list[Payload]]] = []
    for e, entry in enumerate(_entries(message)):
        payloads = entry.payloads
        if payloads and max(map(len, payloads)) > ATTACH_BYTES:
            held.append((entry, payloads))
            entry.payloads = list(payloads)
            for p, payload in enumerate(payloads):
                if len(payload) > ATTACH_BYTES and not isinstance(payload, Blob):
                    places.append((e, p))
                    attached.append(payload)
                    entry.payloads[p] = b""
    envelope = to_msgpack((message, places))
    for entry, payloads in held:
        entry.payloads = payloads
    if not attached:
        return [_HEADER.pack(len(envelope), 0) + envelope]
    lengths = b"".join([_LENGTH.pack(len(payload)) for payload in attached])
    return [_HEADER.pack(len(envelope), len(attached)) + lengths + envelope, *attached]


class _Reader:
    """Cuts what is read from a socket into messages.

    No envelope, and so no payload in one, is larger than ``envelope_bytes_max``; no attachment
    larger than a payload may be.
    """

    def __init__(self, decoder: "msgspec.msgpack.Decoder[Any]", envelope_bytes_max: int) -> None:
        self._decoder = decoder
        self._envelope_bytes_max = envelope_bytes_max
        self._view = memoryview(bytearray(BUFFER_BYTES))
        self._end = 0
        self._need = 0
        self.emptied = False

    def read(self, sock: socket.socket) -> int:
        """Read once; returns the number of bytes, 0 at the end.

        ``emptied``: the socket had no more than that.
        """
        if self._need > len(self._view):
            self._resize(self._need, 0)
        free = self._view[self._end :]
        count = sock.recv_into(free)
        self.emptied = count < len(free)
        self._end += count
        return count

    def _resize(self, size: int, start: int) -> None:
        """A buffer of this size, with what was read from ``start`` on."""
        view = memoryview(bytearray(size))
        self._end -= start
        view[: self._end] = self._view[start : start + self._end]
        self._view = view

    def take(self) -> list[Any]:
        """The complete messages; raises ``ValueError`` for what is none."""
        if self._end < self._need:
            return []
        found: list[Any] = []
        view, start, size = self._view, 0, _HEADER.size
        while start < self._end and (size := self._size(view, start)) <= self._end - start:
            found.append(self._decode(view[start : start + size]))
            start += size
            size = _HEADER.size
        self._need = size
        if len(view) > KEPT_BYTES and size <= BUFFER_BYTES:
            self._resize(BUFFER_BYTES, start)
        elif start:
            rest = self._end - start
            if rest:
                view[:rest] = view[start : self._end]
            self._end = rest
        return found

    def _size(self, view: memoryview, start: int) -> int:
        """The bytes of the message that begins here, or as many as are needed to know."""
        have = self._end - start
        if have < _HEADER.size:
            return _HEADER.size
        envelope, attached = _HEADER.unpack_from(view, start)
        size = _HEADER.size + _LENGTH.size * attached
        if attached > ATTACHMENTS_MAX or envelope > self._envelope_bytes_max:
            raise ValueError("a message is larger than any can be")
        if have >= size and attached:
            lengths = struct.unpack_from(f"<{attached}I", view, start + _HEADER.size)
            if max(lengths) > PAYLOAD_BYTES_MAX:
                raise ValueError("a payload is larger than any can be")
            size += sum(lengths)
        if size + envelope > MESSAGE_BYTES_MAX:
            raise ValueError("a message is larger than any can be")
        return int(size + envelope)

    def _decode(self, view: memoryview) -> Any:
        envelope, attached = _HEADER.unpack_from(view)
        start = _HEADER.size + _LENGTH.size * attached
        opened = self._decoder.decode(view[start : start + envelope])
        if attached != len(opened.places):
            raise ValueError("a message does not say where its attachments belong")
        if attached:
            entries = _entries(opened.message)
            lengths = struct.unpack_from(f"<{attached}I", view, _HEADER.size)
            start += envelope
            for (e, p), length in zip(opened.places, lengths, strict=True):
                try:
                    entries[e].payloads[p] = bytes(view[start : start + length])
                except IndexError:
                    raise ValueError("an attachment belongs nowhere") from None
                start += length
        return opened.message


class Channel:
    """The agent's end. ``closed``: nothing more will come; ``behind``: wait until writable.

    ``deaf``: the worker reads no more. What it has said is there all the same.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.socket = sock
        self.closed = self.deaf = False
        self._reader = _Reader(_from_worker, PAYLOAD_BYTES_MAX)
        # Bounded by what a pipe may hold: PIPE_SLICES_MAX slices and their functions.
        self._out: deque[bytes | memoryview] = deque()

    @property
    def behind(self) -> bool:
        """Whether something waits to be written."""
        return bool(self._out)

    def put(self, message: ToWorker) -> None:
        """Queue a message; ``flush`` sends it."""
        if not self.deaf:
            self._out += _pack(message)

    def flush(self) -> None:
        """Write what the socket takes."""
        out = self._out
        while out and not self.closed:
            try:
                count = self.socket.sendmsg([*islice(out, BUFFERS_AT_ONCE)])
            except BlockingIOError:
                return
            except OSError:
                self.deaf = True
                out.clear()
                return
            while count:
                if count < len(out[0]):
                    out[0] = memoryview(out[0])[count:]
                    break
                count -= len(out.popleft())

    def receive(self, limit: float = TURN_BYTES) -> list[FromWorker]:
        """What the worker has said, until there is no more or it is about ``limit`` bytes.

        Nonsense closes the channel.
        """
        found: list[FromWorker] = []
        size = 0
        while not self.closed and size < limit:
            try:
                count = self._reader.read(self.socket)
                found += self._reader.take()
            except BlockingIOError:
                break
            except (OSError, *MALFORMED):
                self.closed = True
                break
            if not count:
                self.closed = True
            size += count
            if self._reader.emptied:
                break
        return found

    def close(self) -> None:
        """The worker sees the end of its pipe."""
        self.closed = True
        self.socket.close()


class Pipe:
    """The worker's end."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(True)
        self._socket = sock
        self._reader = _Reader(_to_worker, MESSAGE_BYTES_MAX)
        self._found: deque[ToWorker] = deque()  # bounded by one read
        self._poller = select.poll()
        self._poller.register(sock, select.POLLIN)

    @property
    def waiting(self) -> bool:
        """Whether a message can be taken without reading."""
        return bool(self._found)

    def idle(self, seconds: float) -> bool:
        """Whether there is no message, nor comes any within this time."""
        if self._found:
            return False
        return not self._poller.poll(seconds * 1000)

    def get(self) -> ToWorker:
        """The next message; waits for it.

        By polling: whoever sleeps in a read is woken, too, when the other end reads.
        """
        while not self._found:
            self._poller.poll()
            if not self._reader.read(self._socket):
                raise EOFError("the agent is gone")
            self._found.extend(self._reader.take())
        return self._found.popleft()

    def put(self, message: FromWorker) -> None:
        """Write a message; waits until it is written."""
        buffers: list[bytes | memoryview] = [*_pack(message)]
        while buffers:
            count = self._socket.sendmsg(buffers[:BUFFERS_AT_ONCE])
            while count:
                if count < len(buffers[0]):
                    buffers[0] = memoryview(buffers[0])[count:]
                    break
                count -= len(buffers.pop(0))
