"""HELLO, silence and goodbye."""

import pytest

from farm.protocol import messages as m
from farm.protocol import records as r
from tests.unit.core_harness import STORE, F, Rig, group, session_id

ALICE = session_id("alice")


def test_the_welcome_says_what_the_client_must_know():
    rig = Rig(farm="1.2", python="3.11")
    peer = rig.client(python="3.11", quiet=False, function=False)
    welcome = m.ClientWelcome(
        1, "1.2", "3.11", 10, STORE, 0, True, 10.0, 64 << 20, 65_536, 128 << 20, queues=["default"]
    )
    assert rig.take() == [(peer, welcome)]


def test_who_has_not_said_hello_is_not_heard():
    rig = Rig()
    rig.sides["x"] = "client"
    rig.say("x", m.Submit([group(1, 1)]))
    assert rig.take() == [("x", m.Rejected("hello", "say HELLO first", True))]
    assert rig.closed == ["x"]
    rig.say("x", m.Bye())


def test_a_newer_connection_takes_the_place_of_the_older():
    rig = Rig()
    old, new = rig.client(), rig.client()
    assert [x.code for x in rig.take(old) if isinstance(x, m.Rejected)] == ["replaced"]
    assert rig.closed == [old]
    rig.drop(old)
    rig.submit(new, group(1, 1))
    assert rig.of(m.Accepted)


@pytest.mark.parametrize("gone", [False, True])
def test_a_late_hello_of_an_older_connection_is_refused(gone):
    rig = Rig()
    peer = rig.client(connection=5)
    if gone:
        rig.drop(peer)
    late = rig.client(connection=4, quiet=False, function=False)
    assert [(p, x.code) for p, x in rig.take() if isinstance(x, m.Rejected)] == [(late, "replaced")]
    assert late in rig.closed


def test_a_late_hello_of_an_older_connection_of_a_host_is_refused():
    rig = Rig()
    peer = rig.host(connection=5)
    rig.drop(peer)
    late = rig.host(connection=4, quiet=False)
    assert [(p, x.code) for p, x in rig.take() if isinstance(x, m.Rejected)] == [(late, "replaced")]


def test_hello_twice_on_one_connection_ends_it():
    rig = Rig()
    peer = rig.client()
    hello = m.ClientHello(1, "", "", b"", ALICE, b"!" * 11 + b"alice", 9, 0, b"", 0, 1, [])
    rig.say(peer, hello)
    assert [x.code for x in rig.of(m.Rejected)] == ["hello"]
    assert rig.ledger.sessions[ALICE].peer is None
    assert peer not in rig.ledger.peers


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        ({"protocol": 99}, "version"),
        ({"session": b"short"}, "hello"),
        ({"secret": b"another secret.."}, "secret"),
    ],
)
def test_a_hello_that_cannot_be_accepted_is_refused_by_code(bad, code):
    rig = Rig()
    rig.client()
    peer = rig.client(quiet=False, function=False, **bad)
    assert rig.take(peer)[0].code == code
    assert peer in rig.closed
    assert rig.stopped is None


def test_a_session_keeps_its_secret_across_a_restart():
    rig = Rig()
    rig.submit(rig.client(), group(1, 1))
    rig.reload()
    peer = rig.client(secret=b"another secret..", quiet=False, function=False)
    assert [x.code for x in rig.take(peer)] == ["secret"]


@pytest.mark.parametrize("kind", ["client", "host"])
def test_who_has_seen_a_later_epoch_stops_this_coordinator(kind):
    rig = Rig(epoch=10)
    getattr(rig, kind)(epoch_seen=11, quiet=False, **({} if kind == "host" else {"function": 0}))
    assert "epoch 11" in rig.stopped


def test_who_has_seen_a_commit_that_the_store_lost_stops_this_coordinator():
    rig = Rig()
    rig.client(store_seen=b"another store...", commit_seen=10**6)
    assert rig.stopped is None
    rig.client("bob", store_seen=STORE, commit_seen=1, function=False)
    assert "lost commits" in rig.stopped


def test_what_a_restarted_coordinator_commits_does_not_hide_what_its_store_lost():
    rig = Rig(epoch=10)
    client = rig.client()
    rig.submit(client, group(1, 1))
    seen = rig.disk.commit
    rig.reload()
    rig.submit(rig.client("bob"), group(1, 1))
    assert rig.disk.commit > seen
    rig.client(store_seen=STORE, epoch_seen=10, commit_seen=seen)
    rig.client(store_seen=STORE, epoch_seen=rig.ledger.epoch, commit_seen=rig.disk.commit)
    assert rig.stopped is None
    rig.client(store_seen=STORE, epoch_seen=10, commit_seen=seen + 1, function=False)
    assert "lost commits" in rig.stopped


