"""The codec refuses what is malformed with one error, whatever it is, and without much memory."""

import contextlib
import math
import os
import tracemalloc

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.errors import ProtocolError
from farm.model import Ending
from farm.protocol.codec import ATTACH_BYTES, decoder, encode
from farm.protocol.messages import (
    ITEMS_PER_TASK_MAX,
    Assign,
    Cancel,
    ClientHello,
    Ended,
    Failure,
    Function,
    Grant,
    Group,
    Query,
    Report,
    Result,
    Results,
    Submit,
    Taken,
    Template,
)
from farm.protocol.records import (
    Arguments,
    Buried,
    ClockRead,
    Finished,
    Submitted,
    decode_record,
    encode_record,
)
from tests.golden.frames import HASH, SAMPLES, SESSION

DIRECTIONS = ("from_client", "to_client", "from_host", "to_host")
LARGE = bytes(ATTACH_BYTES + 1)


def refused(direction, frames):
    """Why the frames are refused; fails if they are not, or with another error."""
    with pytest.raises(ProtocolError) as caught:
        decoder(direction).decode(frames)
    return str(caught.value)


def tolerated(direction, frames):
    """Decode, if it can be; the only error allowed is the right one."""
    with contextlib.suppress(ProtocolError):
        decoder(direction).decode(frames)


@pytest.mark.parametrize("direction", DIRECTIONS)
@given(st.lists(st.binary(max_size=200), max_size=4))
def test_random_frames_raise_nothing_else(direction, frames):
    tolerated(direction, frames)


NESTED = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=14)
        | st.dictionaries(st.text(max_size=5) | st.integers(0, 9), inner, max_size=5)
    ),
    max_leaves=40,
)


@given(
    st.sampled_from(DIRECTIONS),
    st.integers(0, 90),
    st.lists(NESTED, max_size=15),
    st.lists(NESTED, max_size=3),
)
def test_well_formed_nonsense_raises_nothing_else(direction, tag, fields, places):
    tolerated(direction, [msgspec.msgpack.encode([0, [tag, *fields], places])])


@pytest.mark.parametrize("name", SAMPLES)
@given(st.data())
def test_a_changed_byte_raises_nothing_else(name, data):
    number, message = SAMPLES[name]
    envelope, *attached = encode(number, message)
    at = data.draw(st.integers(0, len(envelope) - 1))
    changed = bytes([data.draw(st.integers(0, 255))])
    tolerated(name.split()[0], [envelope[:at] + changed + envelope[at + 1 :], *attached])


@pytest.mark.parametrize("name", SAMPLES)
def test_a_truncated_message_is_refused_wherever_it_ends(name):
    envelope, *attached = encode(*SAMPLES[name])
    for length in range(len(envelope)):
        refused(name.split()[0], [envelope[:length], *attached])
    for missing in range(len(attached)):
        refused(name.split()[0], [envelope, *attached[:missing]])
    refused(name.split()[0], [envelope, *attached, b"one too many"])


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_no_frames_are_no_message(direction):
    assert "empty" in refused(direction, [])


def test_a_message_of_the_other_side_is_refused():
    for name, (number, message) in SAMPLES.items():
        direction, _, kind = name.partition(" ")
        for other in DIRECTIONS:
            if f"{other} {kind}" not in SAMPLES:
                assert "malformed" in refused(other, encode(number, message)), (direction, other)


def test_text_that_is_no_unicode_is_escaped():
    name = os.fsdecode(b"a file named \xff")
    for message in (Function(HASH, name, b"x"), Query(1, name, {name: [name]})):
        _, read = decoder("from_client").decode(encode(3, message))
        assert "a file named \\udcff" in (getattr(read, "name", ""), getattr(read, "what", ""))
    failure = Failure("exception", name, "h", 0, name)
    sent = ended(payloads=[LARGE, b"b"], size=len(LARGE) + 1, failure=failure)
    _, read = decoder("from_host").decode(encode(0, sent))
    assert read.ended[0].payloads == [LARGE, b"b"]
    assert read.ended[0].failure.message == "a file named \\udcff"


def group(**changes):
    fields = {"first": 1, "count": 2, "function": HASH, "payloads": [b"a", b"b"], "size": 2}
    return Submit([Group(**(fields | changes))])


def grant(**changes):
    fields = {"lease": 1, "attempt": 1, "session": SESSION, "first": 1, "count": 2}
    fields |= {"function": HASH, "payloads": [b"a", b"b"], "size": 2}
    return Assign(1, [Grant(**(fields | changes))])


def ended(**changes):
    fields = {"epoch": 1, "lease": 1, "attempt": 1, "first": 1, "count": 2}
    fields |= {"ending": Ending.OK, "payloads": [b"a", b"b"], "size": 2}
    return Report(1, 1, [Ended(**(fields | changes))])


def result(**changes):
    fields = {"session": SESSION, "first": 1, "count": 2}
    fields |= {"ending": Ending.OK, "payloads": [b"a", b"b"], "size": 2}
    return Results(1, 1, [Result(**(fields | changes))])


BUILDERS = {"from_client": group, "to_host": grant, "from_host": ended, "to_client": result}


@pytest.mark.parametrize("direction", BUILDERS)
@pytest.mark.parametrize(
    "changes",
    [
        {"first": -1},
        {"first": 2**63},
        {"count": 0},
        {"count": -2},
        {"count": 1},
        {"count": 3},
        {"count": 2**63},
        {"packed": True},
        {"payloads": []},
        {"payloads": [], "size": 0},
        {"size": 1},
        {"size": -1},
        {"payloads": [b"items"], "size": 5, "packed": True, "count": ITEMS_PER_TASK_MAX + 1},
    ],
    ids=str,
)
def test_counts_that_contradict_the_payloads_are_refused(direction, changes):
    decoder(direction).decode(encode(0, BUILDERS[direction]()))
    refused(direction, encode(0, BUILDERS[direction](**changes)))


