"""What a client can ask for is bounded in number, and what is too much is refused in words."""

from farm.model import Ending
from farm.protocol import messages as m
from tests.unit.core_harness import Rig, ended, group, session_id

ALICE = session_id("alice")


def replies(rig, peer, kind):
    return [x for x in rig.take(peer) if isinstance(x, kind)]


def test_jobs_of_a_client():
    rig = Rig(session_jobs=2)
    client = rig.client()
    for number in (1, 2, 3):
        rig.say(client, m.JobOpen(number, f"job {number}"))
    rig.submit(client, group(1, 1, job=2), group(2, 1, job=3))
    (refused,) = replies(rig, client, m.Refused)
    assert (refused.first, refused.reason) == (2, "jobs")
    assert "one too many" in refused.message
    assert len(rig.ledger.jobs.all) == 2
    rig.say(client, m.JobOpen(1, "job 1"))  # again: it is known
    rig.client("bob")
    rig.say(rig.peers["bob"], m.JobOpen(1, "another"))
    assert len(rig.ledger.jobs.all) == 3


def test_cancels_held_back_during_recovery():
    rig = Rig(cancel_tasks=3)
    rig.host(slots=0, window=0)
    rig.submit(rig.client(), group(1, 3))
    rig.reload()
    client = rig.client()
    rig.say(client, m.Cancel(1, [(ALICE, 1, 1), (ALICE, 2, 1)]))
    rig.say(client, m.Cancel(2, [(ALICE, 3, 1)]))
    assert replies(rig, client, m.CancelReply) == [m.CancelReply(2, [])]
    rig.host(slots=0, window=0)
    rig.commit()
    (reply,) = replies(rig, client, m.CancelReply)
    assert (reply.request, reply.cancelled) == (1, [(ALICE, 1, 2)])
    rig.say(client, m.Cancel(3, [(ALICE, 3, 1)]))
    rig.commit()
    assert replies(rig, client, m.CancelReply) == [m.CancelReply(3, [(ALICE, 3, 1)])]


def test_tasks_that_are_recalled_for_cancels():
    rig = Rig(cancel_tasks=2)
    client, host = rig.client(), rig.host()
    rig.submit(client, group(1, 1))
    (grant,) = rig.grants(host)
    for number in (1, 2, 3):
        rig.say(client, m.Cancel(number, [(ALICE, 1, 1)]))
    assert replies(rig, client, m.CancelReply) == [m.CancelReply(3, [])]
    assert len(replies(rig, host, m.Recall)) == 2
    rig.report(host, ended=[ended(grant)])
    assert len(replies(rig, client, m.CancelReply)) == 2
    assert rig.core.cancels.waiting == 0
    rig.submit(client, group(2, 1))
    rig.say(client, m.Cancel(4, [(ALICE, 2, 1)]))
    assert len(replies(rig, host, m.Recall)) == 1


def test_jobs_that_a_reader_follows():
    rig = Rig(session_follows=2)
    rig.say(rig.client(), m.JobOpen(1, "census"))
    reader = rig.client("bob")
    for number in (1, 2, 3):
        rig.say(reader, m.Attach(number, [], "census"))
    assert [bool(x.error) for x in replies(rig, reader, m.JobInfo)] == [False, False, True]
    rig.drop(reader)
    reader = rig.client("bob")
    rig.say(reader, m.Attach(4, [], "census"))
    assert [x.error for x in replies(rig, reader, m.JobInfo)] == [""]


def test_outcomes_that_wait_for_their_owner():
    rig = Rig(session_outcomes=3)
    client, host = rig.client(window_bytes=1), rig.host(slots=9, window=9)
    rig.submit(client, *(group(n, 1) for n in range(1, 6)))
    for number, grant in enumerate(rig.grants(host), 1):
        rig.report(host, number=number, window=9, ended=[ended(grant)])
    rig.take(client)
    rig.submit(client, group(6, 1))
    (refused,) = replies(rig, client, m.Refused)
    assert refused.reason == "busy"
    assert "outcomes wait" in refused.message
    assert replies(rig, client, m.Credit) == []
    for number in range(1, 6):
        rig.say(client, m.Taken(number))
    assert replies(rig, client, m.Credit)
    rig.submit(client, group(6, 1))
    assert replies(rig, client, m.Refused) == []


