"""Tasks of tasks: whose slots are lent to them, how deep they are, what ends with its parent."""

import pytest

from farm.core.nested import Nested
from farm.core.policy import QueuePolicy
from farm.model import Ending, TaskId
from farm.protocol import messages as m
from farm.ranges import RangeSet
from tests.unit.core_harness import Rig, claim, ended, group, packed, session_id


def child(first, count=1, *, of=("alice", 1), depth=1, make=group, **more):
    """A group that a task of a session has submitted."""
    parent = (session_id(of[0]), of[1])
    return make(first, count, template=m.Template(depth=depth, parent=parent, **more))


def farm(*, slots=1, max_lent=8, **more):
    """A client whose task runs on a host, and the client of that task's worker."""
    rig = Rig(**more)
    alice = rig.client("alice")
    host = rig.host(slots=slots, window=slots, max_lent=max_lent)
    worker = rig.client("worker")
    return rig, alice, host, worker


def lends(rig, host, waiting, *, slots=1, **more):
    rig.report(host, window=slots + waiting, waiting=waiting, **more)


def test_a_slot_that_is_lent_is_for_children_first():
    rig, alice, host, worker = farm()
    rig.submit(alice, group(1, 3))
    assert [(g.first, g.depth) for g in rig.grants(host)] == [(1, 0)]
    rig.submit(worker, child(1, 2))
    lends(rig, host, 1)
    grants = rig.grants(host)
    assert [(g.session, g.first, g.count, g.depth) for g in grants] == [
        (session_id("worker"), 1, 1, 1)
    ]
    lends(rig, host, 1, number=2, ended=[ended(grants[0])])
    assert [(g.session, g.first) for g in rig.grants(host)] == [(session_id("worker"), 2)]


def test_the_deepest_goes_first_in_whatever_queue_it_is():
    rig, alice, host, worker = farm(queues={"bulk": QueuePolicy()})
    rig.submit(alice, group(1, 1), group(2, 1, template=m.Template(priority=9)))
    assert [g.first for g in rig.grants(host)] == [2]
    deeper = child(2, of=("worker", 1), depth=2, queue="bulk")
    rig.submit(worker, child(1, of=("alice", 2)), deeper)
    lends(rig, host, 1)
    assert [g.depth for g in rig.grants(host)] == [2]


def test_what_a_host_lends_beyond_children_is_for_anybody():
    rig, alice, host, _ = farm()
    rig.submit(alice, group(1, 5))
    assert len(rig.grants(host)) == 1
    lends(rig, host, 1)
    assert [g.first for g in rig.grants(host)] == [2]
    lends(rig, host, 2, number=2)
    assert [g.first for g in rig.grants(host)] == [3]
    lends(rig, host, 3, number=3)  # a quarter of what may be lent
    assert rig.grants(host) == []


def test_what_only_the_tasks_above_have_is_said_as_long_as_these_wait():
    gpu = {"resources": (("gpu", 1.0),)}
    rig = Rig()
    alice, worker, deeper = map(rig.client, ("alice", "worker", "deeper"))
    host = rig.host(slots=4, window=4, max_lent=8, resources={"gpu": 2})
    rig.submit(alice, group(1, template=m.Template(**gpu)))
    (parent,) = rig.grants(host)
    rig.submit(worker, child(1, **gpu))
    (below,) = rig.grants(host)
    rig.submit(deeper, child(1, of=("worker", 1), depth=2, **gpu))
    waits = [(rig.epoch, one.lease, 1) for one in (parent, below)]

    def said():
        rig.say(deeper, m.Query(1, "status", {}))
        rig.say(deeper, m.Query(2, "explain", {"id": str(TaskId(session_id("deeper"), 1))}))
        status, explained = rig.of(m.Answer)
        return [row["why"] for row in status.data["cannot_run"]], explained.data["why"]

    lends(rig, host, 1, slots=4, waits=waits[1:])
    assert said()[0] == []  # the other may end
    lends(rig, host, 2, slots=4, waits=waits, number=2)
    why = "needs gpu=1, and what waits above it keeps that until it ends"
    cannot_run, explained = said()
    assert cannot_run == [why]
    assert f"no host could run it now, whatever else ends: it {why}" in explained
    rig.host("other", slots=1, window=0, resources={"gpu": 1})
    assert said()[0] == []


