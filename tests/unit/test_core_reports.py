"""What hosts report: outcomes, retries, losses, give-backs; stale reports; lost hosts."""

import pytest

from farm.model import Blob, Ending, State
from farm.protocol import messages as m
from farm.protocol.parts import Failure
from tests.unit.core_harness import Rig, claim, ended, group, key, packed, session_id


def farm(*groups, slots=4, window=4, **more):
    rig = Rig(**more)
    client, host = rig.client(), rig.host(slots=slots, window=window)
    rig.submit(client, *groups)
    grants = rig.grants(host)
    rig.take()
    return rig, client, host, grants


def states(rig):
    return [
        State(s).name if s < 15 else "SETTLED"
        for batch in rig.ledger.sessions[session_id("alice")].batches
        for s in batch.states
    ]


def own(rig, index=0):
    (batch,) = rig.ledger.sessions[session_id("alice")].batches
    return batch.diverged[index]


def test_an_outcome_is_published_and_noted_after_its_commit():
    rig, client, host, (grant,) = farm(group(1, 2))
    rig.report(host, ended=[ended(grant)], commit=False)
    assert rig.take() == []
    rig.commit()
    commit = rig.disk.commit
    result = m.Result(grant.session, 1, 2, Ending.OK, [b"r1", b"r2"], 4, seconds=0.001)
    results = m.Results(1, commit, [result])
    assert rig.take() == [(client, results), (host, m.Noted(1, commit))]


def noted(rig, host):
    return [sent.number for sent in rig.take(host) if isinstance(sent, m.Noted)]


def test_reports_are_noted_together_and_so_many_of_them_at_once():
    rig, _, host, _ = farm(upkeep_seconds=0.05)
    for number in range(1, 16):
        rig.report(host, number=number)
    assert noted(rig, host) == []
    rig.report(host, number=16)
    assert noted(rig, host) == [16]
    rig.report(host, number=17)
    rig.tick(0.049)
    assert noted(rig, host) == []
    rig.tick(0.002)
    assert noted(rig, host) == [17]


def test_reports_of_many_bytes_are_noted_at_once_but_for_those_in_files():
    rig, _, host, (grant,) = farm(group(1, 4), upkeep_seconds=0.05)
    large = [ended(grant, lo=at, hi=at + 1, payloads=[bytes(5 << 20)]) for at in range(3)]
    rig.report(host, number=1, ended=large[:1])
    assert noted(rig, host) == []
    rig.report(host, number=2, ended=large[1:2])
    assert noted(rig, host) == [2]
    rig.report(host, number=3, ended=large[2:])
    assert noted(rig, host) == []
    rig.tick(0.051)
    assert noted(rig, host) == [3]
    file = Blob("h" * 32, 20 << 20)
    rig.report(host, number=4, ended=[ended(grant, lo=3, hi=4, payloads=[file])])
    assert noted(rig, host) == []


def test_who_leaves_waits_for_its_note():
    rig, _, host, _ = farm(upkeep_seconds=0.05)
    rig.report(host, number=1, leaving=True)
    assert noted(rig, host) == [1]


def test_a_host_is_told_what_it_need_not_keep_before_the_coordinator_leaves():
    rig, _, host, _ = farm(upkeep_seconds=0.05)
    rig.report(host, number=1)
    assert noted(rig, host) == []
    rig.core.on_stopping(rig.now)
    assert [type(sent) for sent in rig.take(host)] == [m.Noted, m.Bye]


def test_a_submission_is_accepted_at_once_but_for_those_right_after_one():
    rig = Rig(reply_seconds=0.01)
    client = rig.client()

    def accepted():
        return [sent.runs for sent in rig.take(client) if isinstance(sent, m.Accepted)]

    rig.submit(client, group(1))
    assert accepted() == [[(1, 1)]]
    rig.tick(0.004)
    rig.submit(client, group(2))
    rig.submit(client, group(3))
    assert accepted() == []
    rig.tick(0.006)
    assert accepted() == [[(2, 2)]]
    rig.tick(0.02)
    rig.submit(client, group(4))
    assert accepted() == [[(4, 1)]]


