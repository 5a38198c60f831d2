"""Cancel: an id is in the answer only if its task never runs."""

from farm.model import Ending
from farm.protocol import messages as m
from tests.unit.core_harness import Rig, ended, group, key, packed, session_id

ALICE = session_id("alice")


def farm(*groups, slots=2, **more):
    rig = Rig(**more)
    client, host = rig.client(), rig.host(slots=slots, window=slots)
    rig.submit(client, *groups)
    grants = rig.grants(host)
    rig.take()
    return rig, client, host, grants


def replies(rig, peer):
    return [x for x in rig.take(peer) if isinstance(x, m.CancelReply)]


def test_what_waits_is_cancelled_at_once_and_answered_after_the_commit():
    rig, client, _, _ = farm(group(1, 5), slots=0)
    rig.say(client, m.Cancel(1, [(ALICE, 2, 3)]))
    assert rig.take() == []
    rig.commit()
    sent = rig.take(client)
    assert [type(x) for x in sent] in (
        [m.CancelReply, m.Results],
        [m.Results, m.CancelReply],
    )
    (reply,) = [x for x in sent if isinstance(x, m.CancelReply)]
    (results,) = [x for x in sent if isinstance(x, m.Results)]
    assert reply == m.CancelReply(1, [(ALICE, 2, 3)])
    assert [(e.first, e.count, e.ending) for e in results.entries] == [(2, 3, Ending.CANCELLED)]
    host = rig.host("b", slots=9, window=9)
    assert [(g.first, g.count) for g in rig.grants(host)] == [(1, 1), (5, 1)]
    assert rig.ledger.open_tasks == 2


def test_a_scheduled_task_is_cancelled():
    rig, client, _, _ = farm(group(1, 2, template=m.Template(delay=50.0)))
    rig.say(client, m.Cancel(1, [(ALICE, 1, 1)]))
    rig.commit()
    assert replies(rig, client) == [m.CancelReply(1, [(ALICE, 1, 1)])]
    rig.sleep(60)
    assert [g.first for g in rig.grants(rig.peers["host"])] == [2]


def test_leased_tasks_are_recalled_and_the_host_decides():
    rig, client, host, (grant,) = farm(group(1, 2))
    rig.say(client, m.Cancel(1, [(ALICE, 1, 2)]))
    assert rig.take() == [(host, m.Recall([key(grant)]))]
    rig.report(host, started=[key(grant, hi=1)], returned=[key(grant, lo=1)])
    sent = rig.take(client)
    assert m.CancelReply(1, [(ALICE, 2, 1)]) in sent
    rig.report(host, number=2, ended=[ended(grant, hi=1)])
    assert [(e.first, e.ending) for e in rig.results(client)] == [(1, Ending.OK)]


def test_what_has_begun_is_not_recalled():
    rig, client, host, (grant,) = farm(group(1, 2))
    rig.report(host, started=[key(grant)])
    rig.take()
    rig.say(client, m.Cancel(1, [(ALICE, 1, 2)]))
    assert rig.take() == [(client, m.CancelReply(1, []))]


def test_a_recalled_task_that_ends_meanwhile_is_not_cancelled():
    rig, client, host, (grant,) = farm(group(1, 1))
    rig.say(client, m.Cancel(1, [(ALICE, 1, 1)]))
    rig.report(host, ended=[ended(grant)])
    sent = rig.take(client)
    assert m.CancelReply(1, []) in sent


def test_the_answer_does_not_wait_for_a_host_that_is_lost():
    rig, client, host, _ = farm(group(1, 2))
    rig.say(client, m.Cancel(1, [(ALICE, 1, 2)]))
    rig.drop(host)
    assert replies(rig, client) == []
    rig.sleep(35)
    assert replies(rig, client) == [m.CancelReply(1, [])]
    assert rig.core.cancels.waiting == 0


def test_an_item_of_a_packed_task_is_cancelled_by_itself():
    rig, client, host, (grant,) = farm(packed(1, 10))
    rig.say(client, m.Cancel(1, [(ALICE, 4, 2)]))
    assert rig.take(host) == [m.Recall([key(grant, lo=3, hi=5)])]
    rig.report(host, returned=[key(grant, lo=3, hi=5)])
    assert replies(rig, client) == [m.CancelReply(1, [(ALICE, 4, 2)])]
    parts = [
        ended(grant, hi=3, payloads=[b"3"], packed=True),
        ended(grant, lo=5, payloads=[b"5"], packed=True),
    ]
    rig.report(host, number=2, ended=parts)
    assert (rig.ledger.open_tasks, rig.ledger.open_bytes) == (0, 0)