def test_commits_of_pruned_records_are_not_missed_after_a_restart():
    rig = Rig()
    host = rig.host()
    seen = rig.disk.commit
    rig.say(host, m.Bye())
    rig.commit()
    assert rig.disk.records == {}
    rig.reload()
    rig.client(store_seen=STORE, commit_seen=seen)
    assert rig.stopped is None
    rig.submit(rig.peers["alice"], group(1, 1))
    assert min(rig.disk.records) > seen


def test_a_silent_client_loses_its_connection_and_nothing_else():
    rig = Rig()
    client = rig.client()
    rig.submit(client, group(1, 1))
    rig.sleep(60, client)
    assert client in rig.closed
    assert rig.ledger.open_tasks == 1


def test_everyone_is_told_when_the_coordinator_goes_down():
    rig = Rig()
    client, host = rig.client(), rig.host()
    rig.core.on_stopping(rig.now)
    assert {(p, type(x)) for p, x in rig.take()} == {(client, m.Bye), (host, m.Bye)}


def test_a_message_of_the_other_side_is_counted_and_dropped():
    rig = Rig()
    client, host = rig.client(), rig.host()
    rig.say(client, m.Report(1, 1, []))
    rig.say(host, m.Submit([group(1, 1)]))
    assert rig.take() == []
    assert rig.ledger.counters["unexpected"] == 2


def test_credit_is_granted_while_it_is_used_and_counts_what_was_refused():
    rig = Rig(session_tasks=100)
    client = rig.client()
    rig.submit(client, group(1, 40))
    assert rig.of(m.Credit) == []
    rig.submit(client, group(41, 20))
    assert [x.tasks for x in rig.of(m.Credit)] == [160]
    rig.submit(client, group(100, 80, function=b"?" * 16))
    assert [x.tasks for x in rig.of(m.Credit)] == [240]


def test_a_full_farm_gives_credit_again_below_its_low_water():
    rig = Rig(max_tasks=10, low_water=0.5)
    client, host = rig.client(), rig.host(slots=1, window=1)
    rig.submit(client, group(1, 10))
    rig.submit(client, group(11, 1))
    assert [x.reason for x in rig.of(m.Refused)] == ["busy"]
    rig.say(client, m.Cancel(1, [(ALICE, 7, 4)]))
    rig.commit()
    assert rig.of(m.Credit) == []
    rig.say(client, m.Cancel(2, [(ALICE, 6, 1)]))
    rig.commit()
    (credit,) = rig.of(m.Credit)
    assert credit.tasks >= 11 + 1
    assert rig.client("bob") not in rig.closed
    assert host not in rig.closed


def test_those_who_wait_for_room_share_it():
    """Were each told of all of it, what does not fit would be sent, refused, and sent again."""
    rig = Rig(max_tasks=8, low_water=0.5)
    alice, bob, idle = rig.client(), rig.client("bob"), rig.client("carol")
    rig.submit(alice, group(1, 8))
    rig.submit(bob, group(1, 8))
    rig.take()
    rig.say(alice, m.Cancel(1, [(ALICE, 1, 4)]))
    rig.commit()
    granted = {peer: x.tasks for peer, x in rig.take() if isinstance(x, m.Credit)}
    assert (granted[alice], granted[bob]) == (8 + 2, 8 + 2)
    assert idle not in granted


def test_a_full_farm_welcomes_with_no_credit_and_remembers_who_waits():
    rig = Rig(max_tasks=4)
    client = rig.client()
    rig.submit(client, group(1, 4), group(5, 1))
    other = rig.client("bob", quiet=False)
    (welcome,) = [x for x in rig.take(other) if isinstance(x, m.ClientWelcome)]
    assert (welcome.credit_tasks, welcome.credit_bytes) == (0, 0)
    rig.say(client, m.Cancel(1, [(ALICE, 1, 4)]))
    rig.commit()
    assert [x.tasks > 0 for x in rig.take(other) if isinstance(x, m.Credit)] == [True]


def test_a_silent_session_without_work_is_forgotten_in_time():
    rig = Rig(session_ttl=100.0)
    client = rig.client()
    rig.say(client, m.JobOpen(1, "empty"))
    rig.say(client, m.Bye())
    rig.sleep(300)
    assert rig.ledger.sessions == {}
    assert rig.disk.records == {}


