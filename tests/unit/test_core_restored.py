"""A store that was restored from a copy: what ran since the copy was made counts for nothing."""

import pytest

from farm.model import Ending, State, TaskId
from farm.protocol import messages as m
from farm.protocol import records as r
from tests.unit.core_harness import Rig, claim, ended, group, session_id

ALICE = session_id("alice")
ONCE = m.Template(max_losses=0)


def restore(rig, copy):
    """Put a copy in the place of the disk, as ``farm store restore`` does."""
    commit, records, functions = copy
    rig.disk.records, rig.disk.functions = dict(records), dict(functions)
    rig.disk.commit = commit + 1
    rig.epoch += 10
    rig.disk.records[commit + 1] = r.encode_record(r.Restored(rig.epoch))
    rig.promises.outcomes.clear()
    rig.reload()


def copy_of(rig):
    return rig.disk.commit, dict(rig.disk.records), dict(rig.disk.functions)


def test_attempts_that_ran_when_the_copy_was_made_are_fenced_off_and_run_again():
    rig = Rig()
    client, host = rig.client(), rig.host()
    rig.submit(client, group(1))
    (grant,) = rig.grants(host)
    restore(rig, copy_of(rig))
    host = rig.host(claims=[claim(grant)], quiet=False)
    sent = rig.take(host)
    (welcome,) = [x for x in sent if isinstance(x, m.HostWelcome)]
    assert [(c.lease, c.first) for c in welcome.drop] == [(grant.lease, 1)]
    (assign,) = [x for x in sent if isinstance(x, m.Assign)]
    assert assign.epoch == rig.epoch
    assert [(again.first, again.attempt) for again in assign.grants] == [(1, 1)]
    (batch,) = rig.ledger.sessions[ALICE].batches
    assert batch.fence >= rig.epoch


def test_a_host_that_comes_back_without_it_may_have_ended_it_since():
    rig = Rig()
    client, host = rig.client(), rig.host()
    rig.submit(client, group(1, template=ONCE))
    copy = copy_of(rig)
    (grant,) = rig.grants(host)
    rig.report(host, ended=[ended(grant)])
    restore(rig, copy)
    assert rig.grants(rig.host(claims=[])) == []
    assert rig.ledger.open_tasks == 0


def test_a_task_that_must_not_run_twice_is_dead_for_it_may_have_run_since():
    rig = Rig()
    client = rig.client()
    rig.submit(client, group(1, template=ONCE), group(2))
    copy = copy_of(rig)
    host = rig.host()
    (grant, _) = rig.grants(host)
    rig.report(host, ended=[ended(grant)])
    restore(rig, copy)
    client = rig.client(pending=[(1, 2)], quiet=False)
    rig.sleep(6)
    (result,) = rig.results(client)
    assert (result.first, result.ending) == (1, Ending.LOST)
    batches = list(rig.ledger.sessions[ALICE].batches)
    assert State(batches[1].states[0]) is State.QUEUED
    rig.reload()  # and stays so
    rig.sleep(6)
    assert rig.ledger.open_tasks == 1


def test_it_is_dead_even_if_the_host_of_an_attempt_before_comes_back():
    rig = Rig()
    client, host = rig.client(), rig.host()
    again = m.Template(max_losses=0, retries=3, backoff=1000.0)
    rig.submit(client, group(1, template=again))
    (grant,) = rig.grants(host)
    rig.report(host, ended=[ended(grant, Ending.EXCEPTION)])
    restore(rig, copy_of(rig))
    client, _ = rig.client(pending=[(1, 1)], quiet=False), rig.host()
    rig.sleep(6)
    (result,) = rig.results(client)
    assert (result.first, result.ending) == (1, Ending.LOST)