def test_anyone_who_knows_the_id_may_cancel_and_each_is_answered():
    rig, client, host, (grant,) = farm(group(1, 1))
    other = rig.client("bob")
    rig.say(client, m.Cancel(1, [(ALICE, 1, 1)]))
    rig.say(other, m.Cancel(7, [(ALICE, 1, 1), (ALICE, 99, 5), (b"?" * 16, 1, 1)]))
    rig.report(host, returned=[key(grant)])
    assert replies(rig, client) == [m.CancelReply(1, [(ALICE, 1, 1)])]
    assert replies(rig, other) == [m.CancelReply(7, [(ALICE, 1, 1)])]


def test_a_cancel_asked_again_after_a_reconnect_gives_the_same_answer():
    rig, client, host, (grant,) = farm(group(1, 3))
    rig.say(client, m.Cancel(1, [(ALICE, 1, 3)]))
    rig.report(host, returned=[key(grant)], commit=False)
    client = rig.client()
    rig.say(client, m.Cancel(1, [(ALICE, 1, 3)]))
    assert replies(rig, client) == []
    rig.commit()
    (reply,) = replies(rig, client)
    cancelled = {c for _, first, count in reply.cancelled for c in range(first, first + count)}
    assert cancelled == {1, 2, 3}


def test_a_task_cancelled_between_attempts_does_not_run_again():
    rig, client, host, (grant,) = farm(group(1, 1))
    rig.report(host, ended=[ended(grant, Ending.LOST)], commit=False)
    rig.say(client, m.Cancel(1, [(ALICE, 1, 1)]))
    rig.commit()
    assert rig.grants(host) == []
    sent = rig.take(client)
    assert m.CancelReply(1, [], [(ALICE, 1, 1)]) in sent
    (entry,) = [e for x in sent if isinstance(x, m.Results) for e in x.entries]
    assert (entry.ending, entry.failure.cause) == (Ending.CANCELLED, "stopped")
    rig.say(client, m.Cancel(2, [(ALICE, 1, 1)]))
    assert replies(rig, client) == [m.CancelReply(2, [], [(ALICE, 1, 1)])]
    rig.reload()
    client = rig.client()
    rig.say(client, m.Cancel(3, [(ALICE, 1, 1)]))
    assert replies(rig, client) == [m.CancelReply(3, [], [(ALICE, 1, 1)])]


def cancelled(rig, name="alice"):
    """What a cancel of everything says: of which tasks that they never ran, and the others."""
    client = rig.client(name)
    rig.say(client, m.Cancel(1, [(ALICE, 1, 99)]))
    rig.commit()
    (reply,) = replies(rig, client)
    runs = (reply.cancelled, reply.stopped)
    return tuple([c for _, a, n in found for c in range(a, a + n)] for found in runs)


def test_what_a_lost_host_may_have_begun_is_stopped_and_not_cancelled():
    rig, _, host, _ = farm(group(1, 3))
    rig.sleep(35, host)
    assert cancelled(rig) == ([3], [1, 2])


def test_what_was_given_back_unbegun_is_cancelled_and_what_had_begun_stopped():
    rig, _, host, (grant,) = farm(group(1, 3))
    rig.report(host, window=0, started=[key(grant, hi=1)], returned=[key(grant)])
    assert cancelled(rig) == ([2, 3], [1])


def test_a_recalled_task_that_had_begun_before_is_stopped():
    rig, client, host, (grant,) = farm(group(1, 1))
    rig.report(host, ended=[ended(grant, Ending.LOST)])
    (grant,) = rig.grants(host)
    rig.say(client, m.Cancel(1, [(ALICE, 1, 1)]))
    rig.report(host, number=2, returned=[key(grant)])
    assert replies(rig, client) == [m.CancelReply(1, [], [(ALICE, 1, 1)])]


