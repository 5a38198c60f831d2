"""When there will be room: what is over the low water, at the rate at which tasks end."""

import pytest

from farm.core.policy import QueuePolicy
from farm.core.throughput import Throughput, retry_after
from farm.protocol import messages as m
from tests.unit.core_harness import Rig, ended, group


def test_a_steady_rate_is_found_whatever_the_size_of_the_steps():
    for step in (0.01, 0.5, 4.0):
        pace = Throughput()
        pace.begin(0.0)
        for number in range(1, int(100 / step) + 1):
            pace.end(round(step * 100), round(step * 5000), number * step)
        assert pace.seconds_for(100, 0, 100.0) == pytest.approx(1.0, rel=0.05)
        assert pace.seconds_for(0, 10_000, 100.0) == pytest.approx(2.0, rel=0.05)
        assert pace.seconds_for(300, 10_000, 100.0) == pytest.approx(3.0, rel=0.05)
        assert pace.seconds_for(-5, -5, 100.0) == 0.0


def test_idle_time_does_not_count():
    pace = Throughput()
    pace.begin(0.0)
    pace.end(10, 0, 1.0)
    pace.begin(3600.0)
    assert pace.seconds_for(20, 0, 3600.0) == pytest.approx(2.0)


def test_the_rate_of_long_ago_is_forgotten():
    pace = Throughput()
    pace.begin(0.0)
    pace.end(1000, 0, 1.0)
    for second in range(2, 120):
        pace.end(1, 0, float(second))
    assert pace.seconds_for(10, 0, 119.0) == pytest.approx(10.0, rel=0.3)


def test_while_nothing_ends_the_wait_grows():
    pace = Throughput()
    pace.begin(5.0)
    assert pace.seconds_for(10, 0, 12.0) == 7.0
    pace.end(1, 0, 15.0)
    assert pace.seconds_for(10, 0, 15.0) < pace.seconds_for(10, 0, 30.0)


def test_what_is_told_is_bounded_and_jittered():
    assert [retry_after(s, 0.0) for s in (-1.0, 0.2, 3.0, 1e9)] == [1.0, 1.0, 3.0, 100.0]
    assert [retry_after(s, 0.5) for s in (0.2, 3.0, 1e9)] == pytest.approx([1.1, 3.3, 110.0])
    assert all(1.0 <= retry_after(s, 0.999) <= 120.0 for s in (0.0, 1.0, 99.0, 1e9))


def run(rig, client, host, count, seconds):
    """Run tasks one after the other, so many seconds each."""
    for _ in range(count):
        rig.sleep(seconds)
        (grant,) = rig.grants(host)
        rig.number = getattr(rig, "number", 0) + 1
        rig.report(host, number=rig.number, window=1, ended=[ended(grant)])


def credit_of(rig, client):
    return [one for one in rig.take(client) if isinstance(one, m.Credit)]


def farm(**settings):
    rig = Rig(chance=lambda: 0.0, low_water=0.5, **settings)
    client, host = rig.client(), rig.host(slots=1, window=1)
    return rig, client, host


def test_a_full_farm_says_when_it_should_be_at_its_low_water():
    rig, client, host = farm(max_tasks=20)
    rig.submit(client, group(1, 20))
    run(rig, client, host, 5, 2.0)
    rig.submit(client, group(100, 6))
    (refused,) = rig.of(m.Refused)
    # 20 are open, 10 is the low water, and one ends every 2 s.
    assert (refused.first, refused.count, refused.reason) == (105, 1, "busy")
    assert refused.retry_after == pytest.approx(20.0)


def test_a_full_queue_says_the_same():
    rig, client, host = farm(queues={"default": QueuePolicy(max_tasks=20)})
    rig.submit(client, group(1, 20))
    run(rig, client, host, 5, 2.0)
    rig.submit(client, group(100, 6))
    (refused,) = rig.of(m.Refused)
    assert (refused.queue, refused.retry_after) == ("default", pytest.approx(20.0))


def test_who_has_used_up_its_credit_while_the_farm_is_full_is_told_once():
    rig, client, host = farm(max_tasks=20)
    rig.submit(client, group(1, 20))
    (credit,) = credit_of(rig, client)
    assert (credit.tasks, credit.retry_after) == (20, 1.0)  # nothing has ended: nobody knows
    run(rig, client, host, 9, 2.0)
    assert credit_of(rig, client) == []
    run(rig, client, host, 1, 2.0)
    (credit,) = credit_of(rig, client)  # at the low water
    assert (credit.tasks, credit.retry_after) == (30, 0.0)
    rig.submit(client, group(100, 10))
    (credit,) = credit_of(rig, client)
    assert (credit.tasks, credit.retry_after) == (30, pytest.approx(20.0))


def test_who_comes_when_the_farm_is_full_is_told_too():
    rig, client, host = farm(max_tasks=20)
    rig.submit(client, group(1, 20))
    run(rig, client, host, 5, 2.0)
    rig.take()
    bob = rig.client("bob", quiet=False)
    sent = rig.take(bob)
    (welcome,) = [one for one in sent if isinstance(one, m.ClientWelcome)]
    (credit,) = [one for one in sent if isinstance(one, m.Credit)]
    assert (welcome.credit_tasks, credit.tasks) == (0, 0)
    assert credit.retry_after == pytest.approx(10.0)
