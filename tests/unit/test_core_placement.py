"""Placement by credit: windows, short and long, priorities, functions."""

from farm.model import Ending
from farm.protocol import messages as m
from tests.unit.core_harness import F, Rig, ended, group, packed


def known_duration(rig, client, host, seconds=0.001, first=1000):
    """Let the core learn how long the function takes."""
    rig.submit(client, group(first, 1))
    (grant,) = rig.grants(host)
    rig.report(host, ended=[ended(grant, seconds=seconds)], window=rig.window)


def farm(*, slots=4, window=4, **more):
    rig = Rig(**more)
    rig.window = window
    return rig, rig.client(), rig.host(slots=slots, window=window)


def test_unknown_durations_fill_the_slots_only():
    rig, client, host = farm(slots=2, window=100)
    rig.submit(client, group(1, 50))
    assert [(g.first, g.count, g.expected) for g in rig.grants(host)] == [(1, 2, -1.0)]


def test_short_tasks_fill_the_window_in_one_lease_of_bounded_size():
    rig, client, host = farm(slots=2, window=300)
    known_duration(rig, client, host)
    rig.submit(client, group(1, 400))
    assert [(g.first, g.count) for g in rig.grants(host)] == [(1, 128), (129, 128), (257, 44)]


def test_long_tasks_never_wait_behind_others():
    rig, client, host = farm(slots=2, window=300)
    known_duration(rig, client, host, seconds=5.0)
    rig.submit(client, group(1, 400))
    assert sum(g.count for g in rig.grants(host)) == 2


def test_a_window_smaller_than_the_slots_is_respected():
    rig, client, host = farm(slots=8, window=3)
    rig.submit(client, group(1, 50))
    assert sum(g.count for g in rig.grants(host)) == 3


def test_a_shrunken_window_gets_nothing_until_there_is_room():
    rig, client, host = farm(slots=4, window=4)
    rig.submit(client, group(1, 50))
    (grant,) = rig.grants(host)
    rig.report(host, window=2, ended=[ended(grant, hi=2)])
    assert rig.grants(host) == []
    rig.report(host, window=2, ended=[ended(grant, lo=2, hi=3)])
    assert sum(g.count for g in rig.grants(host)) == 1


def test_higher_priorities_first_then_first_come():
    rig, client, _ = farm(slots=0, window=0)
    for first, priority in ((1, 0), (2, 5), (3, -5), (4, 5)):
        rig.submit(client, group(first, 1, template=m.Template(priority=priority)))
    host = rig.host("b", slots=4, window=4)
    assert [g.first for g in rig.grants(host)] == [2, 4, 1, 3]


def test_what_is_given_back_goes_to_the_front():
    rig, client, host = farm(slots=2, window=2)
    rig.submit(client, group(1, 6))
    (grant,) = rig.grants(host)
    rig.report(host, window=2, returned=[(10, grant.lease, 1, 2)])
    (grant,) = rig.grants(host)  # at once: the end of an attempt has to be durable first
    assert (grant.first, grant.count) == (3, 2)
    rig.report(host, window=2, ended=[ended(grant, seconds=9.0)])
    assert [(g.first, g.count, g.attempt) for g in rig.grants(host)] == [(1, 2, 2)]


def test_hosts_take_turns():
    rig, client, one = farm(slots=2, window=2)
    two = rig.host("two", slots=2, window=2)
    rig.submit(client, group(1, 1))
    rig.submit(client, group(2, 1))
    assert [len(rig.grants(one)), len(rig.grants(two))] == [1, 1]


def test_a_function_is_sent_once_per_connection_and_before_its_tasks():
    rig, client, host = farm()
    rig.submit(client, group(1, 1))
    assert [type(x) for x in rig.take(host)] == [m.Function, m.Assign]
    rig.submit(client, group(2, 1))
    assert [type(x) for x in rig.take(host)] == [m.Assign]
    rig.say(host, m.NeedFunction(F.hash))
    assert rig.take(host) == [F]
    rig.say(host, m.NeedFunction(b"?" * 16))
    assert rig.take(host) == []


def test_a_packed_task_is_one_in_the_window_and_goes_whole():
    rig, client, host = farm(slots=2, window=2)
    rig.submit(client, packed(1, 1000), packed(1001, 1000), packed(2001, 10))
    grants = rig.grants(host)
    assert [(g.first, g.count, g.start) for g in grants] == [(1, 1000, 0), (1001, 1000, 0)]
    rig.report(host, window=2, ended=[ended(grants[0], hi=999, payloads=[b"all"], packed=True)])
    assert rig.grants(host) == []
    rig.report(host, window=2, ended=[ended(grants[0], lo=999)])
    assert [g.first for g in rig.grants(host)] == [2001]


def test_large_batches_go_in_several_messages():
    rig, client, host = farm(slots=8, window=8)
    rig.submit(client, *(group(i, 1, payloads=[b"x" * 600_000]) for i in range(1, 4)))
    assert [len(x.grants) for x in rig.take(host) if isinstance(x, m.Assign)] == [1, 1, 1]


def test_an_unusable_python_gets_no_work_and_is_told_why():
    rig = Rig(python="3.11")
    client = rig.client(python="3.11")
    host = rig.host(python="3.13", quiet=False)
    (welcome,) = rig.of(m.HostWelcome)
    assert "3.13" in welcome.unusable
    rig.submit(client, group(1, 1))
    assert rig.grants(host) == []


def test_a_host_is_given_nothing_before_its_welcome():
    rig = Rig()
    rig.submit(rig.client(), group(1, 1))
    rig.take()
    host = rig.host(commit=False)
    assert rig.take() == []
    rig.commit()
    assert [type(x) for x in rig.take(host)] == [m.HostWelcome, m.Function, m.Assign]


def test_a_time_limit_and_the_place_in_the_payload_travel():
    rig, client, host = farm(slots=1, window=1)
    rig.submit(client, packed(1, 10, start=90, template=m.Template(time_limit=3.0)))
    (grant,) = rig.grants(host)
    assert (grant.time_limit, grant.start, grant.item, grant.packed) == (3.0, 90, 90, True)
    rig.report(host, window=1, ended=[ended(grant, hi=4, payloads=[b"4"], packed=True),
                                      ended(grant, Ending.LOST, lo=4, hi=5)],
               returned=[(10, grant.lease, 6, 5)])  # fmt: skip
    (grant,) = rig.grants(host)
    assert (grant.first, grant.count, grant.start, grant.attempt) == (6, 5, 95, 2)