@pytest.mark.parametrize("build", [ended, result])
def test_an_ending_without_a_value_needs_no_payload(build):
    message = build(ending=Ending.CANCELLED, payloads=[], size=0, count=100_000)
    direction = "from_host" if build is ended else "to_client"
    assert decoder(direction).decode(encode(0, message)) == (0, message)


@pytest.mark.parametrize(
    "message",
    [
        Cancel(1, [(SESSION, 1, -1)]),
        Cancel(1, [(SESSION, -1, 1)]),
        Cancel(1, [(SESSION, 2**63, 1)]),
        ClientHello(1, "", "", b"", SESSION, b"", 1, 1, b"", 1, 1, [(1, 2**64 - 1)]),
        group(template=Template(delay=float("nan"))),
        group(template=Template(delay=float("inf"))),
        group(template=Template(expires=-1.0)),
        group(template=Template(retries=-1)),
        group(template=Template(priority=2**63)),
        Taken(-1),
    ],
    ids=lambda message: type(message).__name__,
)
def test_numbers_that_nothing_can_be_counted_with_are_refused(message):
    assert "malformed" in refused("from_client", encode(0, message))


@pytest.mark.parametrize(
    "places",
    [
        [(0, 0)],
        [(0, 0), (0, 0)],
        [(0, 2), (0, 1)],
        [(1, 0), (0, 1)],
        [(-1, 0), (0, 1)],
        [(0, -1), (0, 1)],
        [(0, 0), (0, 1), (0, 1)],
        [(0, 2**64 - 1), (0, 1)],
    ],
    ids=str,
)
def test_attachments_that_belong_nowhere_are_refused(places):
    message = group(payloads=[LARGE, LARGE], size=2 * len(LARGE))
    envelope, *attached = encode(0, message)
    number, body, right = msgspec.msgpack.decode(envelope)
    assert right == [[0, 0], [0, 1]]
    refused("from_client", [msgspec.msgpack.encode((number, body, places)), *attached])


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -float("inf"), -1.0, 1e300])
def test_times_that_are_none_are_refused(seconds):
    ended = Ended(1, 1, 1, 1, 1, Ending.OK, [b"x"], 1, seconds=seconds)
    refused("from_host", encode(0, Report(1, 1, [ended])))


def test_attachments_to_a_message_without_payloads_are_refused():
    envelope = msgspec.msgpack.encode((0, [8, 1], [(0, 0)]))
    assert "there is none" in refused("from_client", [envelope, b"x"])


@pytest.mark.parametrize(
    "envelope",
    [
        b"\xdd\xff\xff\xff\xff\x00",
        b"\x93\x00\x92\x02\xdd\xff\xff\xff\xff\x90",
        b"\x93\x00\x92\x02\x91\x95\x01\x01\xc6\xff\xff\xff\xff\x00",
        b"\x93\x00\x94\x09\x01\xa1a\xdf\xff\xff\xff\xff\xa1a\x01",
        b"\x93\x00\x94\x09\x01\xa1a\x81\xa1a\xdd\xff\xff\xff\xff\x01\x90",
        b"\x93\x00\x94\x09\x01\xa1a\x81\xa1a" + b"\x91" * 100_000 + b"\x90",
        b"\x93\x00\x94\x09\x01\xa1a\x81\xa1a\xc7\xff\x05",
        b"\x93\x00\x94\x09\x01\xa2\xff\xfe\x80\x90",
    ],
    ids=[
        "envelope",
        "groups",
        "hash",
        "map",
        "list in anything",
        "nesting",
        "extension",
        "text",
    ],
)
def test_a_size_that_is_claimed_and_not_there_takes_no_memory(envelope):
    decoder("from_client")
    tracemalloc.start()
    try:
        refused("from_client", [envelope])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20 << 20


@pytest.mark.parametrize(
    "wrong",
    [
        {"attempts": []},
        {"group": Group(1, 2, HASH, [b"a", b"b"], 2)},
        {"group": Group(1, 1, HASH, [], 0)},
    ],
    ids=["of no attempt", "of two tasks", "without its payload"],
)
def test_the_record_of_a_dead_task_is_of_one_and_of_its_attempts(wrong):
    right = Buried(1.0, SESSION, Group(1, 1, HASH, [b"a"], 1), "", [Failure("signal", "it died")])
    assert decode_record(encode_record(right)) == right
    with pytest.raises(ProtocolError):
        decode_record(encode_record(msgspec.structs.replace(right, **wrong)))


def test_arguments_in_common_are_of_one_packed_task():
    right = Arguments(SESSION, Group(1, 3, HASH, [b"abc"], 3, packed=True))
    assert decode_record(encode_record(right)) == right
    for wrong in (Group(1, 1, HASH, [b"a"], 1), Group(1, 3, HASH, [], 0, packed=True)):
        with pytest.raises(ProtocolError):
            decode_record(encode_record(Arguments(SESSION, wrong)))


@pytest.mark.parametrize("at", [math.nan, math.inf, -math.inf])
def test_a_stored_time_is_one_that_can_be_reckoned_with(at):
    for record in (
        ClockRead("boot", at),
        Submitted(SESSION, at, []),
        Finished(1.0, [], [("h", at)]),
    ):
        with pytest.raises(ProtocolError):
            decode_record(encode_record(record))
