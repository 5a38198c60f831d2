"""A task for which nobody has to wait is given to a host at once, before all else is done."""

import pytest

from farm.core.policy import QueuePolicy
from farm.protocol import messages as m
from tests.unit.core_harness import Rig, ended, group, packed


def farm(*, slots=1, **settings):
    rig = Rig(**settings)
    client = rig.client()
    return rig, client, rig.host(slots=slots, window=8)


def received(rig, client, *groups):
    """What hosts are given by the very message, before the turn ends."""
    for one in groups:
        rig.say(client, m.Submit([one]), tick=False)
    return [grant.first for grant in rig.grants(rig.peers["host"])]


def of(queue, **more):
    return m.Template(queue=queue, **more)


@pytest.mark.parametrize("one", [group(1), packed(1, 3)], ids=["a task", "a packed task"])
def test_a_task_is_given_to_a_free_slot_by_its_message_and_written_after_it(one):
    rig, client, _ = farm()
    order = []
    send, persist = rig.send, rig.persist
    rig.send = lambda *sent: (order.append(type(sent[1])), send(*sent))
    rig.persist = lambda ref, record: (order.append(type(record).__name__), persist(ref, record))
    rig.say(client, m.Submit([one]))
    assert order.index(m.Assign) < order.index("Submitted")
    rig.commit()
    assert [message.runs for message in rig.of(m.Accepted)] == [[(1, one.count)]]


def test_without_a_free_slot_it_waits():
    rig, client, _ = farm()
    assert received(rig, client, group(1), group(2)) == [1]
    rig.tick()
    assert rig.grants(rig.peers["host"]) == []


def test_several_are_placed_when_all_have_come():
    rig, client, _ = farm(slots=4)
    assert received(rig, client, group(1, 2)) == []
    rig.tick()
    assert [(g.first, g.count) for g in rig.grants(rig.peers["host"])] == [(1, 2)]


def test_what_came_with_it_may_have_to_go_first():
    rig, client, _ = farm()
    rig.say(client, m.Submit([group(1), group(2, template=m.Template(priority=9))]))
    assert [grant.first for grant in rig.grants(rig.peers["host"])] == [2]


def test_what_waits_already_goes_first():
    rig, client, _ = farm()
    assert received(rig, client, group(1, 2), group(3)) == []
    rig.tick()
    assert [(g.first, g.count) for g in rig.grants(rig.peers["host"])] == [(1, 1)]


def test_what_waits_in_its_queue_for_its_arguments_goes_first():
    rig, client, host = farm(resident_payload_bytes=1)
    rig.submit(client, group(1))
    (grant,) = rig.grants(host)
    for counter in (2, 3):
        rig.submit(client, group(counter, payloads=[b"much" * 99]))
    rig.report(host, window=8, ended=[ended(grant)])
    (grant,) = rig.grants(host)
    rig.report(host, window=8, ended=[ended(grant)])
    assert rig.loads  # of the third, which the free slot is for
    assert received(rig, client, group(4)) == []
    rig.answer_loads()
    assert [grant.first for grant in rig.grants(host)] == [3, 4]


def test_what_needs_more_than_a_slot_is_placed_as_it_fits():
    rig, client, _ = farm(slots=4, resources=("gpu",))
    rig.say(client, m.Submit([group(1, template=m.Template(resources=(("gpu", 1.0),)))]))
    assert rig.grants(rig.peers["host"]) == []


@pytest.mark.parametrize(
    "policy", [QueuePolicy(max_running=1), QueuePolicy(rate=1.0, burst=1)], ids=["running", "rate"]
)
def test_the_limits_of_its_queue_hold(policy):
    rig, client, _ = farm(slots=4, queues={"q": policy})
    assert received(rig, client, *(group(i, template=of("q")) for i in (1, 2, 3))) == []
    rig.tick()
    assert [grant.first for grant in rig.grants(rig.peers["host"])] == [1]


def test_a_paused_queue_gives_nothing():
    rig, client, _ = farm(queues={"q": QueuePolicy()})
    queue = rig.ledger.queues.all["q"]
    queue.set({}, paused=True, now=rig.now)
    assert received(rig, client, group(1, template=of("q"))) == []


def test_a_queue_that_waits_for_a_host_keeps_its_turn():
    rig, client, host = farm(slots=2, queues={"q": QueuePolicy()}, resources=("gpu",))
    needy = m.Template(queue="q", resources=(("gpu", 1.0),))
    rig.submit(client, group(1, template=needy))
    assert not rig.ledger.queues.idle
    rig.submit(client, group(2))
    assert [grant.first for grant in rig.grants(host)] == [2]
    assert rig.ledger.queues.default.deficit < 0, "its placement was not paid for"