def test_results_have_their_share_of_the_time_of_their_run():
    rig, _, host, (grant,) = farm(group(1, 4))
    failed = ended(grant, Ending.EXCEPTION, lo=2, hi=4, seconds=3.0)
    rig.report(host, ended=[ended(grant, hi=2, seconds=1.0), failed])
    results = [
        entry for _, sent in rig.take() if isinstance(sent, m.Results) for entry in sent.entries
    ]
    assert [(one.first, one.count, one.seconds) for one in results] == [
        (1, 2, 1.0),
        (3, 1, 1.5),
        (4, 1, 1.5),
    ]


def test_credit_is_freed_by_the_commit_and_not_before():
    rig, _, host, (grant,) = farm(group(1, 2))
    rig.report(host, ended=[ended(grant)], commit=False)
    assert rig.ledger.open_tasks == 2
    rig.commit()
    assert (rig.ledger.open_tasks, rig.ledger.open_bytes) == (0, 0)


def test_a_report_sent_again_is_noted_and_changes_nothing():
    rig, _, host, (grant,) = farm(group(1, 2))
    rig.report(host, ended=[ended(grant)])
    rig.take()
    rig.report(host, ended=[ended(grant)])
    assert rig.take() == [(host, m.Noted(1, rig.disk.commit))]
    assert rig.ledger.counters["stale"] == 2


def test_a_report_is_noted_only_with_what_it_first_said():
    rig, _, host, (grant,) = farm(group(1, 2))
    rig.report(host, ended=[ended(grant)], commit=False)
    rig.report(host, ended=[ended(grant)], commit=False)
    assert rig.take() == []


@pytest.mark.parametrize(
    "change",
    [
        {"epoch": 9},
        {"lease": 77},
        {"attempt": 2},
        {"first": 100},
        {"count": 0},
    ],
)
def test_a_token_that_is_not_the_leases_is_dropped(change):
    rig, _, host, (grant,) = farm(group(1, 2))
    said = ended(grant)
    for name, value in change.items():
        setattr(said, name, value)
    rig.report(host, ended=[said])
    assert states(rig) == ["LEASED"] * 2
    assert rig.take() == [(host, m.Noted(1, rig.disk.commit))]


def test_of_an_end_that_reaches_beyond_its_lease_only_the_leased_counts():
    rig, client, host, (grant,) = farm(group(1, 2))
    said = ended(grant, payloads=[b"a", b"b", b"c"])
    said.first, said.count = 0, 3
    rig.report(host, ended=[said])
    assert [(x.first, x.payloads) for x in rig.results(client)] == [(1, [b"b", b"c"])]


def test_another_host_cannot_end_a_lease():
    rig, _, _, (grant,) = farm(group(1, 2))
    other = rig.host("other")
    rig.report(other, ended=[ended(grant)])
    assert states(rig) == ["LEASED"] * 2


def test_an_exception_is_retried_after_a_pause_that_grows_with_full_jitter():
    template = m.Template(retries=2, backoff=4.0)
    rig, client, host, (grant,) = farm(group(1, 1, template=template))
    waits = []
    for number in (1, 2):
        rig.report(host, number=number, ended=[ended(grant, Ending.EXCEPTION)])
        assert states(rig) == ["SCHEDULED"]
        waits.append(own(rig).due - rig.now)
        rig.sleep(waits[-1] + 0.01)
        (grant,) = rig.grants(host)
        assert grant.attempt == number + 1
    assert waits == [2.0, 4.0]
    assert rig.results(client) == []
    rig.report(host, number=3, ended=[ended(grant, Ending.EXCEPTION)])
    (result,) = rig.results(client)
    assert (result.ending, result.payloads) == (Ending.EXCEPTION, [b"r1"])


def test_a_retry_is_due_at_the_same_time_after_a_restart():
    template = m.Template(retries=1, backoff=100.0)
    rig, _, host, (grant,) = farm(group(1, 1, template=template))
    rig.report(host, ended=[ended(grant, Ending.EXCEPTION)])
    rig.reload(after=20.0)
    host = rig.host()
    rig.sleep(29.0)
    assert rig.grants(host) == []
    rig.sleep(1.5)
    (grant,) = rig.grants(host)
    assert (grant.attempt, own(rig).retries) == (2, 1)