@pytest.mark.parametrize("restarts", [0, 1, 2])
def test_a_cancel_says_that_it_may_have_run_after_restarts_too(restarts):
    rig = Rig()
    client, _ = rig.client(), rig.host(window=0)
    rig.submit(client, group(1))
    restore(rig, copy_of(rig))
    for _ in range(restarts):
        rig.host(window=0)  # all of those that the copy names: recovery is over
        rig.commit()
        assert not rig.ledger.recovering
        rig.reload()
    client, _ = rig.client(), rig.host(window=0)
    rig.say(client, m.Cancel(1, [(ALICE, 1, 1)]))
    rig.commit()
    (reply,) = rig.of(m.CancelReply)
    assert (reply.cancelled, reply.stopped) == ([], [(ALICE, 1, 1)])


def test_tasks_that_the_copy_lacks_are_unknown_to_their_client():
    rig = Rig()
    client = rig.client()
    rig.submit(client, group(1, 2))
    copy = copy_of(rig)
    rig.submit(client, group(3, 4))
    restore(rig, copy)
    client = rig.client(pending=[(1, 6)], quiet=False)
    assert [(x.first, x.count, x.ending) for x in rig.results(client)] == [(3, 4, Ending.UNKNOWN)]


def test_the_record_of_it_goes_with_the_tasks_that_it_concerns():
    rig = Rig()
    client, host = rig.client(), rig.host()
    rig.submit(client, group(1))
    restore(rig, copy_of(rig))
    client, host = rig.client(), rig.host()
    rig.sleep(6)
    rig.report(host, ended=[ended(g, epoch=rig.epoch) for g in rig.grants(host)])
    rig.say(client, m.Taken(9))
    rig.commit()
    rig.sleep(31)
    left = {type(r.decode_record(x)) for x in rig.disk.records.values()}
    assert left == {r.SessionMark, r.HostJoined, r.Remembered}


def test_a_job_that_its_client_has_sealed_since_is_not_open_for_ever():
    rig = Rig()
    client = rig.client()
    rig.say(client, m.JobOpen(1, "nightly"))
    rig.submit(client, group(1, job=1))
    copy = copy_of(rig)
    rig.say(client, m.JobSeal(1, 1))
    rig.commit()
    restore(rig, copy)
    client, reader = rig.client(), rig.client("bob")
    rig.say(reader, m.Attach(1, [], "nightly"))
    assert [x.state for x in rig.of(m.JobInfo)] == ["abandoned"]
    rig.say(client, m.JobOpen(1, "nightly"))  # a client that has not sealed it says so
    assert [x.state for x in rig.of(m.JobInfo)] == ["open"]


def test_a_host_that_has_it_no_more_does_not_say_that_such_a_task_never_ran():
    rig = Rig()
    client, host = rig.client(), rig.host()
    rig.submit(client, group(1, template=ONCE))
    (grant,) = rig.grants(host)
    copy = copy_of(rig)  # it has begun there, as the copy knows, too
    rig.report(host, ended=[ended(grant)])
    restore(rig, copy)
    client, host = rig.client(pending=[(1, 1)], quiet=False), rig.host()
    rig.sleep(6)
    assert rig.grants(host) == []
    (result,) = rig.results(client)
    assert (result.first, result.ending) == (1, Ending.LOST)


def test_what_the_copy_lacks_is_unknown_to_others_too_whatever_its_client_says_later():
    rig = Rig()
    client = rig.client()
    rig.submit(client, group(1))
    copy = copy_of(rig)
    rig.submit(client, group(2, 2))
    restore(rig, copy)
    client = rig.client(pending=[(1, 3)])
    rig.say(client, m.Submit([group(4)], floor=4))
    rig.commit()
    reader = rig.client("bob")
    rig.say(reader, m.Attach(1, [(ALICE, 2, 2)]))
    assert [(x.first, x.count, x.ending) for x in rig.results(reader)] == [(2, 2, Ending.UNKNOWN)]
    rig.say(reader, m.Query(2, "explain", {"id": str(TaskId(ALICE, 2))}))
    (reply,) = rig.of(m.Answer)
    assert "restored from a copy" in reply.error
