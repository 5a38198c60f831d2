"""One connection: what one end packs, the other unpacks, in order or not at all."""

import pytest

from farm.errors import ProtocolError
from farm.protocol.codec import decoder
from farm.protocol.messages import MESSAGE_BYTES_MAX, Beat, Bye, Function
from farm.transport.numbering import Gap, Numbering


@pytest.fixture
def ends():
    return Numbering(decoder("to_client")), Numbering(decoder("from_client"))


def test_messages_arrive_as_they_were_sent(ends):
    ours, theirs = ends
    for message in (Beat(1.5), Function(b"h" * 16, "f", b"x" * 100_000), Bye("done")):
        assert theirs.unpack(ours.pack(message)) == message
    assert ours.sent == theirs.received == 3


def test_a_lost_message_is_noticed(ends):
    ours, theirs = ends
    theirs.unpack(ours.pack(Beat()))
    ours.pack(Beat())
    with pytest.raises(Gap, match="message 2 arrived instead of 1"):
        theirs.unpack(ours.pack(Beat()))


def test_a_repeated_message_is_noticed(ends):
    ours, theirs = ends
    frames = ours.pack(Beat())
    theirs.unpack(frames)
    with pytest.raises(Gap, match="message 0 arrived instead of 1"):
        theirs.unpack(frames)


def test_what_is_too_large_is_neither_sent_nor_read(ends):
    ours, theirs = ends
    with pytest.raises(ProtocolError, match=r"a Function of .* cannot be sent"):
        ours.pack(Function(b"h" * 16, "f", b"x" * MESSAGE_BYTES_MAX))
    assert ours.sent == 0
    frame = b"x" * (MESSAGE_BYTES_MAX // 2 + 1)
    with pytest.raises(ProtocolError, match="larger than"):
        theirs.unpack([frame, frame])