def test_the_end_of_an_attempt_is_durable_before_the_next():
    rig, _, host, (grant,) = farm(group(1, 1))
    rig.report(host, ended=[ended(grant, Ending.LOST)], commit=False)
    rig.tick(1.0)
    assert rig.take() == []
    rig.reload(commit=0)
    assert rig.ledger.recovering  # and the host still has its report
    rig, _, host, (grant,) = farm(group(1, 1))
    rig.report(host, ended=[ended(grant, Ending.LOST)])
    (again,) = rig.grants(host)
    assert again.attempt == 2
    rig.reload()
    assert own(rig).attempt == 2
    assert own(rig).losses == 1


def test_losses_spent_bury_the_task_with_its_evidence():
    rig, client, host, (grant,) = farm(group(1, 1, template=m.Template(max_losses=1)))
    rig.report(host, ended=[ended(grant, Ending.LOST, failure=Failure("signal", code=-11))])
    (grant,) = rig.grants(host)
    rig.report(host, number=2, ended=[ended(grant, Ending.LOST, failure=Failure("oom", code=-9))])
    (result,) = rig.results(client)
    assert result.ending == Ending.LOST
    assert result.failure == Failure("oom", code=-9, losses=2)
    assert states(rig) == ["DEAD"]


def test_no_losses_allowed_means_never_run_twice():
    rig, client, host, (grant,) = farm(group(1, 1, template=m.Template(max_losses=0)))
    rig.report(host, ended=[ended(grant, Ending.LOST)])
    assert [x.ending for x in rig.results(client)] == [Ending.LOST]
    assert rig.grants(host) == []


@pytest.mark.parametrize("ending", [Ending.TIME_LIMIT, Ending.MEMORY_LIMIT, Ending.BROKEN])
def test_limits_end_a_task_without_retries(ending):
    rig, client, host, (grant,) = farm(group(1, 2))
    rig.report(host, ended=[ended(grant, ending, failure=Failure("limit"))])
    assert [(x.ending, x.first, x.failure.cause) for x in rig.results(client)] == [
        (ending, 1, "limit"),
        (ending, 2, "limit"),
    ]


@pytest.mark.parametrize(
    "ending", [Ending.CANCELLED, Ending.EXPIRED, Ending.UNKNOWN, Ending.DELIVERED]
)
def test_a_host_cannot_report_what_is_not_its_to_say(ending):
    rig, client, host, (grant,) = farm(group(1, 1, template=m.Template(max_losses=0)))
    rig.report(host, ended=[ended(grant, ending)])
    assert [x.ending for x in rig.results(client)] == [Ending.LOST]
    assert rig.ledger.counters["unexpected"] == 1


def test_only_the_poison_item_of_a_packed_task_pays():
    rig, client, host, (grant,) = farm(packed(1, 10))
    rig.report(
        host,
        ended=[
            ended(grant, hi=4, payloads=[b"first four"], packed=True),
            ended(grant, Ending.LOST, lo=4, hi=5, failure=Failure("signal", code=-11)),
        ],
        returned=[key(grant, lo=5)],
    )
    again = sorted((g.first, g.count, g.attempt, g.start) for g in rig.grants(host))
    assert again == [(5, 1, 2, 4), (6, 5, 2, 5)]
    assert [(x.first, x.count, x.packed) for x in rig.results(client)] == [(1, 4, True)]
    assert own(rig, 4).losses == 1
    assert own(rig, 5).losses == 0
    assert rig.ledger.open_tasks == 1
    assert rig.ledger.open_bytes == 4


