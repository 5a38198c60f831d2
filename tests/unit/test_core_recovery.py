"""After a restart: adoption, fencing, and the backlog that waits for both."""

from farm.model import Ending, State
from farm.protocol import messages as m
from farm.protocol import records as r
from tests.unit.core_harness import Rig, claim, ended, group, key, packed, session_id


def running(rig=None, *groups, window=4, slots=4, name="host"):
    """A rig with tasks running on a host; the rig and the grants."""
    rig = rig or Rig()
    client, host = rig.client(), rig.host(name, slots=slots, window=window)
    rig.submit(client, *(groups or [group(1, 2)]))
    grants = rig.grants(host)
    rig.take()
    return rig, grants


def states(rig, name="alice"):
    return [
        State(s).name if s < 15 else "SETTLED"
        for batch in rig.ledger.sessions[session_id(name)].batches
        for s in batch.states
    ]


def test_what_a_host_claims_is_adopted_and_not_run_again():
    rig, (grant,) = running()
    rig.reload()
    assert rig.ledger.recovering
    host = rig.host(claims=[claim(grant)], quiet=False)
    (welcome,) = rig.of(m.HostWelcome)
    assert welcome.drop == []
    assert states(rig) == ["LEASED"] * 2
    rig.client()
    rig.report(host, ended=[ended(grant)])
    assert {x.ending for x in rig.results(rig.peers["alice"])} == {Ending.OK}


def test_the_backlog_waits_for_the_hosts_of_the_last_epoch_or_the_grace():
    rig, _ = running()
    rig.reload()
    other = rig.host("other")
    assert rig.take() == []
    rig.sleep(4.9)
    assert rig.take() == []
    rig.sleep(0.2)
    assert [(g.first, g.count, g.attempt) for g in rig.grants(other)] == [(1, 2, 1)]
    assert any(isinstance(r.decode_record(x), r.Recovered) for x in rig.disk.records.values())


def test_the_backlog_is_released_only_when_the_fence_is_durable():
    rig, _ = running()
    rig.reload()
    rig.host("other")
    rig.take()
    rig.tick(6.0)
    assert rig.take() == []
    rig.commit()
    assert rig.of(m.Assign)


def test_new_submissions_run_while_the_backlog_waits():
    rig, _ = running()
    rig.reload()
    other = rig.host("other")
    rig.submit(rig.client(), group(10, 1))
    assert [g.first for g in rig.grants(other)] == [10]


def test_a_claim_after_the_grace_is_fenced_off():
    rig, (grant,) = running()
    rig.reload()
    rig.sleep(6)
    rig.host(claims=[claim(grant)], quiet=False)
    (welcome,) = rig.of(m.HostWelcome)
    assert welcome.drop == [claim(grant)]


def test_a_stale_token_is_not_adopted_though_its_host_comes_first():
    """A is cut off with attempt 1, B runs attempt 2; after a restart A says HELLO first."""
    rig, (old,) = running(Rig(), group(1, 1))
    rig.sleep(40, rig.peers["host"])
    other = rig.host("b")
    (new,) = rig.grants(other)
    assert new.attempt == 2
    rig.reload()
    rig.host(claims=[claim(old)], quiet=False)
    assert rig.of(m.HostWelcome)[0].drop == [claim(old)]
    rig.host("b", claims=[claim(new)], quiet=False)
    assert rig.of(m.HostWelcome)[0].drop == []
    assert states(rig) == ["LEASED"]


def test_fenced_in_the_second_epoch_and_still_in_the_third():
    rig, (old,) = running(Rig(), group(1, 1))
    rig.reload()
    rig.sleep(6)
    (second,) = rig.grants(rig.host("b"))
    assert (second.attempt, rig.epoch) == (1, 11)
    rig.reload()
    rig.host(claims=[claim(old)], quiet=False)
    assert rig.of(m.HostWelcome)[0].drop == [claim(old)]
    rig.host("b", claims=[claim(second, epoch=11)], quiet=False)
    assert rig.of(m.HostWelcome)[0].drop == []


def test_adopted_twice_keeps_its_first_token():
    rig, (old,) = running(Rig(), group(1, 1))
    for _ in range(2):
        rig.reload()
        rig.host(claims=[claim(old)], quiet=False)
        assert rig.of(m.HostWelcome)[0].drop == []
        rig.sleep(6)
    assert states(rig) == ["LEASED"]


