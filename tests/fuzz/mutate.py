"""Bytes and messages made wrong, a little or a lot, by a seed."""

import struct
from random import Random
from typing import Any

import msgspec

__all__ = ["Mutator"]

# What begins something huge, deep or strange in msgpack, and the ends of its integers.
TOKENS = (
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\xdc\xff\xff",
    b"\xc9\xff\xff\xff\xff\x05",
    b"\xd6\xff\xff\xff\xff\xff",
    b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\xcf\x40\x00\x00\x00\x00\x00\x00\x00",
    b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00",
    b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00",
    b"\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00",
    b"\xc0",
    b"\xc1",
    b"\xc2",
    b"\x80",
    b"\x90",
    b"\xa1\xff",
)
VALUES = (
    *(0, 1, -1, 2, 127, 511, 512, 513, 65_535, 65_536, 65_537, 1 << 31, 1 << 32),
    *((1 << 62) - 1, 1 << 62, (1 << 62) + 1, (1 << 63) - 1, (1 << 64) - 1, -(1 << 63)),
    *(0.0, -0.0, -1.5, 1e12, 1e308, float("inf"), float("-inf"), float("nan")),
    *(None, True, False, "", "name", "\u00e9" * 40, b"", bytes(16), b"\xff" * 300),
)
DEEP = 3_000
MUTATIONS_MAX = 4


class Mutator:
    """Makes changed copies; ``corpus`` is what other messages' parts are taken from."""

    def __init__(self, chance: Random, corpus: list[list[bytes]]) -> None:
        self.chance = chance
        self.corpus = corpus

    def frames(self, frames: list[bytes]) -> list[bytes]:
        """A message of one or more frames, changed."""
        chance = self.chance.random()
        made = list(frames)
        if chance < 0.1:
            return self._reframed(made)
        at = 0 if chance < 0.9 else self.chance.randrange(len(made))
        made[at] = self.tree(made[at]) if chance < 0.5 else self.data(made[at])
        return made

    def _reframed(self, frames: list[bytes]) -> list[bytes]:
        """Frames added, lost, repeated or taken from elsewhere."""
        at = self.chance.randrange(len(frames))
        match self.chance.randrange(4):
            case 0:
                del frames[at]
            case 1:
                frames.insert(at, frames[at])
            case 2:
                frames.append(self.chance.randbytes(self.chance.randrange(40)))
            case 3:
                frames[at] = self._other()
        return frames

    def _other(self) -> bytes:
        return self.chance.choice(self.chance.choice(self.corpus))

    # ------------------------------------------------------------ bytes

    def data(self, data: bytes) -> bytes:
        """Some bytes, changed without knowing what they mean."""
        made = bytearray(data)
        for _ in range(self.chance.randint(1, MUTATIONS_MAX)):
            made = self._once(made)
        return bytes(made)

    def _once(self, made: bytearray) -> bytearray:
        chance = self.chance
        # Most of what is large is payload, and changes of it say little.
        at = chance.randrange(min(len(made), 4_000) + 1)
        stop = min(len(made), at + chance.randint(1, 8))
        match chance.randrange(8):
            case 0 if at < len(made):
                made[at] ^= 1 << chance.randrange(8)
            case 1 if at < len(made):
                made[at] = chance.randrange(256)
            case 2:
                del made[at:]
            case 3:
                del made[at:stop]
            case 4:
                made[at:stop] = chance.choice(TOKENS)
            case 5:
                made[at:at] = made[at:stop] * chance.randint(1, 9)
            case 6:
                other = self._other()
                cut = chance.randrange(min(len(other), 4_000) + 1)
                made[at:] = other[cut:]
            case 7:
                made[at:at] = chance.choice((b"\x91", b"\x81\xa1a")) * chance.randint(1, DEEP)
        return made

    # ------------------------------------------------------------ messages

    def tree(self, data: bytes) -> bytes:
        """A msgpack message with some of its values, counts or types changed."""
        try:
            value = msgspec.msgpack.decode(data)
        except (msgspec.DecodeError, ValueError):
            return self.data(data)
        for _ in range(self.chance.randint(1, MUTATIONS_MAX)):
            value = self._change(value)
        try:
            return msgspec.msgpack.encode(value)
        except (OverflowError, RecursionError, struct.error):
            return self.data(data)

    def _change(self, value: Any) -> Any:
        """One change at a random place below; the top is seldom meant."""
        chance = self.chance
        if isinstance(value, list) and value and chance.random() < 0.85:
            at = chance.randrange(len(value))
            value[at] = self._change(value[at])
            return value
        if isinstance(value, dict) and value and chance.random() < 0.85:
            key = chance.choice(list(value))
            value[key] = self._change(value[key])
            return value
        if isinstance(value, list):
            return self._reshaped(value)
        if isinstance(value, int) and not isinstance(value, bool) and chance.random() < 0.6:
            return value + chance.choice((-2, -1, 1, 2, 255, 1 << 32))
        if isinstance(value, bytes) and chance.random() < 0.5:
            return value[: chance.randrange(len(value) + 1)] + chance.randbytes(chance.randrange(9))
        return chance.choice(VALUES)

    def _reshaped(self, value: list[Any]) -> Any:
        chance = self.chance
        match chance.randrange(5):
            case 0:
                return chance.choice(VALUES)
            case 1 if value:
                del value[chance.randrange(len(value))]
            case 2 if value:
                value.insert(chance.randrange(len(value)), chance.choice(value))
            case 3:
                value.append(chance.choice(VALUES))
            case 4:
                chance.shuffle(value)
        return value