def test_a_reader_that_does_not_keep_up_is_told_all_a_page_at_a_time():
    rig = Rig(session_outcomes=2)
    client, host = rig.client(), rig.host(slots=9, window=9)
    rig.submit(client, group(1, 9))
    (grant,) = rig.grants(host)
    reader = rig.client("bob", window_bytes=1)
    rig.say(reader, m.Attach(1, [(ALICE, 1, 9)]))
    for number in range(9):
        ends = [ended(grant, lo=number, hi=number + 1)]
        rig.report(host, number=number + 1, window=9, ended=ends)
        rig.say(client, m.Taken(number + 1))
    told, number = [], 0
    while found := [x for x in rig.take(reader) if isinstance(x, m.Results)]:
        assert len(rig.ledger.sessions[session_id("bob")].outbox) <= 2
        for results in found:
            told += [(x.first, x.count) for x in results.entries]
            number = results.number
        rig.say(reader, m.Taken(number))
        rig.answer_loads()
    assert told == [(number, 1) for number in range(1, 10)]
    assert not rig.closed
    assert not rig.ledger.paged


def test_a_reader_that_follows_more_than_may_wait_is_told_all_of_it():
    rig = Rig(session_outcomes=4)
    client, host = rig.client(), rig.host(slots=64, window=64)
    rig.say(client, m.JobOpen(1, "big"))
    rig.submit(client, *(group(n, 1, job=1) for n in range(1, 41)))
    ends = [ended(grant, payloads=[b"x"] * grant.count) for grant in rig.grants(host)]
    rig.report(host, window=64, ended=ends)
    reader = rig.client("bob", window_bytes=1)
    rig.say(reader, m.Attach(1, [], "big"))
    told = []
    while found := [x for x in rig.take(reader) if isinstance(x, m.Results)]:
        assert len(rig.ledger.sessions[session_id("bob")].outbox) <= 4
        for results in found:
            told += [x.first for x in results.entries]
        rig.say(reader, m.Taken(found[-1].number))
        rig.answer_loads()
    assert told == list(range(1, 41))
    assert not rig.closed


def test_who_comes_back_may_follow_again_what_it_did_whatever_waits_for_it():
    rig = Rig(session_outcomes=1)
    client, host = rig.client(), rig.host(slots=9, window=9)
    reader = rig.client("bob", window_bytes=1)
    rig.submit(reader, *(group(n, 1) for n in (1, 2, 3)))
    rig.report(host, window=9, ended=[ended(grant) for grant in rig.grants(host)])
    rig.submit(client, group(1, 1), group(2, 1))
    rig.drop(reader)  # it has taken nothing
    reader = rig.client("bob", window_bytes=1)
    rig.say(reader, m.Attach(1, [(ALICE, 1, 1)]))
    rig.say(reader, m.Attach(2, [(ALICE, 2, 1), (ALICE, 7, 1)]))
    assert [x.error for x in replies(rig, reader, m.JobInfo)] == ["", ""]
    ends = [ended(grant) for grant in rig.grants(host)]
    rig.report(host, number=2, window=9, ended=ends)
    told, number = {}, 1
    for _ in range(12):
        rig.say(reader, m.Taken(number))
        rig.answer_loads()
        for x in rig.take(reader):
            if isinstance(x, m.Results):
                told |= {(r.session, r.first): r.ending for r in x.entries}
                number = x.number
    alices = {counter: end for (owner, counter), end in told.items() if owner == ALICE}
    assert alices == {1: Ending.OK, 2: Ending.OK, 7: Ending.UNKNOWN}


def test_pages_are_forgotten_with_their_connection_and_say_what_is_gone_meanwhile():
    rig = Rig(session_outcomes=2)
    client, host = rig.client(), rig.host(slots=64, window=64)
    rig.submit(client, *(group(n, 1) for n in range(1, 10)))
    rig.report(host, window=64, ended=[ended(grant) for grant in rig.grants(host)])
    reader = rig.client("bob", window_bytes=1)
    rig.say(reader, m.Attach(1, [(ALICE, 1, 9)]))
    assert rig.ledger.sessions[session_id("bob")].pages
    rig.drop(reader)
    assert not rig.ledger.sessions[session_id("bob")].pages
    reader = rig.client("bob", window_bytes=1)
    rig.say(reader, m.Attach(1, [(ALICE, 1, 9)]))
    rig.say(client, m.Taken(10_000))
    rig.sleep(3600)
    told = {}
    while found := [x for x in rig.take(reader) if isinstance(x, m.Results)]:
        told |= {x.first + i: x.ending for r in found for x in r.entries for i in range(x.count)}
        rig.say(reader, m.Taken(found[-1].number))
        rig.answer_loads()
    assert sorted(told) == list(range(1, 10))
    assert told[9] is Ending.DELIVERED
