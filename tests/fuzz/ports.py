"""Mutated frames at the decoders of both ports, and what passes them on into the core.

A core is driven as its shell drives it; after each message its invariants must hold. Every so
many messages it is killed, loaded from what it had committed, and at last replaced.
"""

from collections import Counter
from random import Random
from typing import Any

import psutil

from farm.errors import ProtocolError
from farm.protocol import messages as m
from farm.protocol.codec import decoder, encode
from tests.fuzz.mutate import Mutator
from tests.fuzz.talk import FUNCTION, HostTalk, Talk, client_hello, host_hello
from tests.golden.frames import SAMPLES, read
from tests.unit.core_harness import Rig

__all__ = ["Found", "fuzz_decoders"]

CLIENTS, HOSTS = ("alice", "bob"), ("h1", "h2")
LIFE_FRAMES = 400
"""A farm is fuzzed for so long, then a new one."""
OLD_SHARE = 0.25
"""How many of the frames are mutations of the golden ones, which know nothing of the farm."""
GROWTH_BYTES_MAX = 24 << 20
"""What a process may grow by in the second half of a run; caches are full after the first."""


class Found(AssertionError):
    """A frame did what no frame may do; says which."""


class _Farm:
    """A core with two clients and two hosts whose every word may be mutated."""

    def __init__(self, chance: Random, counts: Counter[str]) -> None:
        self.chance = chance
        self.counts = counts
        self.rig = Rig(
            lease_seconds=5.0,
            beat_seconds=1.0,
            max_tasks=200,
            max_bytes=4096,
            session_tasks=100,
            session_bytes=2048,
            payload_bytes_max=1000,
            resident_result_bytes=20,
        )
        self.talks: dict[str, Talk | HostTalk] = {}
        for name in CLIENTS:
            self.talks[name] = Talk(chance, name.encode())
        for name in HOSTS:
            self.talks[name] = HostTalk(chance, name)
        self.connection = 0
        self.peers: dict[str, str] = {}
        for name in self.talks:
            self.connect(name)

    def connect(self, name: str) -> list[bytes]:
        """A new connection, with a proper HELLO."""
        peer = self.rig._connect(name, "host" if name in HOSTS else "client")
        self.peers[name] = peer
        self.connection += 1
        self.say(peer, self.hello(name))
        if name in CLIENTS:
            self.say(peer, FUNCTION)
        return []

    def hello(self, name: str) -> Any:
        talk = self.talks[name]
        if isinstance(talk, HostTalk):
            return host_hello(name, self.connection, claims=talk.claims())
        return client_hello(name.encode(), self.connection)

    def say(self, peer: str, message: Any) -> None:
        rig = self.rig
        rig.say(peer, message, tick=self.chance.random() < 0.5)
        if self.chance.random() < 0.2:
            rig.commit()
            rig.answer_loads()
        if self.chance.random() < 0.02:
            rig.tick(self.chance.choice((0.3, 2.0, 6.0)))
        for to, said in rig.take():
            name = to.split("#")[0]
            if to == self.peers.get(name):
                self.talks[name].hears(said)
        closed, rig.closed = rig.closed, []
        for to in closed:
            name = to.split("#")[0]
            if to == self.peers.get(name):
                del self.peers[name]

    def restart(self) -> None:
        """Killed between two commits, and loaded again."""
        self.rig.reload(commit=self.chance.randrange(6))
        self.peers.clear()
        for name in self.talks:
            self.connect(name)


def fuzz_decoders(frames: int, seed: int = 1) -> Counter[str]:
    """So many frames; what became of them. Raises ``Found``."""
    chance = Random(seed)
    counts: Counter[str] = Counter()
    golden = read()
    mutator = Mutator(chance, list(golden.values()))
    process = psutil.Process()
    half = 0
    farm = _Farm(chance, counts)
    for number in range(frames):
        if number == frames // 2:
            half = process.memory_info().rss
        if number % LIFE_FRAMES == LIFE_FRAMES - 1:
            farm = _Farm(chance, counts)
        elif number % LIFE_FRAMES == LIFE_FRAMES // 2:
            farm.restart()
        name = chance.choice(list(farm.talks))
        side = "host" if name in HOSTS else "client"
        mutated = _make(chance, mutator, farm, name, side, golden)
        counts[f"{side} port"] += 1
        _try(farm, name, side, mutated, counts)
    counts["grown KiB"] = (process.memory_info().rss - half) >> 10
    if counts["grown KiB"] > GROWTH_BYTES_MAX >> 10:
        raise Found(f"the process grew by {counts['grown KiB']} KiB in the second half")
    return counts


def _make(
    chance: Random,
    mutator: Mutator,
    farm: _Farm,
    name: str,
    side: str,
    golden: dict[str, list[bytes]],
) -> list[bytes]:
    if chance.random() < OLD_SHARE:
        ours = [key for key in SAMPLES if key.startswith(f"from_{side}")]
        return mutator.frames(golden[chance.choice(ours)])
    if chance.random() < 0.05:
        farm.connection += 1
        message = farm.hello(name)
    else:
        message = farm.talks[name].message()
    frames = encode(0, message)
    # Much of it stays whole, or the farm would have nothing to do.
    return frames if chance.random() < 0.3 else mutator.frames(frames)


def _try(farm: _Farm, name: str, side: str, frames: list[bytes], counts: Counter[str]) -> None:
    """One message, as the router and the loop treat it."""
    try:
        _, message = decoder(f"from_{side}").decode(frames)
    except ProtocolError:
        counts["refused by the decoder"] += 1
        return
    except Exception as error:
        raise Found(f"the decoder raised {error!r} for {_hex(frames)}") from error
    counts["taken by the core"] += 1
    if name not in farm.peers or isinstance(message, m.ClientHello | m.HostHello):
        if name in farm.peers:
            farm.rig.drop(farm.peers.pop(name))
        peer = farm.peers[name] = farm.rig._connect(name, side)
        if not isinstance(message, m.ClientHello | m.HostHello):
            farm.connection += 1
            farm.say(peer, farm.hello(name))
    try:
        if (peer := farm.peers.get(name)) is not None:
            farm.say(peer, message)
    except Exception as error:
        raise Found(f"the core raised {error!r} for {message!r}") from error
    if farm.rig.stopped is not None:  # as it must, before peers that have seen a later epoch
        counts["stepped down"] += 1
        farm.__init__(farm.chance, counts)  # type: ignore[misc]


def _hex(frames: list[bytes]) -> list[str]:
    return [frame[:400].hex() for frame in frames]
