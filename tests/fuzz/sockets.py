"""Mutated messages through real sockets at a real coordinator, which must not notice much.

A connection says HELLO, then what its peer could say, changed; it ends with the first message that
the coordinator must refuse. No bug may be logged, neither memory nor descriptors may grow, and a
real client and host are served afterwards.
"""

import sys
import time
from collections import Counter
from math import factorial
from random import Random
from typing import Any

import psutil
import zmq

import farm
from farm.errors import ProtocolError
from farm.protocol import messages as m
from farm.protocol.codec import decoder, encode
from farm.transport import host_address, parse_address
from tests.fuzz.mutate import Mutator
from tests.fuzz.ports import GROWTH_BYTES_MAX, Found
from tests.fuzz.talk import HostTalk, Talk, client_hello, host_hello
from tests.golden.frames import SAMPLES, read
from tests.processes import Place

__all__ = ["fuzz_sockets"]

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
CORE = {
    "lease_seconds": 1.0,
    "beat_seconds": 0.25,
    "max_tasks": 500,
    "max_bytes": 1 << 20,
    "session_bytes": 1 << 20,
    "payload_bytes_max": 1 << 19,
    "session_ttl": 5.0,
    "result_ttl": 5.0,
}
MESSAGES_MAX = 40
ANSWER_SECONDS = 20.0
LAST_WORD_SECONDS = 0.5
"""A connection that began in the middle is no news to the coordinator, and gets no answer."""
FILES_GROWTH_MAX = 8
STRAYS = 2
"""So many frames follow the one that was refused: they must be dropped without a word."""


class _Peers:
    """Connections of two clients and two hosts, one after the other."""

    def __init__(self, chance: Random, address: str, epoch: int) -> None:
        self.chance = chance
        self.epoch = epoch
        self.counts: Counter[str] = Counter()
        parsed = parse_address(address)
        self._addresses = {"client": str(parsed), "host": str(host_address(parsed))}
        self._context = zmq.Context()
        self._golden = read()
        self._mutator = Mutator(chance, list(self._golden.values()))
        self._talks: dict[str, Talk | HostTalk] = {}
        for name in ("alice", "bob"):
            self._talks[name] = Talk(chance, name.encode())
        for name in ("h1", "h2"):
            self._talks[name] = HostTalk(chance, name)
        self._connection = 0

    def close(self) -> None:
        self._context.destroy(linger=0)

    def connection(self) -> None:
        """One connection, until it is refused or has said enough."""
        name = self.chance.choice(list(self._talks))
        talk = self._talks[name]
        side = "host" if isinstance(talk, HostTalk) else "client"
        self._connection += 1
        socket = self._context.socket(zmq.DEALER)
        socket.linger = 1000
        socket.connect(self._addresses[side])
        try:
            self._speak(socket, side, name, talk)
        finally:
            socket.close()

    def _speak(self, socket: Any, side: str, name: str, talk: Talk | HostTalk) -> None:
        chance = self.chance
        number = 0
        if chance.random() < 0.9:
            self._send(socket, encode(0, self._hello(name, talk)))
            number = 1
        for _ in range(chance.randint(1, MESSAGES_MAX)):
            frames = self._frames(side, number, talk)
            if (taken := self._is_taken(side, number, frames)) is None:
                continue
            self._send(socket, frames)
            self._listen(socket, talk, 0)
            if not taken:
                for _ in range(STRAYS):
                    self._send(socket, self._frames(side, number, talk))
                break
            number += 1
        else:
            self._send(socket, encode(number, m.Beat(stamp=2.5)))
        self._listen(socket, talk, LAST_WORD_SECONDS)

    def _hello(self, name: str, talk: Talk | HostTalk) -> Any:
        # Of the clock, for a coordinator that remembers a session refuses older connections.
        connection = self._connection
        if isinstance(talk, HostTalk):
            return host_hello(name, connection, PYTHON, talk.claims())
        return client_hello(name.encode(), connection, PYTHON)

    def _frames(self, side: str, number: int, talk: Talk | HostTalk) -> list[bytes]:
        chance = self.chance
        if chance.random() < 0.1:
            ours = [key for key in SAMPLES if key.startswith(f"from_{side}")]
            return self._mutator.frames(self._golden[chance.choice(ours)])
        frames = encode(number, talk.message())
        return frames if chance.random() < 0.4 else self._mutator.frames(frames)

    def _is_taken(self, side: str, number: int, frames: list[bytes]) -> bool | None:
        """Whether the router passes it on; None if it must not be sent at all."""
        try:
            found, message = decoder(f"from_{side}").decode(frames)
        except ProtocolError:
            return False
        if isinstance(message, m.ClientHello | m.HostHello):
            # It would step down, and rightly: this peer has seen a later coordinator.
            return None if message.epoch_seen > self.epoch else False
        if isinstance(message, m.Bye):
            return False
        return found == number and number > 0

    def _send(self, socket: Any, frames: list[bytes]) -> None:
        if frames:
            socket.send_multipart(frames)
            self.counts["frames"] += len(frames)
            self.counts["messages"] += 1

    def _listen(self, socket: Any, talk: Talk | HostTalk, seconds: float) -> None:
        """Hear what has come; with a time, wait until the coordinator has answered the last."""
        until = time.monotonic() + seconds
        while True:
            left = max(0.0, until - time.monotonic())
            if not socket.poll(int(left * 1000)):
                if seconds:
                    self.counts["silent ends"] += 1
                return
            side = "host" if isinstance(talk, HostTalk) else "client"
            _, message = decoder(f"to_{side}").decode(socket.recv_multipart())
            talk.hears(message)
            if isinstance(message, m.Rejected):
                self.counts["rejected"] += 1
                return
            if isinstance(message, m.Beat) and message.echo == 2.5:
                return


