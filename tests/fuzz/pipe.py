"""What a worker may write to its agent: anything, for user code can reach the pipe.

Bytes first: mutated messages through a real socket pair into the agent's end, which may close but
never raise. Then every message that it lets through is told to a host with work, as the pool tells
it: nothing may raise, and the coordinator must be able to read whatever the host then says.
"""

import socket
from collections import Counter
from random import Random
from typing import Any

from farm.model import Ending
from farm.protocol.codec import decoder
from farm.protocol.messages import Assign, Beat, Failure, Function, Grant, Noted, Report
from farm.transport.numbering import Numbering
from farm_workers import channel
from farm_workers.channel import Channel, Ends, Failed, Note, Ready, Retired
from farm_workers.files import WorkerFiles
from farm_workers.host_roster import Death
from farm_workers.pool import Pool
from tests.fuzz.mutate import Mutator
from tests.fuzz.ports import Found
from tests.unit.host_rig import F, RecordingPort, Rig, S

__all__ = ["fuzz_pipe"]

LIFE_MESSAGES = 60
SLOTS = 2
NOISE = (
    b"\xff" * 8,
    b"\x00" * 8,
    (1 << 27).to_bytes(4, "little") + (1 << 20).to_bytes(4, "little"),
    (4).to_bytes(4, "little") + (1 << 26).to_bytes(4, "little"),
    (6).to_bytes(4, "little") + bytes(4) + b"\x92\x91\x0a\x90\x00\x00",
    (9_002).to_bytes(4, "little") + bytes(4) + b"\x92\x92\x0a" + b"\x91" * 9_000,
)


class _Port(RecordingPort):
    """Packs what the host says, as a real port does, and reads it, as the coordinator will."""

    def __init__(self) -> None:
        super().__init__()
        self.numbering: Numbering[Any] = Numbering(decoder("to_host"))

    def send(self, message: Any) -> None:
        decoder("from_host").decode(self.numbering.pack(message))
        self.calls.append(("send", message))


