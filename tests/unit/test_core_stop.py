"""Stop: from the answer on, no outcome of the task counts, and it ends."""

import pytest

from farm.model import Ending
from farm.protocol import messages as m
from farm.protocol import records as r
from tests.unit.core_harness import Rig, claim, ended, group, key, packed, session_id

ALICE = session_id("alice")


def farm(*groups, slots=2, **more):
    rig = Rig(**more)
    client, host = rig.client(), rig.host(slots=slots, window=slots)
    rig.submit(client, *groups)
    grants = rig.grants(host)
    rig.take()
    return rig, client, host, grants


def stop(rig, client, *runs, grace=5.0):
    """Stop tasks; what was answered."""
    rig.say(client, m.Cancel(1, [(ALICE, *run) for run in runs], grace))
    rig.commit()
    (reply,) = [x for x in rig.take(client) if isinstance(x, m.CancelReply)]
    return reply


def told(rig, host):
    return [x for x in rig.take(host) if isinstance(x, m.Recall)]


def endings(rig, client):
    return [
        (e.first, e.count, e.ending, e.failure and e.failure.cause) for e in rig.results(client)
    ]


STOPPED = (Ending.CANCELLED, "stopped")


def test_what_waits_is_cancelled_and_what_is_leased_is_being_stopped():
    rig, client, host, (grant, *_) = farm(group(1, 5))
    reply = stop(rig, client, (1, 5))
    assert reply == m.CancelReply(1, [(ALICE, 3, 3)], [], [(ALICE, 1, 2)])
    assert rig.ledger.open_tasks == 2
    rig.report(host, returned=[key(grant)])
    assert endings(rig, client) == [(1, 2, Ending.CANCELLED, None)]  # they never ran
    assert rig.ledger.open_tasks == 0


def test_nobody_is_told_anything_before_the_stop_is_durable():
    rig, client, host, (grant,) = farm(group(1, 1))
    rig.say(client, m.Cancel(1, [(ALICE, 1, 1)], 2.5))
    assert rig.take() == []
    rig.commit()
    sent = rig.take()
    assert (host, m.Recall([key(grant)], 2.5)) in sent
    assert (client, m.CancelReply(1, [], [], [(ALICE, 1, 1)])) in sent


@pytest.mark.parametrize(
    "end",
    [
        {"ending": Ending.OK, "payloads": [b"value"]},
        {"ending": Ending.EXCEPTION, "payloads": [b"error"], "failure": m.Failure("exception")},
        {"ending": Ending.LOST, "failure": m.Failure("signal", "it died")},
        {"ending": Ending.TIME_LIMIT, "failure": m.Failure("time_limit")},
        {"ending": Ending.CANCELLED, "failure": m.Failure("stopped")},
    ],
)
def test_whatever_the_task_comes_to_it_is_cancelled_and_nothing_is_tried_again(end):
    template = m.Template(retries=5, max_losses=3)
    rig, client, host, (grant,) = farm(group(1, 1, template=template))
    stop(rig, client, (1, 1))
    rig.report(host, ended=[ended(grant, **end)])
    assert endings(rig, client) == [(1, 1, *STOPPED)]
    assert rig.grants(host) == []


def test_what_ended_before_the_stop_came_stands():
    rig, client, host, (grant,) = farm(group(1, 1))
    rig.report(host, ended=[ended(grant)], commit=False)
    reply = stop(rig, client, (1, 1))
    assert reply == m.CancelReply(1, [], [])


def test_one_of_many_that_end_together_is_stopped_and_the_others_are_not():
    rig, client, host, (grant,) = farm(group(1, 4), slots=4)
    stop(rig, client, (2, 1))
    rig.report(host, ended=[ended(grant, payloads=[b"1", b"2", b"3", b"4"])])
    assert endings(rig, client) == [
        (1, 1, Ending.OK, None),
        (2, 1, *STOPPED),
        (3, 2, Ending.OK, None),
    ]


