"""Mutated messages through real sockets at a real coordinator, which must not notice much.

A connection says HELLO, then what its peer could say, changed; it ends with the first message that
the coordinator must refuse. No bug may be logged, neither memory nor descriptors may grow, and a
real client and host are served afterwards. What has grown is seen when all tasks are over and
nothing of them is remembered, eight times: the first parts of a run fill tables and caches.
"""

import sys
import time
from collections import Counter
from itertools import pairwise
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
from tests.fuzz import measured
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
    "unclaimed_ttl": 5.0,
    "history_ttl": 5.0,
    "key_ttl": 5.0,
    "host_ttl": 5.0,
}
"""What is remembered at all is soon forgotten, or the first half would not fill the tables."""
MESSAGES_MAX = 40
ANSWER_SECONDS = 20.0
LAST_WORD_SECONDS = 0.5
"""A connection that began in the middle is no news to the coordinator, and gets no answer."""
FILES_GROWTH_MAX = 8
ITEMS_MAX = 1024
"""No task of more items is sent, where it would be taken. Items may end one by one, and then each
is an object or two: 0.7 KiB if it is tried again, and 1 KiB if its outcome waits for its client. A
single task of 65,536, which a mutation makes in every second run or so, took 45 MiB in this way."""
REST_SECONDS = 90.0
LOOK_SECONDS = 0.2
LOOKS = 5
REST_FRAMES = 20_000
"""A shorter run does not fill what is filled once, and says little of what is allocated."""
PARTS = 8
"""A run is measured so often. What is filled once is filled in two or three of the parts, and now
and then a table grows or shrinks; of all steps the middle one is judged: a leak grows in all."""
ALLOCATED_BYTES_MAX = 64 << 10
ALLOCATED_SHARE = 1
"""So much may be allocated in a part, and so much a frame. Frames have 527 bytes: if one in a
hundred leaks, 25,000 leave 129 KiB, and 88 may be. Shorter runs would show less."""
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
        if isinstance(message, m.Submit) and any(
            group.count > ITEMS_MAX for group in message.groups
        ):
            return None
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


class _Measured:
    """A coordinator, and what it holds."""

    def __init__(self, place: Place) -> None:
        self.sizes: list[dict[str, int]] = []
        self._asking = str(place.folder / "m")
        told = {"listen": place.address, "store": str(place.store), "core": CORE, "ready_fd": None}
        environ = {measured.PATH: self._asking} | measured.ENVIRONMENT
        self.service = place.module("coordinator", measured.__name__, told, **environ)
        self.service.start()
        self._address = place.address
        self._process = psutil.Process(self.service.pid)

    def check(self) -> None:
        if not self.service.alive:
            raise Found(f"the coordinator has ended: {self.service.log.read_text()[-2000:]}")

    def measure(self, *, at_rest: bool) -> None:
        """Note its size: its bytes, resident and allocated, and its open files."""
        if at_rest:
            self._rest()
        self._settle()
        memory = self._process.memory_info().rss
        allocated = -1
        if at_rest:  # the least: now and then it has something to do
            allocated = min(self._allocated() for _ in range(LOOKS))
        files = self._process.num_fds()
        self.sizes.append({"resident": memory, "allocated": allocated, "descriptors": files})

    def _allocated(self) -> int:
        time.sleep(LOOK_SECONDS)
        return measured.in_use(self._asking)

    def _rest(self) -> None:
        """Wait until tasks have ended, by force, and what is remembered of them is forgotten."""
        with farm.Client(self._address, connect_timeout=ANSWER_SECONDS) as client:
            until = time.monotonic() + REST_SECONDS
            while time.monotonic() < until:
                status: Any = client.query("status")
                for queue in status["queues"]:
                    client.query("purge_queue", name=queue["name"])
                limits, rows = status["limits"], status["history"]["rows"]
                if not (status["tasks"] or limits["keys"] or rows):
                    return
                time.sleep(LOOK_SECONDS)
            if limits["open_tasks"]:  # results may be kept for very long, if a mutation says so
                raise Found(f"after {REST_SECONDS:g} s there are tasks yet: {status['tasks']}")

    def _settle(self) -> None:
        """Wait until the connections that were closed last are closed there, too."""
        files, until = self._process.num_fds(), time.monotonic() + ANSWER_SECONDS
        while time.monotonic() < until:
            time.sleep(LOOK_SECONDS)
            before, files = files, self._process.num_fds()
            if files == before:
                break

    def grown(self, frames: int) -> dict[str, int]:
        """By how much in the second half; of what is allocated, in a part, of so many frames."""
        first, last = self.sizes[PARTS // 2 - 1], self.sizes[-1]
        grown = {what: last[what] - first[what] for what in first}
        steps = [after["allocated"] - before["allocated"] for before, after in pairwise(self.sizes)]
        grown["allocated"] = sorted(steps)[len(steps) // 2]
        allowed = {
            "resident": GROWTH_BYTES_MAX,
            "allocated": ALLOCATED_BYTES_MAX + frames * ALLOCATED_SHARE,
            "descriptors": FILES_GROWTH_MAX,
        }
        for what, most in allowed.items():
            if grown[what] > most:
                told = [size[what] for size in self.sizes]
                raise Found(
                    f"the coordinator grew: {grown[what]:,} {what}, {most:,} may be: {told}"
                )
        return grown


def fuzz_sockets(frames: int, seed: int = 1) -> Counter[str]:
    """So many frames; what became of them. Raises ``Found``."""
    with Place("fuzz") as place:
        coordinator = _Measured(place)
        peers = _Peers(Random(seed), place.address, _epoch(place))
        counts = peers.counts
        try:
            for part in range(1, PARTS + 1):
                while counts["frames"] < frames * part // PARTS:
                    peers.connection()
                    coordinator.check()
                coordinator.measure(at_rest=frames >= REST_FRAMES)
        finally:
            peers.close()
        grown = coordinator.grown(frames // PARTS)
        counts["grown KiB"] = grown["resident"] >> 10
        counts["grown KiB, allocated"] = grown["allocated"] >> 10
        counts["grown descriptors"] = grown["descriptors"]
        _served(place)
        if complaints := place.complaints():
            raise Found("; ".join(complaints[:5]))
        if code := coordinator.service.end():
            raise Found(f"the coordinator ended with {code}")
    return counts


def _epoch(place: Place) -> int:
    client = farm.Client(place.address, connect_timeout=ANSWER_SECONDS)
    with client:
        status: Any = client.query("status")
        return int(status["epoch"])


def _served(place: Place) -> None:
    """A real host and a real client find a farm that works, whatever lies in its queue."""
    agent = place.agent("honest")
    agent.start()
    with farm.Client(place.address, connect_timeout=ANSWER_SECONDS) as client:
        urgent = client.options(priority=100)
        if urgent.submit(factorial, 20).result(timeout=60.0) != factorial(20):
            raise Found("the farm gives wrong results")
    agent.end()
