"""What a message costs does not depend on how many hosts and tasks there are.

Lines of Python are counted, not time: a search through all hosts, or through a whole queue, shows.
"""

import gc
import sys

import pytest

from farm.protocol import messages as m
from tests.large_farm import LargeFarm

GPU = m.Template(resources=(("gpu", 1.0),))
FEW, MANY = 100, 400


def lines(call):
    """How many lines of Python run."""
    ran = 0

    def trace(frame, event, _arg):
        nonlocal ran
        ran += event == "line"
        return trace

    gc.disable()  # finalizers of other tests' garbage are not our lines
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(None)
        gc.enable()
    return ran


def farm(hosts, slots=4, window=4):
    made = LargeFarm(hosts, slots, window=window)
    made.join_all()
    return made


def full(hosts):
    """Every slot is taken, and much is queued."""
    made = farm(hosts)
    made.submit(hosts * 20)
    made.serve(50, 1)
    return lines(lambda: made.serve(50, 1))


def short(hosts):
    """Tasks are so short that they wait on hosts, too."""
    made = farm(hosts, window=16)
    made.submit(512)
    made.serve(hosts, 4)
    made.submit(hosts * 40)
    made.serve(50, 4)
    return lines(lambda: made.serve(50, 4))


def filling(hosts):
    """No slot is free, and short tasks are submitted that may wait on any host."""
    made = farm(hosts, window=256)
    made.submit(512)
    made.serve(hosts, 1)
    made.submit(hosts * 4)
    return lines(lambda: made.submit(8 * 512))


def tail(hosts):
    """Half of the hosts have nothing to do, and the others more than they can run."""
    made = farm(hosts, window=16)
    made.submit(512)
    made.serve(hosts, 1)
    made.submit(hosts * 16)
    for host in list(made.hosts)[: hosts // 2]:
        while host.held:
            made.end(host, 64)
    made.now += 1.0
    made.serve(50, 1)
    return lines(lambda: made.serve(20, 1))


def gpus_on_some(hosts):
    """Tasks that a tenth of the hosts can run, and tasks that all can."""
    made = LargeFarm(hosts, 4, window=4)
    for number, host in enumerate(made.hosts):
        made.join(host, resources={"gpu": 1.0} if number % 10 == 9 else {})
    made.submit(hosts * 8, GPU)
    made.submit(hosts * 8)
    made.serve(hosts * 2, 1)
    return lines(lambda: made.serve(30, 1))


def gpus_on_all(hosts):
    """Every task needs what every host has once."""
    made = LargeFarm(hosts, 4, window=4)
    for host in made.hosts:
        made.join(host, resources={"gpu": 1.0})
    made.submit(hosts * 8, GPU)
    made.serve(hosts * 2, 1)
    return lines(lambda: made.serve(30, 1))


def joining(hosts):
    """The last of many hosts come, and go."""
    made = LargeFarm(hosts, 4, window=4)
    made.submit(hosts * 8)
    most, last = list(made.hosts)[:-10], list(made.hosts)[-10:]
    for host in most:
        made.join(host)

    def come_and_go():
        for host in last:
            made.join(host)
        for host in last:
            made.leave(host)

    return lines(come_and_go)


def beats(hosts):
    """Hosts show that they live."""
    made = farm(hosts)
    made.submit(hosts * 8)
    return lines(lambda: [made.beat(host) for host in list(made.hosts)[:20]])


def cancels(hosts):
    """Tasks that run are cancelled, and stopped; a message of them is on 64 hosts."""
    made = farm(hosts, slots=8, window=8)
    made.submit(hosts * 8)

    def cancel():
        for number in range(10):
            made.cancel(1 + 4 * number, 4)
            made.cancel(1 + 4 * number, 4, grace=1.0)

    return lines(cancel)


def resources_named(hosts):
    """Tasks are submitted whose resources have to be known."""
    made = LargeFarm(hosts, 4, window=4)
    for host in made.hosts:
        made.join(host, resources={"gpu": 1.0})
    two = m.Template(resources=(("gpu", 2.0),))
    made.submit(1, two)
    return lines(lambda: [made.submit(1, two) for _ in range(20)])


CASES = (
    full,
    short,
    filling,
    tail,
    gpus_on_some,
    gpus_on_all,
    joining,
    beats,
    cancels,
    resources_named,
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_a_message_costs_as_much_with_four_times_as_many_hosts(case):
    assert case(MANY) <= 1.05 * case(FEW)


@pytest.mark.parametrize("per", [1, 16])
def test_a_message_costs_as_much_with_twenty_times_as_many_tasks_queued(per):
    def cost(tasks):
        made = farm(20, window=16)
        made.submit(512)
        made.serve(20, 1)
        made.submit(tasks)
        made.serve(20, per)
        return lines(lambda: made.serve(50, per))

    assert cost(100_000) <= 1.05 * cost(5_000)