def test_what_a_host_could_not_begin_is_not_given_to_it_for_what_it_needs():
    rig = Rig()
    alice, worker = rig.client("alice"), rig.client("worker")
    host = rig.host(slots=3, window=3, max_lent=2, labels={"ssd": ""})
    rig.submit(alice, group(1, 1))
    (parent,) = rig.grants(host)
    rig.submit(worker, child(1))
    (below,) = rig.grants(host)
    waits = [(rig.epoch, parent.lease, 1), (rig.epoch, below.lease, 1)]
    lends(rig, host, 2, slots=3, waits=waits)
    needs = m.Template(labels=("ssd",))
    rig.submit(alice, group(2, 1, template=needs), group(3, 1, template=needs))
    (grant,) = rig.grants(host)  # so that three workers have a task, and each slot that is lent
    assert grant.first == 2  # beyond these is for tasks that others wait for
    lends(rig, host, 2, slots=3, waits=waits, number=2, ended=[ended(grant)])
    assert [g.first for g in rig.grants(host)] == [3]


def test_a_slot_that_is_not_lent_goes_by_turns():
    rig, alice, host, worker = farm(slots=2)
    rig.submit(alice, group(1, 1))
    assert len(rig.grants(host)) == 1
    rig.submit(worker, child(1, 4))
    (grant,) = rig.grants(host)  # the other slot
    lends(rig, host, 1, slots=2)
    assert [g.first for g in rig.grants(host)] == [2]
    bob = rig.client("bob")
    rig.submit(bob, group(1, 1))
    lends(rig, host, 1, slots=2, number=2, ended=[ended(grant)])
    (grant,) = rig.grants(host)
    lends(rig, host, 1, slots=2, number=3, ended=[ended(grant)])
    (other,) = rig.grants(host)
    assert session_id("bob") in {grant.session, other.session}


def test_a_host_with_less_to_lend_takes_no_more():
    rig, alice, host, worker = farm(max_lent=0)
    rig.submit(alice, group(1, 2))
    assert len(rig.grants(host)) == 1
    rig.submit(worker, child(1, 1))
    lends(rig, host, 1)
    assert rig.grants(host) == []


def test_many_children_and_packed_ones_are_leased_as_there_is_room():
    rig, alice, host, worker = farm(slots=2)
    rig.submit(alice, group(1, 2))
    assert sum(g.count for g in rig.grants(host)) == 2
    rig.submit(worker, child(1, 5), child(10, 30, make=packed))
    lends(rig, host, 2, slots=2)
    (first,) = rig.grants(host)
    assert (first.first, first.count) == (1, 2)
    lends(rig, host, 2, slots=2, number=2, ended=[ended(first)])
    (second,) = rig.grants(host)
    assert (second.first, second.count) == (3, 2)
    lends(rig, host, 2, slots=2, number=3, ended=[ended(second)])
    assert [(g.first, g.count, g.packed) for g in rig.grants(host)] == [
        (5, 1, False),
        (10, 30, True),
    ]


def test_a_task_whose_parent_is_over_is_as_any_other():
    rig, alice, host, worker = farm()
    rig.submit(alice, group(1, 1))
    (grant,) = rig.grants(host)
    rig.submit(worker, child(1, 1))
    rig.report(host, window=1, ended=[ended(grant)])
    (grant,) = rig.grants(host)
    assert grant.depth == 0


def test_what_nobody_waits_for_any_more_keeps_no_child_of_others_waiting():
    rig, alice, host, worker = farm(max_lent=4)
    rig.submit(alice, group(1, 1))
    (first,) = rig.grants(host)
    rig.submit(worker, child(1, depth=5))
    lends(rig, host, 1)
    assert [g.depth for g in rig.grants(host)] == [5]
    rig.report(host, number=2, window=1, ended=[ended(first)])  # its child runs on, for nobody
    rig.submit(alice, group(2, 3, template=m.Template(priority=9)))  # the first of which waits
    lends(rig, host, 1, number=3)
    assert [(g.session, g.first) for g in rig.grants(host)] == [(session_id("alice"), 2)]
    rig.submit(rig.client("other"), child(1, of=("alice", 2)))
    lends(rig, host, 2, number=4)  # there is room for a child, and for nothing that is none
    assert [(g.session, g.depth) for g in rig.grants(host)] == [(session_id("other"), 1)]


