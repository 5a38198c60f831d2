"""Who may connect: the ZAP handler, on a thread of its own.

libzmq asks it about every peer that has proved to own a key, before anything of that peer is seen
elsewhere. It answers from the keys as they are on disk at that moment; and it looks there a few
times a second, and at once on ``look``, for connections to end. Whoever is refused is counted,
logged once in a while, and told nothing. If this thread ends, nobody can be let in any more, and
nobody would notice: so the process ends.
"""

import logging
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

import zmq

from farm.errors import ConfigError
from farm.identity import Identity
from farm.keys import KeyStore, Ring, Server
from farm.logs import Seldom
from farm.transport import Router, Waker
from farm.transport.frames import read_frames, readable

__all__ = ["REASONS", "Guard"]

logger = logging.getLogger("farm.coordinator")

ZAP = "inproc://zeromq.zap.01"
LOOK_SECONDS = 0.25
"""How often the files are looked at."""
COMPLAIN_SECONDS = 60.0
"""How often is said that the files cannot be read."""
DRAIN = 256
"""The most events taken from one socket before the others have their turn."""
REASONS = (
    "unknown",
    "revoked",
    "expired",
    "wrong_side",
    "without_key",
    "half_open",
)
"""Why peers are refused: their key, where they came with it, that they have none (or were sure of
another server's), or that they did not say in time."""
_FAILED = {
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: "without_key",
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: "half_open",
}
_PUBLIC_BYTES = 32
_REFUSED = b"000"
"""No status that there is: to that libzmq hangs up at once, without a word. To 300 it says nothing
either, and keeps the connection until the handshake has taken too long."""
_OF_ZAP = zmq.PROTOCOL_ERROR_ZAP_UNSPECIFIED
"""The bit of protocol errors that are an answer of this handler."""