def test_the_fence_survives_the_copying_out_of_a_row():
    """The first batch of the row was over before the fence and is kept; the second runs."""
    rig = Rig()
    client, host = rig.client(), rig.host(slots=1, window=1)
    rig.submit(client, group(1, 1, template=m.Template(result_ttl=1e6)), group(2, 400))
    (first,) = rig.grants(host)
    _end(rig, host, [first], window=1)
    (old,) = rig.grants(host)
    assert old.first == 2
    rig.reload()
    rig.sleep(6)  # the fence; nothing was adopted
    client, other = rig.client(quiet=False), rig.host("b", slots=512, window=512)
    rig.answer_loads()
    grants = rig.grants(other)
    assert sum(g.count for g in grants) == 400
    _end(rig, other, [g for g in grants if g.first != 2])
    _end(rig, other, [g for g in grants if g.first == 2], keep=3)
    last = max(x.number for x in rig.take(client) if isinstance(x, m.Results))
    rig.say(client, m.Taken(last))
    before = max(rig.disk.records)
    rig.sleep(2)
    (row,) = [x for x in map(r.decode_record, rig.disk.records.values()) if _is_row(x)]
    assert max(rig.disk.records) > before
    assert [(x.first, x.count) for x in row.groups] == [(1, 1), (2, 3)]
    rig.reload()
    rig.host(claims=[claim(old)], quiet=False)
    assert [c.first for c in rig.of(m.HostWelcome)[0].drop] == [2]


def _is_row(record):
    return isinstance(record, r.Submitted)


def _end(rig, host, grants, *, keep=0, window=512):
    """End all tasks of these grants but the first ``keep``."""
    epoch = rig.epoch
    rig.report(host, window=window, ended=[ended(g, epoch=epoch, lo=keep) for g in grants])


def test_a_resubmitted_task_cannot_be_taken_back_from_its_new_run():
    """A has (10,1) of a task never committed; it is sent again and B runs (11,1)."""
    rig = Rig()
    client, host = rig.client(), rig.host()
    rig.submit(client, group(1, 1))
    backlog = rig.grants(host)
    rig.submit(client, group(2, 1), commit=False)
    (lost,) = rig.grants(host)
    rig.reload()
    client, other = rig.client(), rig.host("b")
    rig.submit(client, group(2, 1))
    (new,) = rig.grants(other)
    assert (new.first, new.attempt) == (2, 1)
    assert rig.ledger.recovering
    rig.reload()  # before recovery ended
    rig.host(claims=[claim(lost), claim(backlog[0])], quiet=False)
    assert rig.of(m.HostWelcome)[0].drop == [claim(lost)]
    rig.host("b", claims=[claim(new, epoch=11)], quiet=False)
    assert rig.of(m.HostWelcome)[0].drop == []


def test_what_ends_during_recovery_is_queued_once_and_after_its_commit():
    rig, (grant,) = running()
    rig.host("b", slots=0, window=0)
    rig.reload()
    host = rig.host(claims=[claim(grant, started=False)])
    assert rig.ledger.recovering
    rig.say(host, m.Report(1, 4, [], returned=[key(grant)]))
    rig.tick(6.0)  # recovery ends in the same breath, nothing is committed
    assert rig.of(m.Assign) == []
    rig.commit()
    assert [(g.first, g.attempt) for x in rig.of(m.Assign) for g in x.grants] == [(1, 2)]


def test_what_is_given_back_during_recovery_runs_after_it():
    rig, (grant,) = running()
    rig.host("b", slots=0, window=0)
    rig.reload()
    host = rig.host(claims=[claim(grant, started=False)])
    rig.report(host, returned=[key(grant)])
    assert rig.ledger.recovering
    rig.sleep(6)
    grants = rig.grants(host)
    assert sum(g.count for g in grants) == 2
    rig.report(host, number=2, ended=[ended(g, epoch=11) for g in grants])
    assert states(rig) == ["SUCCEEDED"] * 2


def test_part_of_a_lease_that_has_ended_does_not_hinder_the_rest():
    rig, (grant,) = running(None, packed(1, 10))
    rig.report(rig.peers["host"], ended=[ended(grant, lo=2, hi=5)])
    rig.reload()
    host = rig.host(claims=[claim(grant, lo=0, hi=5), claim(grant, lo=5, started=False)])
    assert states(rig) == ["LEASED"] * 2 + ["SUCCEEDED"] * 3 + ["LEASED"] * 5
    rig.report(host, ended=[ended(grant, lo=0, hi=2), ended(grant, lo=5)])
    assert states(rig) == ["SUCCEEDED"] * 10
    assert rig.ledger.open_tasks == 0