def test_a_packed_task_partly_finished_is_rebuilt_with_its_bytes():
    rig, _, host, (grant,) = farm(packed(1, 10))
    rig.report(host, ended=[ended(grant, hi=4, payloads=[b"four"], packed=True)])
    rig.reload()
    assert (rig.ledger.open_tasks, rig.ledger.open_bytes) == (1, 4)
    host = rig.host()
    rig.sleep(6)
    (grant,) = rig.grants(host)
    assert (grant.first, grant.count, grant.start, grant.attempt) == (5, 6, 4, 1)
    rig.report(host, ended=[ended(grant, epoch=11, payloads=[b"six"], packed=True)])
    assert (rig.ledger.open_tasks, rig.ledger.open_bytes) == (0, 0)


def test_exceptions_inside_a_packed_task_are_per_item():
    rig, client, host, (grant,) = farm(packed(1, 3, template=m.Template(retries=1, backoff=0.0)))
    rig.report(
        host,
        ended=[
            ended(grant, hi=1, payloads=[b"a"], packed=True),
            ended(grant, Ending.EXCEPTION, lo=1, hi=2),
            ended(grant, lo=2, payloads=[b"c"], packed=True),
        ],
    )
    assert [x.first for x in rig.results(client)] == [1, 3]
    (grant,) = rig.grants(host)
    assert (grant.first, grant.count, grant.attempt) == (2, 1, 2)


def test_a_packed_value_of_which_a_part_was_decided_otherwise_runs_again():
    rig, client, host, (grant,) = farm(packed(1, 4))
    rig.report(host, returned=[key(grant, lo=3)])
    rig.take()
    rig.report(host, number=2, ended=[ended(grant, payloads=[b"all"], packed=True)])
    assert rig.results(client) == []
    assert states(rig) == ["LEASED"] * 4
    assert rig.ledger.open_tasks == 1


def test_a_lost_host_costs_what_had_begun_and_only_that():
    rig, _, host, (grant,) = farm(group(1, 3))
    rig.report(host, started=[key(grant, hi=1)])
    rig.sleep(35, host)
    assert own(rig, 0).losses == 1
    assert own(rig, 1).losses == 0
    assert states(rig) == ["QUEUED"] * 3
    assert host in rig.closed


def test_a_partition_gives_back_what_it_cost():
    rig, _, host, (grant,) = farm(group(1, 1, template=m.Template(max_losses=1)))
    rig.report(host, started=[key(grant)])
    rig.drop(host)
    rig.sleep(31)
    assert own(rig).losses == 1
    rig.host(claims=[claim(grant)], quiet=False)
    assert own(rig).losses == 0
    sent = [type(x) for x in rig.take(rig.peers["host"])]
    assert sent == [m.HostWelcome, m.Function, m.Assign]
    rig.reload()
    assert (own(rig).losses, own(rig).attempt) == (0, 2)


@pytest.mark.parametrize("restarts", [1, 2])
def test_a_partition_gives_back_what_it_cost_after_restarts_too(restarts):
    rig, _, host, (grant,) = farm(group(1, 1, template=m.Template(max_losses=1)))
    rig.report(host, started=[key(grant)])
    rig.drop(host)
    rig.sleep(31)
    for _ in range(restarts):
        rig.reload()
        assert own(rig).losses == 1
    rig.host(claims=[claim(grant)])
    assert (own(rig).losses, own(rig).charged) == (0, [])
    rig.host(claims=[claim(grant)])
    rig.reload()
    assert (own(rig).losses, own(rig).charged) == (0, [])


def test_of_a_host_that_stays_away_nothing_is_remembered_for_ever():
    rig, _, host, (grant,) = farm(group(1, 1))
    rig.report(host, started=[key(grant)])
    rig.drop(host)
    rig.sleep(31)
    rig.reload()
    assert len(rig.ledger.charges) == 1
    rig.sleep(3700)
    assert len(rig.ledger.charges) == 0
    assert own(rig).losses == 1


def test_a_new_agent_of_the_same_name_gives_nothing_back():
    rig, _, host, (grant,) = farm(group(1, 1))
    rig.report(host, started=[key(grant)])
    rig.drop(host)
    rig.host(instance=b"another agent...")
    assert own(rig).losses == 1