def test_a_paused_queue_and_a_key_at_its_most_keep_children_waiting():
    rig, alice, host, worker = farm()
    rig.submit(alice, group(1, 1))
    assert len(rig.grants(host)) == 1
    rig.say(alice, m.Query(1, "pause_queue", {"name": "default"}))
    rig.commit()
    rig.submit(worker, child(1, 1))
    lends(rig, host, 1)
    assert rig.grants(host) == []
    rig.say(alice, m.Query(2, "resume_queue", {"name": "default"}))
    rig.commit()
    assert len(rig.grants(host)) == 1


def test_children_of_which_the_first_is_being_read_keep_their_order():
    rig, alice, host, worker = farm(resident_payload_bytes=50)
    rig.submit(alice, group(1, 1))
    assert len(rig.grants(host)) == 1
    large = child(1)
    large.payloads, large.size = [b"x" * 100], 100
    rig.submit(worker, large)
    rig.submit(worker, child(2))
    batches = rig.ledger.sessions[session_id("worker")].batches
    assert [batch.stored for batch in batches] == [True, False]
    lends(rig, host, 1)
    assert rig.grants(host) == []
    rig.answer_loads()
    assert [g.first for g in rig.grants(host)] == [1]


def test_a_host_that_leaves_is_given_what_its_own_tasks_wait_for():
    rig, alice, host, worker = farm()
    rig.submit(alice, group(1, 2))
    assert len(rig.grants(host)) == 1
    rig.submit(worker, child(1, 1, of=("alice", 2)), child(2, 1))
    lends(rig, host, 1, leaving=True)
    (grant,) = rig.grants(host)
    assert (grant.session, grant.first) == (session_id("worker"), 2)
    lends(rig, host, 1, number=2, leaving=True, ended=[ended(grant)])
    assert rig.grants(host) == []


def test_so_is_one_that_was_asked_to_leave():
    rig, alice, host, worker = farm()
    rig.submit(alice, group(1, 2))
    assert len(rig.grants(host)) == 1
    rig.say(alice, m.DrainHost(1, "host"))
    lends(rig, host, 1)
    assert rig.grants(host) == []
    rig.submit(worker, child(1, 1))
    assert [g.first for g in rig.grants(host)] == [1]


def test_lending_is_told_to_those_who_ask():
    rig, alice, host, _ = farm()
    rig.submit(alice, group(1, 1))
    lends(rig, host, 1)
    rig.take()
    rig.say(alice, m.Query(1, "hosts", {}))
    rig.say(alice, m.Query(2, "status", {}))
    hosts, status = rig.of(m.Answer)
    assert hosts.data[0]["lent"] == status.data["lent"] == 1


def test_a_new_connection_of_a_host_lends_nothing_until_it_says_so():
    rig, alice, host, worker = farm()
    rig.submit(alice, group(1, 1))
    (grant,) = rig.grants(host)
    lends(rig, host, 1)
    rig.drop(host)
    rig.submit(worker, child(1, 1))
    host = rig.host(slots=1, window=0, max_lent=8, claims=[claim(grant)])
    assert rig.grants(host) == []
    lends(rig, host, 1, number=2)
    assert len(rig.grants(host)) == 1


def test_children_are_known_as_such_after_a_restart():
    rig, alice, host, worker = farm(recovery_seconds=1.0)
    rig.submit(alice, group(1, 2))
    (grant,) = rig.grants(host)
    rig.submit(worker, child(1, 1))
    rig.reload()
    host = rig.host(slots=1, window=0, max_lent=8, claims=[claim(grant)])
    rig.commit()
    lends(rig, host, 1, number=2)
    (grant,) = rig.grants(host)
    assert (grant.session, grant.depth) == (session_id("worker"), 1)


def test_children_that_are_over_are_no_children_after_a_restart():
    rig, alice, host, worker = farm(recovery_seconds=1.0)
    rig.submit(alice, group(1, 1))
    assert len(rig.grants(host)) == 1
    rig.submit(worker, child(1, 2))
    lends(rig, host, 1)
    (grant,) = rig.grants(host)
    lends(rig, host, 1, number=2, ended=[ended(grant)])
    (grant,) = rig.grants(host)
    lends(rig, host, 1, number=3, ended=[ended(grant)])
    rig.reload()
    assert rig.ledger.nested.below([(session_id("alice"), 1, 1)]) == []