def test_a_packed_value_with_a_stopped_item_in_it_is_made_again_without_it():
    rig, client, host, (grant,) = farm(packed(1, 4))
    stop(rig, client, (2, 1))
    rig.report(host, ended=[ended(grant, payloads=[b"all"], packed=True)])
    assert endings(rig, client) == [(2, 1, *STOPPED)]
    again = rig.grants(host)
    assert sorted((g.first, g.count) for g in again) == [(1, 1), (3, 2)]
    rig.report(host, number=2, ended=[ended(g, payloads=[b"some"], packed=True) for g in again])
    assert [x[2] for x in endings(rig, client)] == [Ending.OK] * 2


def test_a_cancel_is_answered_when_the_packed_value_it_came_too_late_for_is_made_again():
    rig, client, host, (grant,) = farm(packed(1, 4))
    stop(rig, client, (2, 1))
    rig.say(client, m.Cancel(2, [(ALICE, 3, 1)]))
    rig.report(host, ended=[ended(grant, payloads=[b"all"], packed=True)])
    replies = [x for x in rig.take(client) if isinstance(x, m.CancelReply)]
    assert replies == [m.CancelReply(2, [], [])]


def test_a_stop_of_a_task_on_a_lost_host_ends_with_the_lease():
    rig, client, host, (grant,) = farm(group(1, 1, template=m.Template(max_losses=0)))
    rig.report(host, started=[key(grant)])
    rig.drop(host)
    assert stop(rig, client, (1, 1)).stopping == [(ALICE, 1, 1)]
    rig.sleep(35)
    assert endings(rig, client) == [(1, 1, *STOPPED)]
    assert rig.of(m.Assign) == []


def test_a_host_that_was_cut_off_is_told_when_it_is_back():
    rig, client, host, (grant,) = farm(group(1, 1))
    rig.drop(host)
    stop(rig, client, (1, 1), grace=1.5)
    rig.take()
    again = rig.host(claims=[claim(grant)], quiet=False, connection=2)
    assert told(rig, again) == [m.Recall([key(grant)], 1.5)]


def test_a_stop_outlives_the_coordinator_with_the_attempt_that_is_adopted():
    rig, client, _host, (grant,) = farm(group(1, 1))
    stop(rig, client, (1, 1), grace=1.5)
    rig.reload()
    again = rig.host(claims=[claim(grant)], quiet=False)
    assert told(rig, again) == [m.Recall([key(grant)], 1.5)]
    client = rig.client()
    rig.report(again, ended=[ended(grant)])
    assert endings(rig, client) == [(1, 1, *STOPPED)]


def test_what_no_host_claims_after_a_restart_does_not_run_again():
    rig, client, _, _ = farm(group(1, 2))
    stop(rig, client, (1, 1))
    rig.reload()
    client, other = rig.client(), rig.host("other", window=9)
    rig.sleep(6)
    assert [(g.first, g.count) for g in rig.grants(other)] == [(2, 1)]
    assert [x[:3] for x in endings(rig, client)] == [(1, 1, Ending.CANCELLED)]


def test_what_must_not_run_twice_and_may_have_begun_is_not_said_to_have_never_run():
    rig, client, _, _ = farm(group(1, 1, template=m.Template(max_losses=0)))
    rig.reload()
    client = rig.client()
    stop(rig, client, (1, 1))
    rig.host("other")
    rig.sleep(6)
    assert endings(rig, client) == [(1, 1, *STOPPED)]


def test_a_stop_that_was_not_committed_was_not_answered_and_is_forgotten():
    rig, client, _, (grant,) = farm(group(1, 1))
    rig.say(client, m.Cancel(1, [(ALICE, 1, 1)], 1.0))
    rig.reload()
    again = rig.host(claims=[claim(grant)], quiet=False)
    assert told(rig, again) == []


def test_during_recovery_a_stop_waits_for_nobody_and_is_kept():
    rig, client, _, (grant,) = farm(group(1, 2))
    rig.reload()
    client = rig.client()
    assert stop(rig, client, (1, 2)).stopping == [(ALICE, 1, 2)]
    again = rig.host(claims=[claim(grant, hi=1)], quiet=False)
    assert told(rig, again) == [m.Recall([key(grant, hi=1)], 5.0)]
    rig.report(again, ended=[ended(grant, hi=1)])
    ends = endings(rig, client)
    assert sorted(x[:3] for x in ends) == [
        (1, 1, Ending.CANCELLED),
        (2, 1, Ending.CANCELLED),
    ]
    assert rig.ledger.open_tasks == 0