def _size(process: psutil.Process) -> tuple[int, int]:
    return process.memory_info().rss, process.num_fds()


def fuzz_sockets(frames: int, seed: int = 1) -> Counter[str]:
    """So many frames; what became of them. Raises ``Found``."""
    with Place("fuzz") as place:
        coordinator = place.coordinator(CORE, ready_fd=None)
        coordinator.start()
        peers = _Peers(Random(seed), place.address, _epoch(place))
        try:
            process = psutil.Process(coordinator.pid)
            half = _size(process)
            while peers.counts["frames"] < frames:
                if peers.counts["frames"] < frames // 2:
                    half = _size(process)
                peers.connection()
                if not coordinator.alive:
                    raise Found(f"the coordinator has ended: {coordinator.log.read_text()[-2000:]}")
            grown = [end - begin for begin, end in zip(half, _settled(process), strict=True)]
            counts = peers.counts
        finally:
            peers.close()
        counts["grown KiB"], counts["grown descriptors"] = grown[0] >> 10, grown[1]
        if grown[0] > GROWTH_BYTES_MAX or grown[1] > FILES_GROWTH_MAX:
            raise Found(
                f"in the second half the coordinator grew by {grown[0]} B, {grown[1]} files"
            )
        _served(place)
        if complaints := place.complaints():
            raise Found("; ".join(complaints[:5]))
        if code := coordinator.end():
            raise Found(f"the coordinator ended with {code}")
    return counts


def _epoch(place: Place) -> int:
    client = farm.Client(place.address, connect_timeout=ANSWER_SECONDS)
    with client:
        status: Any = client.query("status")
        return int(status["epoch"])


def _settled(process: psutil.Process) -> tuple[int, int]:
    """Its size once the connections that were closed last are closed there, too."""
    size = _size(process)
    until = time.monotonic() + ANSWER_SECONDS
    while time.monotonic() < until:
        time.sleep(0.2)
        before, size = size, _size(process)
        if size[1] == before[1]:
            break
    return size


def _served(place: Place) -> None:
    """A real host and a real client find a farm that works, whatever lies in its queue."""
    agent = place.agent("honest")
    agent.start()
    with farm.Client(place.address, connect_timeout=ANSWER_SECONDS) as client:
        urgent = client.options(priority=100)
        if urgent.submit(factorial, 20).result(timeout=60.0) != factorial(20):
            raise Found("the farm gives wrong results")
    agent.end()
