"""How a client's thread waits: what is added while it does other things is never slept through."""

import random
import select

import pytest

from farm.client.line import Line
from farm.transport import Credentials, Waker

LONG = 60.0


@pytest.fixture
def waker():
    return Waker()


@pytest.fixture
def line(waker, tmp_path):
    made = Line(Credentials("client", f"ipc://{tmp_path}/farm", "none"), waker, random.random)
    yield made
    made.close(0.0)


def is_awake(waker):
    return bool(select.select([waker], [], [], 0)[0])


@pytest.mark.parametrize("now", [0.0, LONG], ids=["with an attempt", "between two"])
def test_a_wake_ends_the_wait_and_is_forgotten_when_its_cause_was_looked_at(line, waker, now):
    line.drop("for now", now)
    waker.wake()
    line.sleep(LONG, lambda: None)
    assert is_awake(waker)
    line.step(1, 0.0)
    assert not is_awake(waker)


def test_who_wakes_us_at_the_last_moment_ends_the_wait(line, waker):
    line.step(1, 0.0)
    line.sleep(LONG, waker.wake)
    assert is_awake(waker)


def test_nobody_is_forgotten_who_comes_between_a_step_and_the_wait(line, waker):
    line.step(1, 0.0)
    waker.wake()
    line.step(1, 0.0)
    line.sleep(LONG, lambda: None)
    assert is_awake(waker)
