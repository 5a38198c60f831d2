"""Numbers of hosts and queues that a person can steer by."""

import pytest

from farm.core.meter import Meter
from farm.core.policy import QueuePolicy
from farm.protocol import messages as m
from tests.unit.core_harness import Rig, ended, group, key, packed


def ask(rig, what):
    watcher = rig.peers.get("watcher") or rig.client("watcher")
    rig.take(watcher)
    rig.say(watcher, m.Query(1, what, {}))
    (answer,) = [one for one in rig.take(watcher) if isinstance(one, m.Answer)]
    assert answer.error == ""
    return answer.data


def host_row(rig):
    (row,) = ask(rig, "hosts")
    return row


def busy_farm(rounds=10):
    """One host of 2 slots; each second it is given a task of 0.5 s, and one waits for 0.25 s."""
    rig = Rig()
    client, host = rig.client(), rig.host(slots=2, window=4)
    for number in range(1, rounds + 1):
        rig.submit(client, group(number, 1))
        (grant,) = rig.grants(host)
        rig.sleep(0.75)
        rig.report(host, number=number, ended=[ended(grant, seconds=0.5)])
        rig.sleep(0.25)
    return rig, client, host


def test_a_host_says_how_fast_it_is_how_long_tasks_wait_there_and_how_busy_it_is():
    rig, _, _ = busy_farm()
    row = host_row(rig)
    assert row["arrival_rate"] == pytest.approx(1.0, rel=0.05)
    assert row["service_rate"] == pytest.approx(1.0, rel=0.05)
    for name in ("wait_p50", "wait_p99"):
        assert row[name] == pytest.approx(0.25, rel=0.2)
    assert row["utilisation"] == pytest.approx(0.75 / 2, rel=0.05)
    assert (row["held"], row["waiting"], row["running"]) == (0, 0, 0)


def test_littles_law_holds_on_a_host():
    rig, _, _ = busy_farm()
    little = host_row(rig)["little"]
    assert little["mean_open"] == pytest.approx(0.75, rel=0.05)
    assert little["mean_seconds"] == pytest.approx(0.75, rel=0.01)
    assert little["arrival_rate_times_seconds"] == pytest.approx(little["mean_open"], rel=0.05)


def test_status_has_the_numbers_of_each_host():
    rig, _, _ = busy_farm()
    assert ask(rig, "status")["by_host"]["host"]["service_rate"] == pytest.approx(1.0, rel=0.05)


def test_of_a_queue_utilisation_is_the_share_of_slots_that_its_tasks_worked_on():
    rig, client, host = busy_farm()
    (row,) = ask(rig, "queues")
    assert row["utilisation"] == pytest.approx(0.5 / 2, rel=0.05)
    rig = Rig(queues={"default": QueuePolicy(max_running=1)})
    client, host = rig.client(), rig.host(slots=4, window=4)
    for number in range(1, 11):
        rig.submit(client, group(number, 1))
        (grant,) = rig.grants(host)
        rig.sleep(1.0)
        rig.report(host, number=number, ended=[ended(grant, seconds=1.0)])
    (row,) = ask(rig, "queues")
    assert row["utilisation"] == pytest.approx(1.0, rel=0.05)  # of the one slot that it may have


def test_what_runs_and_what_waits_on_a_host():
    rig = Rig()
    client, host = rig.client(), rig.host(slots=2, window=6)
    rig.submit(client, group(1000, 1))
    (grant,) = rig.grants(host)
    rig.report(host, window=6, ended=[ended(grant, seconds=0.001)])
    rig.submit(client, group(1, 6))
    (grant,) = rig.grants(host)
    rig.report(host, number=2, window=6, started=[key(grant, lo=0, hi=2)])
    row = host_row(rig)
    assert (row["held"], row["running"], row["waiting"]) == (6, 2, 4)
    rig.report(host, number=3, window=6, ended=[ended(grant, lo=0, hi=1)])
    row = host_row(rig)
    assert (row["held"], row["running"], row["waiting"]) == (5, 1, 3)


def test_what_is_given_back_or_lost_is_held_no_more():
    rig = Rig()
    client, host = rig.client(), rig.host(slots=2, window=2)
    rig.submit(client, group(1, 2))
    (grant,) = rig.grants(host)
    rig.sleep(1.0)
    rig.report(host, window=0, returned=[key(grant)])
    rig.sleep(9.0)
    little = host_row(rig)["little"]
    assert little["mean_open"] == pytest.approx(2 * 1.0 / 10, rel=0.05)
    assert little["mean_seconds"] == pytest.approx(1.0, rel=0.05)
    rig.report(host, number=2, window=2)
    rig.sleep(40.0, host)  # it is silent, and lost
    rig.sleep(60.0)
    assert rig.ledger.hosts.all["host"].meter.numbers(rig.now)["little"]["mean_open"] == 0.0


def test_a_packed_task_is_one():
    rig = Rig()
    client, host = rig.client(), rig.host(slots=2, window=2)
    rig.submit(client, packed(1, 100))
    (grant,) = rig.grants(host)
    rig.sleep(2.0)
    values = ended(grant, payloads=[b"all"], packed=True, seconds=1.0)
    rig.report(host, window=2, ended=[values])
    row = host_row(rig)
    assert row["wait_p50"] == pytest.approx(1.0, rel=0.2)
    assert row["little"]["mean_seconds"] == pytest.approx(2.0, rel=0.05)


def test_waits_are_kept_in_a_bounded_number_of_sizes():
    meter = Meter()
    for step in range(10_000):
        meter.place(1, 1e-6 * 1.01**step if step < 3000 else 1e7, 0.0)
    assert len(meter._half.waits) < 200
