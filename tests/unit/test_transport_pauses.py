"""Pauses between attempts to connect, and what becomes of a crowd that keeps to them."""

import random

import pytest

from farm.transport import Credentials, Poller
from farm.transport.pauses import CROWDED_SECONDS, CROWDED_SECONDS_MAX, Pauses
from farm_workers.link import Link

ATTEMPT, STEP = 6.0, 0.25


def test_they_double_to_a_bound_and_begin_anew():
    pauses = Pauses(0.05, 0.3)
    assert [pauses.take() for _ in range(5)] == [0.05, 0.1, 0.2, 0.3, 0.3]
    pauses.reset()
    assert pauses.take() == 0.05


def test_the_first_may_be_none():
    pauses = Pauses(0.02, 2.0, at_once=True)
    assert [pauses.take() for _ in range(3)] == [0.0, 0.02, 0.04]
    pauses.reset()
    assert pauses.take() == 0.0


def test_where_the_other_side_is_overrun_they_are_longer_and_only_there():
    pauses = Pauses(0.05, 3.0)
    assert pauses.take() == 0.05
    assert [pauses.take(crowded=True) for _ in range(2)] == [CROWDED_SECONDS, 2 * CROWDED_SECONDS]
    assert [pauses.take(crowded=True) for _ in range(5)][-1] == CROWDED_SECONDS_MAX
    assert pauses.take() == 3.0


def still_outside(hosts, rate, seconds, *, crowded):
    """How many are outside after a time.

    The coordinator does so many handshakes a second, and works at all that are under way at once.
    """
    chance = random.Random(1)
    pauses = [Pauses(0.05, 3.0) for _ in range(hosts)]
    waits = dict.fromkeys(range(hosts), 0.0)  # until when
    under_way: dict[int, tuple[float, float]] = {}  # since when, and how much is done
    now = 0.0
    while now < seconds and (waits or under_way):
        for host in [one for one, until in waits.items() if until <= now]:
            del waits[host]
            under_way[host] = now, 0.0
        share = rate * STEP / max(1, len(under_way))
        for host, (since, done) in list(under_way.items()):
            under_way[host] = since, done + share
            if done + share >= 1.0:
                del under_way[host]
            elif now - since > ATTEMPT:
                del under_way[host]
                pause = pauses[host].take(crowded=crowded)
                waits[host] = now + pause * chance.uniform(0.5, 1.5)
        now += STEP
    return len(waits) + len(under_way)


def test_a_crowd_gets_in_where_the_coordinator_is_slow():
    assert still_outside(300, 15.0, 120.0, crowded=True) == 0
    assert still_outside(300, 15.0, 120.0, crowded=False) > 200


@pytest.mark.parametrize(
    ("address", "first", "most"),
    [
        ("ipc:///run/farm", 0.01, 0.25),
        ("tcp://127.0.0.1:7070", 0.01, 0.25),
        ("tcp://10.0.0.1:7070", 0.05, 3.0),
    ],
)
def test_a_host_looks_more_often_for_a_farm_on_its_own_machine(address, first, most):
    link = Link(Credentials("host", address, "none"), Poller(), 0.0)
    pauses = [link._pauses.take() for _ in range(12)]
    link.close()
    assert (pauses[0], pauses[-1]) == (first, most)