class _Slot:
    """The part of the pool's worker that hearing needs."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.theirs.setblocking(False)
        self.channel = Channel(self.ours)
        self.error = ""
        self.files = WorkerFiles()
        self.wanted = True
        self.kill_at = 0.0

    def close(self) -> None:
        self.channel.close()
        self.theirs.close()


class _Prints:
    """What workers have written to their streams."""

    def take(self, slot: int) -> bytes:
        return b"printed\xff" * 10


class _Ears:
    """The part of the pool that hears workers."""

    outputs = _Prints()
    _hear: Any = Pool._hear
    _add_output: Any = Pool._add_output


class _Host:
    """A host that holds leases, its workers' slices, and the pipes of both."""

    def __init__(self, chance: Random) -> None:
        self.chance = chance
        self.port = _Port()
        self.rig = Rig(SLOTS, failures_max=1 << 60, port=self.port)
        self.slots = [_Slot() for _ in range(SLOTS)]
        self.given: dict[int, list[Any]] = {number: [] for number in range(SLOTS)}
        self.leases = 0
        self.first = 1
        self.rig.host.receive(Function(F, "fn", b"code"), self.rig.now)
        self.assign()
        assert any(self.given.values()), "no worker has work"

    def close(self) -> None:
        for slot in self.slots:
            slot.close()

    def assign(self) -> None:
        count = self.chance.choice((1, 3, 8))
        packed = self.chance.random() < 0.4
        self.leases += 1
        payloads = [b"a"] * (1 if packed else count)
        grant = Grant(
            self.leases, 1, S, self.first, count, F, payloads, len(payloads), packed,
            expected=self.chance.choice((-1.0, 0.0001, 1.0)),
        )  # fmt: skip
        self.first += count
        self.rig.host.receive(Assign(1, [grant]), self.rig.now)
        self.look()

    def look(self) -> None:
        """Carry out what the host asked for, as a pool would."""
        rig = self.rig
        for name, *rest in self.port.take():
            match name:
                case "run":
                    self.given[rest[0]].append(rest[1])
                case "kill":
                    self.exit(rest[0])
                case "limit":
                    rig.host.on_worker_limited(rest[0], None, rig.now)
                case "spawn":
                    self.slots[rest[0]].close()
                    self.slots[rest[0]] = _Slot()
                    self.given[rest[0]] = []
                    rig.host.on_worker_ready(rest[0], rig.now)
                case "send" if isinstance(rest[0], Report):
                    rig.host.receive(Noted(rest[0].number, 1), rig.now)
                case "send" if isinstance(rest[0], Beat):
                    rig.host.receive(Beat(echo=rest[0].stamp), rig.now)

    def exit(self, number: int) -> None:
        death = Death(-9, self.chance.choice((None, 0, 3)))
        self.rig.host.on_worker_exit(number, death, self.rig.now)
        self.look()

    def message(self, number: int) -> Any:
        """Something that this worker could say."""
        chance = self.chance
        if not self.given[number] or chance.random() < 0.3:
            others = (Ready(), Ready(), Failed("no"), Retired(), Note((1, 1), 1, 0.5, 1.0, "half"))
            return chance.choice(others)
        part = self.given[number][0]
        count = chance.randint(1, part.count)
        packed = part.packed and chance.random() < 0.5
        ending = chance.choice((Ending.OK, Ending.OK, Ending.EXCEPTION, Ending.CANCELLED))
        payloads = [] if ending is Ending.CANCELLED else [b"r"] * (1 if packed else count)
        failure = Failure("exception", "it failed") if ending is Ending.EXCEPTION else None
        if chance.random() < 0.02:
            payloads = [bytes(chance.choice((70_000, 1 << 20))) for _ in payloads]
        end = part.end(
            part.first, count, ending, payloads, packed=packed, seconds=0.01, failure=failure
        )
        if end.first + end.count == part.first + part.count:
            self.given[number].pop(0)
        return Ends([end])

    def says(self, number: int, data: bytes) -> bool:
        """A worker writes; the agent reads. Whether that closed the pipe."""
        slot, now = self.slots[number], self.rig.now
        try:
            slot.theirs.sendall(data)
        except OSError:  # full: the agent has closed its end, or waits for the rest of something
            slot.channel.closed = True
        _Ears()._hear(number, slot, self.rig.host, now, float("inf"))
        if slot.error or not slot.wanted:  # it has exited
            self.exit(number)
        self.look()
        closed = slot.channel.closed and self.slots[number] is slot
        if closed:
            self.exit(number)
        self.rig.now += self.chance.choice((0.0, 0.001, 0.3))
        self.rig.host.on_tick(self.rig.now)
        self.look()
        return closed


def fuzz_pipe(count: int, seed: int = 1) -> Counter[str]:
    """So many mutated messages; what became of them. Raises ``Found``."""
    chance = Random(seed)
    counts: Counter[str] = Counter()
    mutator = Mutator(chance, [[b"\x92\x91\x0a\x90"]])
    told = 0
    while told < count:
        host = _Host(chance)
        try:
            for _ in range(min(LIFE_MESSAGES, count - told)):
                told += 1
                _say_one(host, chance, mutator, counts)
        finally:
            host.close()
    return counts


def _say_one(host: _Host, chance: Random, mutator: Mutator, counts: Counter[str]) -> None:
    if chance.random() < 0.1:
        host.assign()
    slot = chance.randrange(SLOTS)
    head, *attached = channel._pack(host.message(slot))
    data = b"".join([_mutated(chance, mutator, head), *attached])
    counts["messages"] += 1
    try:
        counts["pipes closed"] += host.says(slot, data)
    except Exception as error:
        raise Found(f"the agent raised {error!r} for {data[:400].hex()}") from error


def _mutated(chance: Random, mutator: Mutator, head: bytes) -> bytes:
    """A header and its envelope, changed together so that most still fit, or not."""
    how = chance.random()
    if how < 0.3:
        return head
    if how < 0.4:
        return chance.choice(NOISE) + chance.randbytes(chance.randrange(20))
    if how < 0.5:
        return mutator.data(head)
    if int.from_bytes(head[4:8], "little"):  # attachments follow, and their lengths come first
        return mutator.data(head)
    envelope = mutator.tree(head[8:]) if how < 0.8 else mutator.data(head[8:])
    return len(envelope).to_bytes(4, "little") + head[4:8] + envelope