# ---------------------------------------------------------------- cancelled and stopped parents


def stop(rig, peer, first=1, grace=2.0):
    rig.take()
    rig.say(peer, m.Cancel(9, [(session_id("alice"), first, 1)], grace))
    rig.commit()
    return rig.take()


def replies(sent):
    return [message for _, message in sent if isinstance(message, m.CancelReply)]


def test_what_a_stopped_task_has_submitted_is_stopped_too():
    rig, alice, host, worker = farm()
    rig.submit(alice, group(1, 1))
    rig.grants(host)
    rig.submit(worker, child(1, 3))
    lends(rig, host, 1)
    rig.submit(worker, child(4, 1, of=("worker", 1), depth=2))
    sent = stop(rig, alice)
    (reply,) = replies(sent)
    assert reply.stopping == [(session_id("alice"), 1, 1)]
    assert reply.stopped == reply.cancelled == []
    (recall,) = [message for _, message in sent if isinstance(message, m.Recall)]
    assert [run[2] for run in recall.runs] == [1, 1]  # the parent, and the child that runs
    results = [e for _, msg in sent if isinstance(msg, m.Results) for e in msg.entries]
    assert {e.ending for e in results} == {Ending.CANCELLED}
    assert sorted(c for e in results for c in range(e.first, e.first + e.count)) == [2, 3, 4]


def test_what_others_have_submitted_goes_on():
    rig, alice, host, worker = farm(slots=2)
    rig.submit(alice, group(1, 2))
    rig.grants(host)
    rig.submit(worker, child(1, 1), child(2, 1, of=("alice", 2)))
    sent = stop(rig, alice)
    results = [e.first for _, msg in sent if isinstance(msg, m.Results) for e in msg.entries]
    assert results == [1]


def test_a_cancel_that_comes_too_late_leaves_children_alone():
    rig, alice, host, worker = farm()
    rig.submit(alice, group(1, 1))
    (grant,) = rig.grants(host)
    rig.submit(worker, child(1, 1))
    lends(rig, host, 1, started=[(10, grant.lease, 1, 1)])
    rig.take()
    rig.say(alice, m.Cancel(9, [(session_id("alice"), 1, 1)]))
    rig.commit()
    sent = rig.take()
    assert replies(sent)[0].cancelled == []
    assert not any(isinstance(message, m.Results) for _, message in sent)


def test_what_an_attempt_before_has_submitted_ends_with_the_task():
    rig, alice, host, worker = farm()
    rig.submit(alice, group(1, 1, template=m.Template(retries=1, backoff=60.0)))
    (grant,) = rig.grants(host)
    rig.submit(worker, child(1, 1, delay=90.0))
    failure = m.Failure("exception", "no")
    rig.report(host, window=1, ended=[ended(grant, Ending.EXCEPTION, failure=failure)])
    rig.take()
    rig.say(alice, m.Cancel(9, [(session_id("alice"), 1, 1)]))
    rig.commit()
    sent = rig.take()
    assert replies(sent)[0].stopped == [(session_id("alice"), 1, 1)]
    told = [(e.session, e.first) for _, s in sent if isinstance(s, m.Results) for e in s.entries]
    assert (session_id("worker"), 1) in told


def test_parents_that_go_in_a_circle_are_stopped_once():
    rig, alice, host, worker = farm()
    rig.submit(alice, group(1, 1))
    rig.grants(host)
    rig.submit(worker, child(1, 1, of=("worker", 2)), child(2, 1, of=("worker", 1)))
    rig.submit(worker, child(3, 1), child(4, 1, of=("worker", 4)))
    sent = stop(rig, alice)
    results = [e.first for _, msg in sent if isinstance(msg, m.Results) for e in msg.entries]
    assert results == [3]


def test_children_have_the_slots_of_a_packed_task_of_which_two_items_wait():
    rig, alice, host, worker = farm(slots=3, max_lent=2)
    rig.submit(alice, packed(1, 2, template=m.Template(resources=(("slots", 3.0),))))
    assert len(rig.grants(host)) == 1
    rig.submit(worker, child(1, 4))
    rig.report(host, window=6, waiting=4)  # three slots are free; two more workers may have a task
    assert [(g.count, g.depth) for g in rig.grants(host)] == [(2, 1)]


