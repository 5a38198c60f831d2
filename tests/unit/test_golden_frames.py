"""What protocol version 1 looks like on the wire stays so: to the byte, and in both directions."""

from typing import get_args

import msgspec
import pytest

from farm.protocol import messages
from farm.protocol.codec import decoder, encode
from tests.golden.frames import SAMPLES, read

GOLDEN = read()
UNIONS = {
    "from_client": messages.FromClient,
    "to_client": messages.ToClient,
    "from_host": messages.FromHost,
    "to_host": messages.ToHost,
}


def test_every_message_of_every_direction_has_golden_frames():
    names = {f"{way} {one.__name__}" for way, union in UNIONS.items() for one in get_args(union)}
    assert set(SAMPLES) == names
    assert set(GOLDEN) == names


@pytest.mark.parametrize("name", SAMPLES)
def test_a_message_becomes_exactly_these_frames(name):
    number, message = SAMPLES[name]
    before = msgspec.structs.astuple(message)
    assert encode(number, message) == GOLDEN[name]
    assert msgspec.structs.astuple(message) == before


@pytest.mark.parametrize("name", SAMPLES)
def test_these_frames_become_the_message(name):
    direction = name.partition(" ")[0]
    assert decoder(direction).decode(GOLDEN[name]) == SAMPLES[name]


@pytest.mark.parametrize("name", SAMPLES)
def test_fields_that_a_later_version_appends_are_passed_over(name):
    direction = name.partition(" ")[0]
    number, message, *places = msgspec.msgpack.decode(GOLDEN[name][0])
    frames = [msgspec.msgpack.encode([number, [*message, "new"], *places]), *GOLDEN[name][1:]]
    assert decoder(direction).decode(frames) == SAMPLES[name]