def test_a_restart_forgets_nothing_of_this():
    rig, _, host, _ = farm(group(1, 3))
    rig.sleep(35, host)
    rig.reload()
    rig.host(claims=[], window=0)
    assert cancelled(rig) == ([3], [1, 2])


def test_after_a_restart_without_a_host_everything_may_have_begun():
    rig, *_ = farm(group(1, 3))
    rig.reload()
    rig.sleep(6)
    rig.submit(rig.client("bob"), group(1, 1))
    rig.reload()
    assert cancelled(rig) == ([], [1, 2, 3])


def test_after_a_restart_with_every_host_it_is_known_what_began():
    rig, *_ = farm(group(1, 3))
    rig.reload()
    rig.host(claims=[], slots=1, window=0)
    assert cancelled(rig) == ([1, 2, 3], [])


def test_another_agent_under_the_name_of_a_host_does_not_know_what_began():
    rig, *_ = farm(group(1, 3))
    rig.reload()
    rig.host(claims=[], instance=b"another agent...", window=0)
    rig.reload()  # and the next one does not take it for the first
    rig.host(claims=[], instance=b"another agent...", window=0)
    assert cancelled(rig) == ([], [1, 2, 3])


def test_a_cancel_waits_until_it_is_known_what_may_have_begun():
    """That recovery is over is not committed yet: what may have run once is still to be buried."""
    rig, *_ = farm(group(1, 1, template=m.Template(max_losses=0)), group(2, 1))
    rig.reload()
    rig.tick(6)
    assert not rig.ledger.recovering
    client = rig.client()
    rig.say(client, m.Cancel(1, [(ALICE, 1, 2)]))
    assert rig.ledger.open_tasks == 2
    rig.commit()
    rig.answer_loads()
    sent = rig.take(client)
    assert m.CancelReply(1, [], [(ALICE, 2, 1)]) in sent
    endings = [(e.first, e.ending) for x in sent if isinstance(x, m.Results) for e in x.entries]
    assert sorted(endings) == [(1, Ending.LOST), (2, Ending.CANCELLED)]


def test_what_a_coordinator_that_is_gone_may_have_let_begin_is_stopped():
    rig = Rig()
    rig.submit(rig.client(), group(1, 1, tried=True), group(2, 1))
    assert cancelled(rig) == ([2], [1])


def test_expiry_ends_what_waits_and_leaves_what_runs():
    template = m.Template(expires=5.0)
    rig, client, host, (grant,) = farm(group(1, 4, template=template))
    rig.sleep(6)
    assert [(e.first, e.count, e.ending) for e in rig.results(client)] == [(3, 2, Ending.EXPIRED)]
    rig.report(host, ended=[ended(grant, hi=1)], returned=[key(grant, lo=1)])
    rig.sleep(1)
    assert [(e.first, e.ending) for e in rig.results(client)] == [
        (1, Ending.OK),
        (2, Ending.EXPIRED),
    ]
    assert rig.grants(host) == []


def test_expiry_of_a_delayed_task():
    rig, client, _, _ = farm(group(1, 1, template=m.Template(delay=50.0, expires=5.0)))
    rig.sleep(6)
    assert [e.ending for e in rig.results(client)] == [Ending.EXPIRED]


def test_queues_of_times_do_not_grow_with_what_is_over():
    template = m.Template(expires=1e6)
    groups = [group(first, 1, template=template) for first in range(1, 301)]
    rig, client, host, grants = farm(*groups, slots=512)
    rig.report(host, window=512, ended=[ended(grant) for grant in grants])
    rig.say(client, m.Taken(10_000))
    rig.sleep(1)
    assert len(rig.ledger.sessions[ALICE].batches) == 0
    assert len(list(rig.ledger.expiries)) < 100


def test_retried_tasks_that_were_cancelled_leave_the_queue_of_times():
    template = m.Template(retries=1, backoff=1e6)
    rig, client, host, (*grants,) = farm(
        *(group(first, 1, template=template) for first in range(1, 301)),
        slots=512,
        backoff_seconds_max=1e6,
    )
    failed = [ended(grant, Ending.EXCEPTION) for grant in grants]
    rig.report(host, window=512, ended=failed)
    assert len(list(rig.ledger.delays)) == 300
    rig.say(client, m.Cancel(1, [(ALICE, 1, 300)]))
    rig.commit()
    assert len(list(rig.ledger.delays)) < 160