def test_a_claim_of_what_is_unknown_is_dropped():
    rig, (grant,) = running()
    rig.reload()
    odd = [
        m.Claim(10, 99, 1, b"?" * 16, 1, 2),
        m.Claim(10, 98, 1, grant.session, 50, 2),
        m.Claim(10, 97, 5, grant.session, 1, 2),
        m.Claim(10, 96, 1, grant.session, 0, 0),
    ]
    rig.host(claims=[*odd, claim(grant)], quiet=False)
    assert rig.of(m.HostWelcome)[0].drop == odd[:3]


def test_nothing_is_adopted_under_a_token_of_this_epoch_or_a_later_one():
    rig, (grant,) = running()
    rig.reload()
    rig.submit(rig.client(), group(10, 2, template=m.Template(durable=False)))
    odd = [m.Claim(epoch, 1, 1, grant.session, 10, 1) for epoch in (10, 11, 12)]
    rig.host("b", claims=[*odd, claim(grant, epoch=11)], quiet=False)
    assert rig.of(m.HostWelcome)[0].drop == [*odd, claim(grant, epoch=11)]
    assert states(rig)[:2] == ["QUEUED"] * 2


def test_two_hosts_cannot_both_adopt():
    rig, (grant,) = running()
    rig.host("b", slots=0, window=0)
    rig.reload()
    rig.host(claims=[claim(grant)])
    rig.host("b", claims=[claim(grant)], quiet=False)
    assert rig.of(m.HostWelcome)[0].drop == [claim(grant)]


def test_a_cancel_during_recovery_waits_until_it_is_known_what_runs():
    rig, (grant,) = running(None, group(1, 6))
    assert grant.count == 4
    rig.reload()
    client = rig.client()
    rig.say(client, m.Cancel(7, [(grant.session, 1, 6)]))
    assert rig.of(m.CancelReply) == []
    host = rig.host(claims=[claim(grant, hi=2), claim(grant, lo=2, started=False)])
    (recall,) = [x for x in rig.take(host) if isinstance(x, m.Recall)]
    assert recall.runs == [key(grant, lo=2)]
    rig.report(host, returned=[key(grant, lo=2)])
    (reply,) = [x for x in rig.take(client) if isinstance(x, m.CancelReply)]
    assert sorted(reply.cancelled) in (
        [(grant.session, 3, 2), (grant.session, 5, 2)],
        [(grant.session, 3, 4)],
    )


def test_a_delayed_task_that_runs_is_adopted():
    rig = Rig()
    client, host = rig.client(), rig.host()
    rig.submit(client, group(1, 1, template=m.Template(delay=10.0)))
    rig.sleep(11)
    (grant,) = rig.grants(host)
    rig.reload()
    rig.host(claims=[claim(grant)], quiet=False)
    assert rig.of(m.HostWelcome)[0].drop == []


def test_delays_and_expiries_go_on_across_a_restart():
    rig = Rig()
    client = rig.client()
    rig.submit(client, group(1, 1, template=m.Template(delay=60.0)))
    rig.submit(client, group(2, 1, template=m.Template(expires=60.0)))
    rig.reload(after=30.0)
    client = rig.client()
    rig.sleep(29)
    assert states(rig) == ["SCHEDULED", "QUEUED"]
    rig.sleep(2)
    assert states(rig) == ["QUEUED", "EXPIRED"]


def test_a_task_that_expired_while_the_coordinator_was_down_does_not_run():
    rig = Rig()
    rig.submit(rig.client(), group(1, 1, template=m.Template(expires=60.0)))
    rig.reload(after=100.0)
    host = rig.host()
    rig.commit()
    assert rig.grants(host) == []
    assert states(rig) == ["EXPIRED"]


def test_hosts_of_a_recovery_that_was_cut_short_are_waited_for_again():
    rig, (grant,) = running()
    rig.reload()
    rig.reload()
    assert rig.ledger.recovering
    rig.host(claims=[claim(grant)])
    assert states(rig) == ["LEASED"] * 2


def test_without_a_backlog_there_is_nothing_to_recover():
    rig = Rig()
    rig.host()
    rig.reload()
    assert not rig.ledger.recovering


def test_an_unknown_lease_in_a_later_epoch_is_not_mistaken_for_another():
    """Lease numbers begin anew in each epoch; the epoch is part of the name."""
    rig, (old,) = running(Rig(), group(1, 1))
    rig.reload()
    host = rig.host(claims=[claim(old)], window=8)
    rig.submit(rig.client(), group(2, 1))
    (new,) = rig.grants(host)
    assert new.lease == old.lease
    rig.report(host, ended=[ended(new, epoch=11)])
    assert states(rig) == ["LEASED", "SUCCEEDED"]