def test_a_child_that_needs_several_slots_has_those_of_its_parent():
    needs = {"resources": (("slots", 3.0),)}
    rig, alice, host, worker = farm(slots=3, max_lent=2)
    rig.submit(alice, group(1, 2, template=m.Template(**needs)))
    assert [(g.first, g.count) for g in rig.grants(host)] == [(1, 1)]
    rig.submit(worker, child(1, 1, **needs))
    rig.report(host, window=6, waiting=3)
    assert [(g.count, g.depth) for g in rig.grants(host)] == [(1, 1)]


def limited(slots=2, **limits):
    """A farm whose queue lets only so many run, where the first of two parents waits."""
    rig, alice, host, worker = farm(slots=slots, queues={"db": QueuePolicy(**limits)})
    key = "k" if "max_running_per_key" in limits else ""
    template = m.Template(queue="db", concurrency_key=key)
    rig.submit(alice, group(1, 2, template=template))
    (grant,) = rig.grants(host)
    assert (grant.first, grant.count) == (1, 1)
    return rig, host, worker, grant, {"queue": "db", "concurrency_key": key}


LIMITS = [{"max_running": 1}, {"max_running_per_key": 1}]


@pytest.mark.parametrize("limits", LIMITS)
def test_a_task_that_waits_lends_its_children_its_place_in_a_queue(limits):
    rig, host, worker, parent, more = limited(**limits)
    rig.submit(worker, child(1, 2, **more))
    assert rig.grants(host) == []  # the parent is at work
    lends(rig, host, 1, slots=2, waits=[(rig.epoch, parent.lease, 1)])
    (first,) = rig.grants(host)
    assert (first.session, first.first, first.count) == (session_id("worker"), 1, 1)
    lends(
        rig, host, 1, slots=2, number=2, waits=[(rig.epoch, parent.lease, 1)], ended=[ended(first)]
    )
    (second,) = rig.grants(host)
    assert (second.session, second.first) == (session_id("worker"), 2)
    lends(rig, host, 0, slots=2, number=3, ended=[ended(second)])
    assert rig.grants(host) == []  # the other parent waits for the first, as ever
    lends(rig, host, 0, slots=2, number=4, ended=[ended(parent)])
    assert [grant.first for grant in rig.grants(host)] == [2]


@pytest.mark.parametrize("limits", LIMITS)
def test_a_place_that_is_lent_is_good_on_any_host(limits):
    rig, host, worker, parent, more = limited(slots=1, **limits)
    other = rig.host("other", slots=1, window=1, resources={"gpu": 1.0})
    rig.submit(worker, child(1, 1, **more, resources=(("gpu", 1.0),)), child(2, 1, **more))
    lends(rig, host, 1, waits=[(rig.epoch, parent.lease, 1)])
    assert [grant.first for grant in rig.grants(other)] == [1]
    assert rig.grants(host) == []


@pytest.mark.parametrize("limits", LIMITS)
def test_the_host_says_anew_who_waits_when_it_is_back(limits):
    rig, host, worker, parent, more = limited(**limits)
    lends(rig, host, 1, slots=2, waits=[(rig.epoch, parent.lease, 1)])
    rig.close(host)
    held = claim(parent)
    host = rig.host(slots=2, window=2, max_lent=8, claims=[held])
    rig.submit(worker, child(1, 1, **more))
    assert rig.grants(host) == []
    lends(rig, host, 1, slots=2, number=2, waits=[(rig.epoch, parent.lease, 1)])
    assert [grant.session for grant in rig.grants(host)] == [session_id("worker")]


def test_who_stops_one_task_has_no_children_of_others_looked_at(monkeypatch):
    rig, alice, _, worker = farm(slots=64)
    rig.submit(alice, group(1, 64))
    rig.submit(worker, *(child(i, of=("alice", i)) for i in range(1, 65)))
    looked = []
    contains, walk = RangeSet.__contains__, Nested.deepest
    monkeypatch.setattr(
        RangeSet, "__contains__", lambda *given: looked.append(given) or contains(*given)
    )
    monkeypatch.setattr(Nested, "deepest", lambda self: (looked.append(b) or b for b in walk(self)))
    nested = rig.ledger.nested
    found = [nested.below([(session_id("alice"), i, 1)]) for i in range(1, 65)]
    assert found == [[(session_id("worker"), i, 1)] for i in range(1, 65)]
    assert len(looked) <= 2 * 64
