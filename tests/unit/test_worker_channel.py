"""The pipe between agent and worker: whole messages, whatever arrives in whatever pieces."""

import os
import socket
import threading

import pytest

from farm.model import Ending
from farm_workers.channel import Channel, Ends, FunctionData, Note, Pipe, Ready, Setup, _pack
from farm_workers.host_slices import Slice

SIZES = [0, 1, 65_536, 65_537, 300_000, 3_000_000]


@pytest.fixture
def ends():
    a, b = socket.socketpair()
    channel, pipe = Channel(a), Pipe(b)
    yield channel, pipe, b
    a.close()
    b.close()


def slice_of(payloads):
    return Slice((1, 2), 3, b"s" * 16, 7, len(payloads), b"f" * 16, payloads)


def heard(channel, count):
    found = []
    while len(found) < count and not channel.closed:
        found += channel.receive()
    return found


def test_messages_of_all_sizes_reach_the_worker_in_order(ends):
    channel, pipe, _ = ends
    sent = [Setup("h", b"i"), FunctionData(b"f", "f", b"x" * 100_000)]
    sent += [slice_of([b"a", b"x" * size, b"b" * size]) for size in SIZES]
    got = []
    reader = threading.Thread(target=lambda: got.extend(pipe.get() for _ in sent))
    reader.start()
    for message in sent:
        channel.put(message)
    while channel.behind:
        channel.flush()
    reader.join(20)
    assert got == sent


def test_messages_of_all_sizes_reach_the_agent_in_order(ends):
    channel, pipe, _ = ends
    part = slice_of([b""])
    sent = [Ready(), Note((1, 2), 3, 1.0, 2.0, "n")]
    sent += [
        Ends([part.end(7, 1, Ending.OK, [b"x" * size]), part.end(8, 1, Ending.OK, [b"y"])])
        for size in SIZES
    ]
    writer = threading.Thread(target=lambda: [pipe.put(message) for message in sent])
    writer.start()
    assert heard(channel, len(sent)) == sent
    writer.join(20)


def test_the_payloads_of_a_message_that_was_sent_are_as_before(ends):
    channel, _, _ = ends
    part = slice_of([b"x" * 100_000])
    channel.put(part)
    assert part.payloads == [b"x" * 100_000]


def test_a_message_may_come_byte_by_byte(ends):
    channel, _, raw = ends
    data = b"".join(_pack(Ends([slice_of([b"p"]).end(7, 1, Ending.OK, [b"x" * 70_000])])))
    for at in range(20):
        raw.sendall(data[at : at + 1])
        assert channel.receive() == []
    raw.sendall(data[20:] + data[:9])
    (message,) = heard(channel, 1)
    assert message.parts[0].payloads == [b"x" * 70_000]
    raw.sendall(data[9:])
    assert len(heard(channel, 1)) == 1


@pytest.mark.parametrize(
    "garbage",
    [
        b"\xff" * 64,
        b"\x05\0\0\0\0\0\0\0hello",
        b"\x01\0\0\0\0\0\0\0\xc0",
        b"\x08\0\0\0\xff\xff\xff\x7f" + b"\0" * 64,
        b"\x08\0\0\0\x01\0\0\0\xff\xff\xff\xff" + b"\0" * 64,
        (9_002).to_bytes(4, "little") + bytes(4) + b"\x92\x92\x0a" + b"\x91" * 9_000,
        b"\x08\0\0\0\xff\xff\0\0",  # more attachments than any message has
        b"\x08\0\0\0\x01\0\0\0\x01\0\0\x04",  # a larger one than any payload is
        b"\x01\0\0\x04\0\0\0\0",  # room for one beside it
        b"".join(_pack(slice_of([b"not from a worker"]))),
    ],
)
def test_what_makes_no_sense_closes_the_channel(ends, garbage):
    channel, _, raw = ends
    raw.sendall(garbage)
    assert channel.receive() == []
    assert channel.closed


def test_attachments_that_belong_nowhere_close_the_channel(ends):
    channel, _, raw = ends
    good = _pack(Ends([slice_of([b"p"]).end(7, 1, Ending.OK, [b"x" * 70_000])]))
    header = bytearray(good[0])
    at = header.rindex(b"\x92\x00\x00")  # the place of the attachment: entry 0, payload 0
    header[at + 1] = 9
    raw.sendall(header + good[1])
    while not channel.closed:
        assert channel.receive() == []


def test_text_that_is_no_unicode_is_escaped(ends):
    channel, pipe, _ = ends
    pipe.put(Note((1, 2), 3, 1.0, 2.0, os.fsdecode(b"a file named \xff")))
    (note,) = heard(channel, 1)
    assert note.note == "a file named \\udcff"


def test_the_end_of_a_worker_closes_the_channel_after_its_last_words(ends):
    channel, pipe, raw = ends
    pipe.put(Ready())
    raw.shutdown(socket.SHUT_RDWR)
    assert heard(channel, 2) == [Ready()]
    assert channel.closed
    channel.put(slice_of([b"x"]))
    channel.flush()


def test_what_a_worker_said_is_heard_though_nothing_can_be_said_to_it(ends):
    channel, pipe, raw = ends
    said = Ends([slice_of([b"p"]).end(7, 1, Ending.OK, [b"r"])])
    pipe.put(said)
    raw.shutdown(socket.SHUT_RD)
    for _ in range(2):
        channel.put(slice_of([b"x" * 100_000]))
        channel.flush()
        assert (channel.deaf, channel.closed, channel.behind) == (True, False, False)
    assert heard(channel, 1) == [said]
    raw.close()
    assert heard(channel, 1) == []
    assert channel.closed


def test_the_end_of_the_agent_is_an_error_in_the_worker(ends):
    channel, pipe, _ = ends
    channel.close()
    with pytest.raises(EOFError):
        pipe.get()
    with pytest.raises(OSError):  # noqa: PT011 -- whichever the system says
        pipe.put(Ready())


def test_writing_never_blocks_the_agent(ends):
    channel, _, _ = ends
    for _ in range(20):
        channel.put(slice_of([b"x" * 1_000_000]))
    channel.flush()
    assert channel.behind
