"""The waker: readable after a wake from anywhere, quiet after it was cleared."""

import select
import threading

import pytest

from farm.transport import Waker


@pytest.fixture
def waker():
    made = Waker()
    yield made
    made.close()


def is_readable(waker, timeout=0):
    return bool(select.select([waker], [], [], timeout)[0])


def test_a_wake_from_another_thread_ends_the_wait(waker):
    thread = threading.Thread(target=waker.wake)
    thread.start()
    assert is_readable(waker, 10)
    thread.join()


def test_all_wakes_are_cleared_at_once(waker):
    for _ in range(100_000):  # more than a pipe holds: none of them blocks
        waker.wake()
    assert is_readable(waker)
    waker.clear()
    assert not is_readable(waker)
    waker.clear()


def test_waking_a_closed_waker_does_nothing():
    waker = Waker()
    waker.close()
    waker.close()
    waker.wake()