def test_an_agent_whose_name_another_had_for_a_while_gets_back_what_that_cost():
    rig, _, host, (grant,) = farm(group(1, 1, template=m.Template(max_losses=1)))
    rig.report(host, started=[key(grant)])
    rig.drop(host)
    late = rig.host(instance=b"a dead one, late")  # its HELLO was behind that of its successor
    assert own(rig).losses == 1
    rig.drop(late)
    rig.host(claims=[claim(grant)])
    assert (own(rig).losses, own(rig).charged) == (0, [])


def test_of_tasks_that_are_over_no_losses_are_remembered():
    rig, _, host, (grant,) = farm(group(1, 1))
    rig.report(host, started=[key(grant)])
    rig.drop(host)
    other = rig.host(instance=b"another agent...")
    rig.commit()
    (grant,) = rig.grants(other)
    assert len(rig.ledger.charges) == 1
    rig.report(other, ended=[ended(grant)])
    rig.sleep(20)
    assert len(rig.ledger.charges) == 0


def test_a_host_that_says_bye_is_forgotten_with_its_record():
    rig, _, host, (grant,) = farm(group(1, 1))
    rig.report(host, returned=[key(grant)], window=0)
    rig.say(host, m.Bye())
    rig.commit()
    assert rig.ledger.hosts.all == {}
    rig.reload()
    assert not rig.ledger.recovering


def test_after_a_stop_of_the_coordinator_itself_no_lease_has_run_out():
    rig, _, host, (grant,) = farm(group(1, 1))
    rig.report(host, started=[key(grant)])
    rig.now += 600.0  # SIGSTOP
    rig.wall += 600.0
    rig.tick()
    assert states(rig) == ["LEASED"]
    rig.sleep(31, host)
    assert own(rig).losses == 1


def test_a_host_that_has_left_for_long_is_forgotten():
    rig, _, host, _ = farm(group(1, 1))
    rig.drop(host)
    rig.sleep(3700)
    assert rig.ledger.hosts.all == {}
    assert rig.ledger.sessions[session_id("alice")].peer is not None


def test_it_is_forgotten_at_the_very_time_that_was_asked_for():
    rig = Rig()
    rig.now = 13265.969  # a sum with it rounds
    rig.drop(rig.host())
    rig.sleep(31)
    (host,) = rig.ledger.hosts.all.values()
    rig.core.on_tick(host.last_seen + rig.settings.host_ttl)
    assert rig.ledger.hosts.all == {}


def test_one_exception_that_is_said_of_many_items_is_that_of_each():
    rig, _, host, (grant,) = farm(packed(1, 2))
    one = ended(grant, Ending.EXCEPTION, payloads=[b"why"], packed=True)
    rig.report(host, ended=[one])
    entries = [entry for message in rig.of(m.Results) for entry in message.entries]
    assert [(entry.first, entry.payloads) for entry in entries] == [(1, [b"why"]), (2, [b"why"])]
    rig.reload()  # every record can be read again


def test_starts_and_progress_reach_the_owner_and_those_who_follow():
    rig, client, host, (grant,) = farm(group(1, 2))
    reader = rig.client("bob")
    rig.say(reader, m.Attach(1, [(grant.session, 1, 2)]))
    rig.take()
    rig.report(host, started=[key(grant)], progress=[(10, grant.lease, 2, 1.0, 5.0, "one of five")])
    note = m.Progress([(grant.session, 2, 1.0, 5.0, "one of five")])
    assert rig.take(client) == [m.Started([(1, 2)]), note]
    assert rig.take(reader) == [note]
    rig.report(host, number=2, started=[key(grant)])
    assert rig.take(client) == []


def test_beats_say_what_runs_and_are_echoed():
    rig, client, host, (grant,) = farm(group(1, 1))
    rig.say(host, m.Beat(stamp=3.5, running=[key(grant)], load={"cpu": 0.5}))
    assert rig.take(host) == [m.Beat(echo=3.5)]
    assert rig.take(client) == [m.Started([(1, 1)])]
    rig.say(client, m.Beat(stamp=1.5))
    assert rig.take() == [(client, m.Beat(echo=1.5))]