def test_during_recovery_what_was_adopted_and_waits_again_is_cancelled():
    template = m.Template(retries=3, backoff=60.0)
    rig, client, _, (grant,) = farm(group(1, 1, template=template))
    rig.host("away")  # recovery waits for it
    rig.reload()
    client, other = rig.client(), rig.host("other", window=9)
    host = rig.host(claims=[claim(grant)], quiet=False)
    error = m.Failure("exception", "no")
    rig.report(host, ended=[ended(grant, Ending.EXCEPTION, payloads=[b"e"], failure=error)])
    assert rig.ledger.recovering
    assert stop(rig, client, (1, 1)).stopped == [(ALICE, 1, 1)]
    rig.sleep(120)
    assert rig.grants(other) == []


def test_a_second_stop_may_shorten_the_grace_and_never_lengthens_it():
    rig, client, host, (grant,) = farm(group(1, 1))
    stop(rig, client, (1, 1), grace=5.0)
    rig.take()
    for grace, wanted in ((1.0, [m.Recall([key(grant)], 1.0)]), (9.0, []), (1.0, [])):
        rig.say(client, m.Cancel(2, [(ALICE, 1, 1)], grace))
        rig.commit()
        assert told(rig, host) == wanted
    again = rig.host(claims=[claim(grant)], quiet=False, connection=2)
    assert told(rig, again) == [m.Recall([key(grant)], 1.0)]


def test_a_stop_that_asks_for_nothing_new_is_answered_alike_and_neither_told_nor_written():
    rig, client, host, (grant,) = farm(group(1, 4), slots=4)
    first = stop(rig, client, (1, 2))
    rig.take()
    written = rig.disk.commit
    assert stop(rig, client, (1, 2)) == first
    assert (told(rig, host), rig.disk.commit) == ([], written)
    assert stop(rig, client, (1, 3)).stopping == [(ALICE, 1, 3)]
    assert told(rig, host) == [m.Recall([key(grant, lo=2, hi=3)], 5.0)]


def test_a_repeated_stop_is_not_answered_before_the_first_is_durable():
    rig, client, _, (grant,) = farm(group(1, 1))
    for request in (1, 2):
        rig.say(client, m.Cancel(request, [(ALICE, 1, 1)], 2.5))
    assert rig.take() == []
    rig.commit()
    sent = [message for _, message in rig.take()]
    assert [x for x in sent if isinstance(x, m.Recall)] == [m.Recall([key(grant)], 2.5)]
    assert [x.request for x in sent if isinstance(x, m.CancelReply)] == [1, 2]


def test_a_shorter_grace_is_not_told_before_it_is_durable():
    rig, client, host, (grant,) = farm(group(1, 2))
    rig.say(client, m.Cancel(1, [(ALICE, 1, 2)], 5.0))
    written = len(rig.pending)
    rig.say(client, m.Cancel(2, [(ALICE, 1, 1)], 1.0))
    rig.commit_part(written)
    assert told(rig, host) == [m.Recall([key(grant, lo=1)], 5.0)]
    rig.commit()
    assert told(rig, host) == [m.Recall([key(grant, hi=1)], 1.0)]


def test_the_record_of_a_stop_goes_with_its_tasks():
    rig, client, host, (grant,) = farm(group(1, 1))
    stop(rig, client, (1, 1))
    rig.report(host, ended=[ended(grant)])
    rig.say(client, m.Taken(1))
    rig.sleep(60)
    kept = [r.decode_record(data) for data in rig.disk.records.values()]
    assert not any(isinstance(record, r.Stopping | r.Submitted) for record in kept)


def test_tasks_that_are_not_durable_are_stopped_and_nothing_is_written():
    rig, client, host, (grant,) = farm(group(1, 1, template=m.Template(durable=False)))
    stop(rig, client, (1, 1))
    kept = [r.decode_record(data) for data in rig.disk.records.values()]
    assert not any(isinstance(record, r.Stopping) for record in kept)
    rig.report(host, ended=[ended(grant)])
    assert endings(rig, client) == [(1, 1, *STOPPED)]