def test_only_the_newest_mark_of_a_session_is_kept():
    rig = Rig()
    rig.submit(rig.client(), group(1, 1))
    rig.say(rig.peers["alice"], m.Cancel(1, [(ALICE, 1, 1)]))
    rig.commit()
    rig.say(rig.peers["alice"], m.Taken(5))
    rig.commit()
    rig.tick(0.1)
    rig.tick(1.0)  # rows are pruned: a new mark, and the deletion of the old one
    appended = [change[0] == "append" for change in rig.pending]
    written = len(appended) - appended[::-1].index(True)
    rig.reload(commit=written)
    marks = [x for x in map(r.decode_record, rig.disk.records.values()) if _is_mark(x)]
    assert len(marks) == 2
    rig.commit()
    marks = [x for x in map(r.decode_record, rig.disk.records.values()) if _is_mark(x)]
    assert len(marks) == 1


def _is_mark(record):
    return isinstance(record, r.SessionMark)


def test_functions_are_stored_with_their_first_task_and_dropped_with_their_last():
    rig = Rig()
    client = rig.client()
    assert rig.disk.functions == {}
    rig.submit(client, group(1, 1), group(2, 1))
    assert set(rig.disk.functions) == {F.hash}
    rig.say(client, m.Cancel(1, [(ALICE, 1, 2)]))
    rig.commit()
    rig.say(client, m.Taken(9))
    rig.sleep(1)
    assert rig.disk.functions == {}
    rig.submit(client, group(3, 1))
    assert set(rig.disk.functions) == {F.hash}


def test_a_function_that_the_store_lost_is_asked_for_and_counted_right_when_it_comes():
    rig = Rig()
    rig.submit(rig.client(), group(1, 1))
    rig.disk.functions.clear()
    rig.reload()
    client = rig.client(function=False)
    rig.submit(client, group(2, 1))
    assert [x.reason for x in rig.of(m.Refused)] == ["function"]
    rig.say(client, F)
    rig.submit(client, group(2, 1))
    rig.say(client, m.Cancel(1, [(ALICE, 1, 1)]))
    rig.commit()
    rig.say(client, m.Taken(9))
    rig.sleep(2)  # the old task goes
    assert set(rig.disk.functions) == {F.hash}
    assert [type(x) for x in rig.take(rig.host())] == [m.Function, m.Assign]


def test_a_function_that_nobody_has_any_more_is_forgotten_with_its_tasks():
    rig = Rig()
    rig.submit(rig.client(), group(1, 1))
    rig.disk.functions.clear()
    rig.reload()
    client = rig.client(function=False)
    rig.say(client, m.Cancel(1, [(ALICE, 1, 1)]))
    rig.commit()
    rig.say(client, m.Taken(9))
    rig.sleep(2)
    assert F.hash not in rig.ledger.functions
    assert rig.ledger.functions._known == {}


def test_unused_functions_are_bounded():
    rig = Rig()
    client = rig.client()
    for number in range(100):
        rig.say(client, m.Function(b"%016d" % number, "f", b"x" * (2 << 20)))
    known = [n for n in range(100) if b"%016d" % n in rig.ledger.functions]
    assert len(known) <= 32
    assert 99 in known


def newcomer(rig):
    """Another agent comes with the name of a host; its refusals."""
    rig.take()
    peer = rig.host(instance=b"another agent...")
    return [one for to, one in rig.take() if to == peer and isinstance(one, m.Rejected)]


def test_a_host_that_lives_keeps_its_name_and_its_tasks():
    rig = Rig()
    host, client = rig.host(), rig.client()
    rig.submit(client, group(1, 1))
    for _ in range(5):  # as often as the other comes
        (refused,) = newcomer(rig)
        assert (refused.code, refused.retry) == ("name", True)
        assert "a name of its own" in refused.message
        rig.tick(1.0)
        rig.say(host, m.Beat(echo=1.0))
    assert sum(lease.left for lease in rig.ledger.hosts.all["host"].leases.values()) == 1


def test_a_newcomer_has_the_name_of_a_host_that_does_not_answer_for_a_beat():
    rig = Rig()
    host = rig.host()
    assert newcomer(rig)
    rig.tick(rig.settings.beat_seconds - 0.1)
    assert newcomer(rig)
    rig.tick(0.2)
    assert not newcomer(rig)
    assert host in rig.closed


def test_a_newcomer_has_the_name_of_a_host_whose_connection_is_gone_at_once():
    rig = Rig()
    host = rig.host()
    assert newcomer(rig)
    rig.drop(host)
    assert not newcomer(rig)
