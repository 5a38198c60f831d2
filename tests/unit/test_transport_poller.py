"""Waiting for sockets and descriptors together."""

import os

import pytest
import zmq

from farm.transport import Poller
from farm.transport.poller import POLLIN, POLLOUT

PATIENCE = 20_000
"""Milliseconds that nothing here takes; it is how long a failing test waits."""


@pytest.fixture
def pair():
    """Two connected sockets."""
    context = zmq.Context()
    one, other = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
    one.bind("inproc://poller")
    other.connect("inproc://poller")
    yield one, other
    context.destroy(linger=0)


@pytest.fixture
def pipe():
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_a_socket_is_ready_as_long_as_it_has_messages(pair):
    """Its descriptor says only once that something came, and sending may take that back."""
    socket, other = pair
    poller = Poller()
    poller.register(socket)
    assert poller.poll(0) == set()
    for number in b"123":
        other.send(bytes((number,)))
    for number in b"123":
        assert poller.poll(PATIENCE) == {socket}
        assert socket.recv() == bytes((number,))
        socket.send(b"an answer")
    assert poller.poll(0) == set()


def test_a_message_ends_the_wait_although_all_was_asked_before(pair):
    socket, other = pair
    poller = Poller()
    poller.register(socket)
    for _ in range(3):
        assert poller.poll(1) == set()
        other.send(b"")
        assert poller.poll(PATIENCE) == {socket}
        socket.recv()


def test_descriptors_and_sockets_are_waited_for_together(pair, pipe):
    socket, other = pair
    read, write = pipe
    poller = Poller()
    poller.register(socket)
    poller.register(read)
    os.write(write, b"x")
    assert poller.poll(PATIENCE) == {read}
    other.send(b"")
    assert poller.poll(PATIENCE) == {read, socket}
    poller.unregister(socket)
    assert poller.poll(PATIENCE) == {read}
    poller.unregister(read)
    assert poller.poll(0) == set()


def test_other_events_of_a_descriptor_take_the_place_of_those_before(pipe):
    _, write = pipe
    poller = Poller()
    poller.register(write, POLLIN)
    assert poller.poll(0) == set()
    poller.register(write, POLLIN | POLLOUT)
    assert poller.poll(PATIENCE) == {write}
    poller.register(write, POLLIN)
    assert poller.poll(0) == set()


def test_a_quiet_socket_is_not_asked_and_ends_the_wait_all_the_same(pair):
    socket, other = pair
    poller = Poller()
    poller.register(socket)
    assert poller.poll(0) == set()
    for _ in range(3):
        other.send(b"")
        assert poller.poll(PATIENCE, socket) == {socket}
        socket.recv()
        assert poller.poll(0, None) == set()


def test_woken_says_that_one_thing_happened_while_nothing_was_to_do(pair, pipe):
    """Such as the first message of several: whoever answers it at once is not late for the rest."""
    socket, other = pair
    poller = Poller()
    poller.register(socket)
    poller.register(pipe[0])
    assert not poller.woken
    other.send(b"1")
    other.send(b"2")
    assert poller.poll(PATIENCE) == {socket}
    socket.recv()
    assert poller.poll(PATIENCE) == {socket}  # it was asked, and there was another
    assert not poller.woken
    socket.recv()
    assert poller.poll(0) == set()
    os.write(pipe[1], b"x")
    assert poller.poll(PATIENCE, socket) == {pipe[0]}
    assert poller.woken