class Guard:
    """``wake`` is called, from this thread, when ``take_gone`` or ``take_server`` have news.

    ``died`` is called when the thread ends by itself, and must end the process.
    """

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        store: KeyStore,
        wake: Callable[[], None],
        died: Callable[[], object],
    ) -> None:
        self.refused = dict.fromkeys(REASONS, 0)
        self._store = store
        self._wake = wake
        self._died = died
        self._signature = store.signature()
        self._server: Server | None = store.server()
        self._ring: Ring = store.ring()
        self._valid = self._ring.valid(now := time.time())
        self._valid_until = self._ring.valid_until(now)
        # Bounded by the keys: each is in here once, until the loop has cut its connections.
        self._gone: deque[str] = deque()
        self._seldom = Seldom(logger)
        self.unreadable = ""
        """Why the keys cannot be read, while they cannot."""
        self._complain_at = 0.0
        self._waker = Waker()
        self._stopping = False
        self._zap = context.socket(zmq.REP)
        self._zap.linger = 0
        self._zap.bind(ZAP)
        self._monitors: list[zmq.Socket[bytes]] = []
        self._thread = threading.Thread(target=self._run, name="farm-guard", daemon=True)

    def start(self, routers: Sequence[Router]) -> None:
        """Begin to answer, and to count who fails at these sockets; before they are bound."""
        events = sum(map(int, _FAILED))
        self._monitors = [router.socket.get_monitor_socket(events) for router in routers]
        self._thread.start()

    def look(self) -> None:
        """Look at the files now; may be called from a signal handler."""
        self._waker.wake()

    def close(self) -> None:
        """End the thread; nobody is let in any more."""
        self._stopping = True
        self._waker.wake()
        if self._thread.ident is not None:
            self._thread.join()
        for socket in (self._zap, *self._monitors):
            socket.close(linger=0)
        self._waker.close()

    # ------------------------------------------------------------ for the loop's thread

    def identify(self, side: str) -> Callable[[str], Identity | None]:
        """Who has a key, by its id, if it may connect to this side now."""
        return lambda key: self._ring.identify(key, side, time.time())

    def joined(self, invite: str, name: str) -> Sequence[str]:
        """The ids of keys with which a host of this name has joined by an invite."""
        return self._ring.joined(invite, name)

    @property
    def has_news(self) -> bool:
        """Whether ``take_gone`` or ``take_server`` would return something."""
        return bool(self._gone) or self._server is not None

    def take_gone(self) -> list[str]:
        """Keys that have ended since the last time."""
        return [self._gone.popleft() for _ in range(len(self._gone))]

    def take_server(self) -> Server | None:
        """The server's keys, if they have changed since the last time."""
        server, self._server = self._server, None
        return server

    # ------------------------------------------------------------ its own thread

    def _run(self) -> None:
        try:
            self._serve()
        except BaseException:
            logger.exception("the coordinator ends: nothing checks keys any more")
            self._died()
            raise

    def _serve(self) -> None:
        poller = zmq.Poller()
        for source in (self._zap, *self._monitors, self._waker.fileno()):
            poller.register(source, zmq.POLLIN)
        next_look = 0.0
        while not self._stopping:
            ready = dict(poller.poll(int(LOOK_SECONDS * 1000)))
            now = time.monotonic()
            if self._waker.fileno() in ready:
                self._waker.clear()
                next_look = 0.0
            # Also before anybody is let in: what was made or revoked a moment ago counts.
            if now >= next_look or self._zap in ready:
                self._look()
                next_look = now + LOOK_SECONDS
            for _ in range(DRAIN):
                if not readable(self._zap):
                    break
                self._answer(read_frames(self._zap))
            for monitor in self._monitors:
                for _ in range(DRAIN):
                    if not readable(monitor):
                        break
                    self._count(read_frames(monitor))

    def _answer(self, request: list[bytes]) -> None:
        """One question of libzmq: version, id, domain, address, routing id, mechanism, key."""
        version, number, domain, address, _, mechanism, *proofs = request
        side = domain.decode("ascii", "replace")
        key = proofs[0] if mechanism == b"CURVE" and proofs else b""
        if len(key) != _PUBLIC_BYTES:
            identity, reason = None, "without_key"
        else:
            identity, reason = self._ring.admit(key, side, time.time())
        if identity is None:
            self.refused[reason] += 1
            self._seldom.warning(
                f"a {side} at {address.decode('ascii', 'replace')} is refused: "
                f"{_WORDS.get(reason, reason)}"
            )
            self._zap.send_multipart([version, number, _REFUSED, b"", b"", b""])
            return
        user = identity.key.encode("ascii")
        self._zap.send_multipart([version, number, b"200", b"", user, b""])

    def _count(self, event: list[bytes]) -> None:
        """A peer failed before it could be asked about."""
        kind, value = struct.unpack_from("=HI", event[0])
        if kind == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL and value & _OF_ZAP:
            return  # it has been asked about
        reason = next((why for one, why in _FAILED.items() if one == kind), "")
        if reason:
            self.refused[reason] += 1
            self._seldom.warning(f"a peer is refused: {_WORDS[reason]}")

    def _look(self) -> None:
        """Read the files again if they have changed, and find keys that have ended."""
        try:
            if (signature := self._store.signature()) != self._signature or self.unreadable:
                self._ring, self._server = self._store.ring(), self._store.server()
                self._signature = signature
                self._valid_until = 0.0
                self._wake()
        except (ConfigError, OSError) as error:
            self._complain(str(error))
        else:
            self._complain("")
        now = time.time()
        if now < self._valid_until:  # there may be many keys, and it looks for each that connects
            return
        valid = self._ring.valid(now)
        self._valid_until = self._ring.valid_until(now)
        if gone := self._valid - valid:
            self._gone.extend(gone)
            self._wake()
        self._valid = valid

    def _complain(self, trouble: str) -> None:
        """Say loudly, and again and again, that no change of the keys counts now."""
        now = time.monotonic()
        if trouble and (not self.unreadable or now >= self._complain_at):
            logger.error(
                "the keys cannot be read, so those as they were stay in force, and nothing that was"
                " revoked or made since counts: %s",
                trouble,
            )
            self._complain_at = now + COMPLAIN_SECONDS
        elif self.unreadable and not trouble:
            logger.warning("the keys can be read again, and count as they are now")
        self.unreadable = trouble


_WORDS = {
    "unknown": "the farm does not know its key",
    "revoked": "its key was revoked",
    "expired": "its key has expired",
    "wrong_side": "its key is not for this port",
    "without_key": "it has no key, or expected another server's",
    "half_open": "it did not say who it is",
}
