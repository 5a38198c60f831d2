import pytest

from farm.model import Ending
from farm.protocol import messages as m
from tests.unit.session_helpers import (
    ME,
    OTHER,
    F,
    group,
    new_session,
    open_session,
    packed,
    reconnect,
    result,
    sent,
    settled,
    welcome,
)


def test_hello_is_first_and_names_nothing_pending():
    session, port = new_session()
    session.submit([group(1)], [F], 0.0)
    assert port.take() == []
    session.on_connected(0.0)
    [(what, hello)] = port.take()
    assert what == "send"
    assert (hello.connection, hello.session, hello.pending, hello.epoch_seen) == (1, ME, [], 0)
    session.receive(welcome(), 0.1)
    assert sent(port.take()) == [F, m.Submit([group(1)], 1)]
    assert session.connected


def test_function_is_sent_once():
    session, port = open_session()
    session.submit([group(1)], [F], 0.0)
    session.submit([group(2)], [F], 0.0)
    assert sent(port.take()) == [F, m.Submit([group(1)], 1), m.Submit([group(2)], 1)]


def test_adjacent_groups_become_one_and_messages_stay_small():
    session, port = new_session()
    session.submit([group(1 + i) for i in range(600)], [F], 0.0)
    session.on_connected(0.0)
    session.receive(welcome(), 0.0)
    submits = [one for one in sent(port.take()) if isinstance(one, m.Submit)]
    assert [[(g.first, g.count) for g in one.groups] for one in submits] == [
        [(1, 512)],
        [(513, 88)],
    ]


def test_keys_travel_with_their_tasks_however_these_are_cut_and_joined():
    session, port = open_session(credit_tasks=2)
    keys = [m.TaskKey(f"k{i}", body=b"b") for i in range(4)]
    session.submit([group(1 + i, keys=(key,)) for i, key in enumerate(keys)], [F], 0.0)
    session.submit([group(5)], [F], 0.0)
    session.receive(m.Credit(100, 1 << 20), 0.0)
    groups = [g for one in sent(port.take()) if isinstance(one, m.Submit) for g in one.groups]
    found = {g.first + i: key for g in groups for i, key in enumerate(g.keys or [None] * g.count)}
    assert found == {**dict(enumerate(keys, 1)), 5: None}
    assert len(groups) == 3


def test_messages_close_at_their_bytes():
    session, port = new_session()
    big = bytes(m.BATCH_BYTES // 2 + 1)
    session.submit([group(1, 3, payloads=[big] * 3)], [F], 0.0)
    session.on_connected(0.0)
    session.receive(welcome(), 0.0)
    submits = [one for one in sent(port.take()) if isinstance(one, m.Submit)]
    assert [sum(g.count for g in one.groups) for one in submits] == [1, 1, 1]


def test_other_options_or_jobs_are_other_groups():
    session, port = open_session()
    template = m.Template(priority=1)
    session.submit(
        [group(1), group(2, job=1), group(3, job=1, template=template), packed(4, 9)], [F], 0.0
    )
    [_, submit] = sent(port.take())
    assert [(g.first, g.count) for g in submit.groups] == [(1, 1), (2, 1), (3, 1), (4, 9)]


def test_credit_is_never_overdrawn_and_pays_for_refused_tasks():
    session, port = open_session(credit_tasks=3)
    session.submit([group(1, 5)], [F], 0.0)
    [_, submit] = sent(port.take())
    assert [(g.first, g.count) for g in submit.groups] == [(1, 3)]
    assert session.waits_for_credit
    assert session.unsent == (2, 4)
    session.receive(m.Refused(2, 2, "busy", 0.5), 1.0)
    assert port.take() == []
    assert session.retry_at == 1.5
    session.receive(m.Credit(3, 1 << 24, 4.0), 1.05)  # no more than before, and when there is
    assert port.take() == []
    assert session.retry_at == 5.05
    session.receive(m.Credit(5, 1 << 24), 1.1)
    assert session.retry_at == 1.1
    done = port.take()
    assert [(g.first, g.count) for s in sent(done) for g in s.groups] == [(2, 2)]
    assert ("room", (2, 4)) in done


def test_credit_in_bytes_splits_groups():
    session, port = open_session(credit_bytes=5)
    session.submit([group(1, 5)], [F], 0.0)
    [_, submit] = sent(port.take())
    assert [(g.first, g.count, g.size) for g in submit.groups] == [(1, 2, 4)]


def test_a_packed_group_costs_one_task():
    session, port = open_session(credit_tasks=1)
    session.submit([packed(1, 1000)], [F], 0.0)
    assert sent(port.take()) == [F, m.Submit([packed(1, 1000)], 1)]


def test_refused_busy_is_tried_again_after_a_while_if_credit_is_left():
    session, port = open_session()
    session.submit([group(1, 2)], [F], 0.0)
    port.take()
    session.receive(m.Refused(1, 2, "busy", 0.2), 1.0)
    session.on_tick(1.0)
    assert port.take() == []
    assert session.next_deadline() == pytest.approx(1.4)
    session.on_tick(1.2)  # credit should have come by now, and whoever comes before it is refused
    assert port.take() == []
    session.on_tick(1.4)
    assert sent(port.take()) == [m.Submit([group(1, 2)], 1)]


def test_refused_function_is_sent_before_the_tasks():
    session, port = open_session()
    session.submit([group(1, 2)], [F], 0.0)
    port.take()
    session.receive(m.Refused(1, 2, "function"), 0.1)
    session.on_tick(0.1)
    assert sent(port.take()) == [F, m.Submit([group(1, 2)], 1)]


def test_a_job_that_is_over_for_the_coordinator_is_opened_again_for_what_is_left_of_it():
    session, port = open_session()
    session.open_job(1, "nightly", 0.0)
    session.submit([group(1, 2, job=1), group(3, 2, job=1)], [F], 0.0)
    session.seal_job(1, 4, 0.0)
    port.take()
    for first in (1, 3):
        session.receive(m.Refused(first, 2, "job", 1.0, "over"), 0.1)
    session.on_tick(0.1)
    opening = m.JobOpen(1, "nightly")
    assert sent(port.take()) == [opening, opening, m.Submit([group(1, 4, job=1)], 1)]
    session.receive(m.Accepted(2, [(1, 4)]), 0.2)
    session.on_tick(0.2)
    assert sent(port.take()) == [m.JobSeal(1, 4)]


def test_tasks_of_a_job_that_nobody_knows_fail():
    session, port = open_session()
    session.submit([group(1, 2, job=1)], [F], 0.0)
    port.take()
    session.receive(m.Refused(1, 2, "job", 1.0, "not opened"), 0.1)
    assert port.take() == [("failed", (1, 2, "job", "not opened"))]


def test_refused_for_good_fails_the_tasks():
    session, port = open_session()
    session.submit([group(1, 3)], [F], 0.0)
    port.take()
    session.receive(m.Refused(2, 1, "too_large", 0.0, "too large"), 0.1)
    assert port.take() == [("failed", (2, 1, "too_large", "too large"))]
    assert len(session.open) == 2


def test_results_are_settled_once_and_taken_once_a_turn():
    session, port = open_session()
    session.submit([group(1, 4)], [F], 0.0)
    session.receive(m.Accepted(2, [(1, 4)]), 0.1)
    port.take()
    session.receive(m.Results(1, 3, [result(1, 2)]), 0.2)
    session.receive(m.Results(2, 4, [result(2, 2)]), 0.2)
    assert settled(port.take()) == [result(1, 2), result(3)]
    assert session.next_deadline() <= 0.2
    session.on_tick(0.2)
    assert port.take() == [("send", m.Taken(2))]
    assert session.commit_seen == 4
    assert len(session.open) == 1


def test_unacknowledged_tasks_are_sent_again_and_accepted_ones_are_pending():
    session, port = open_session()
    session.submit([group(1, 4)], [F], 0.0)
    session.receive(m.Accepted(2, [(1, 2)]), 0.1)
    port.take()
    hello, done = reconnect(session, port, 1.0)
    assert hello.pending == [(1, 2)]
    assert (hello.connection, hello.commit_seen, hello.epoch_seen) == (2, 2, 5)
    assert sent(done) == [m.Submit([group(3, 2)], 3)]
    session.receive(m.Accepted(2, [(3, 2)]), 1.1)
    assert session.unacknowledged == 0
    assert reconnect(session, port, 2.0)[0].pending == [(1, 4)]


@pytest.mark.parametrize("where", ["coordinator", "group"])
def test_what_is_not_durable_is_kept_until_its_outcome(where):
    durable = where == "group"
    template = m.Template(durable=False) if durable else None
    session, port = open_session(durable=durable)
    session.submit([group(1, 3, template=template)], [F], 0.0)
    session.receive(m.Accepted(2, [(1, 3)]), 0.1)
    session.receive(m.Results(1, 3, [result(2)]), 0.2)
    port.take()
    hello, done = reconnect(session, port, 1.0, durable=durable)
    assert hello.pending == []
    assert sent(done) == []  # the same coordinator still has them
    hello, done = reconnect(session, port, 2.0, durable=durable, epoch=6)
    [submit] = sent(done)
    more = {"template": template, "tried": True}
    assert submit.groups == [group(1, **more), group(3, **more)]


def test_a_result_stands_for_the_acknowledgement():
    session, port = open_session()
    session.submit([group(1, 2)], [F], 0.0)
    session.receive(m.Results(1, 1, [result(1, 2)]), 0.1)
    assert session.unacknowledged == 0
    port.take()
    assert sent(reconnect(session, port, 1.0)[1]) == []


def test_unsent_tasks_are_cancelled_at_once():
    session, port = open_session(credit_tasks=1)
    session.submit([group(1, 3)], [F], 0.0)
    port.take()
    session.cancel(7, [(ME, 2, 1)], 0.1)
    done = port.take()
    assert settled(done) == [result(2, ending=Ending.CANCELLED)]
    assert done[-1] == ("replied", m.CancelReply(7, [(ME, 2, 1)]))
    assert sent(done) == []


def test_sent_tasks_are_asked_for_and_the_answer_has_all():
    session, port = open_session(credit_tasks=2)
    session.submit([group(1, 4)], [F], 0.0)
    port.take()
    session.cancel(7, [(ME, 1, 4), (OTHER, 9, 1)], 0.1)
    done = port.take()
    assert sent(done) == [m.Cancel(7, [(ME, 1, 2), (OTHER, 9, 1)])]
    assert settled(done) == [result(3, 2, ending=Ending.CANCELLED)]
    session.receive(m.CancelReply(7, [(ME, 2, 1)]), 0.2)
    done = port.take()
    assert settled(done) == [result(2, ending=Ending.CANCELLED)]
    assert done[-1] == ("replied", m.CancelReply(7, [(ME, 2, 3)]))
    session.receive(m.Results(1, 1, [result(1), result(2, ending=Ending.CANCELLED)]), 0.3)
    assert settled(port.take()) == [result(1)]


def test_a_cancel_is_asked_again_and_remembers_what_it_heard():
    session, port = open_session()
    session.submit([group(1, 2)], [F], 0.0)
    session.receive(m.Accepted(1, [(1, 2)]), 0.0)
    session.cancel(7, [(ME, 1, 2)], 0.1)
    session.receive(m.Results(1, 1, [result(1, ending=Ending.CANCELLED)]), 0.2)
    port.take()
    _, done = reconnect(session, port, 1.0)
    assert sent(done) == [m.Cancel(7, [(ME, 1, 2)])]
    session.receive(m.CancelReply(7, []), 1.1)
    assert port.take() == [("replied", m.CancelReply(7, [(ME, 1, 1)]))]


def test_a_task_refused_while_it_is_being_cancelled_never_runs():
    session, port = open_session()
    session.submit([group(1)], [F], 0.0)
    session.cancel(7, [(ME, 1, 1)], 0.1)
    session.receive(m.Refused(1, 1, "busy"), 0.2)
    session.receive(m.CancelReply(7, []), 0.2)
    port.take()
    session.on_tick(5.0)
    assert sent(port.take()) == []
    assert len(session.open) == 0


def test_a_cancel_waits_until_what_may_be_there_was_sent_again():
    session, port = open_session()
    session.submit([group(1, 2)], [F], 0.0)
    session.on_disconnected(0.5)
    session.cancel(7, [(ME, 1, 2)], 0.6)
    session.on_connected(1.0)
    port.take()
    session.receive(welcome(credit_tasks=1), 1.0)
    assert sent(port.take()) == [m.Submit([group(1)], 1)]
    session.receive(m.Credit(2, 1 << 24), 1.1)
    assert sent(port.take()) == [m.Submit([group(2)], 1), m.Cancel(7, [(ME, 1, 2)])]


def test_jobs_are_sealed_when_all_is_accepted_and_said_again_until_it_is_answered():
    session, port = open_session()
    session.open_job(1, "sums", 0.0)
    session.submit([group(1, 2, job=1)], [F], 0.0)
    session.seal_job(1, 2, 0.0)
    session.on_tick(0.0)
    assert [type(one) for one in sent(port.take())] == [m.JobOpen, m.Function, m.Submit]
    session.receive(m.Accepted(1, [(1, 2)]), 0.1)
    session.on_tick(0.1)
    assert sent(port.take()) == [m.JobSeal(1, 2)]
    _, done = reconnect(session, port, 1.0)
    assert sent(done) == [m.JobOpen(1, "sums")]
    session.on_tick(1.0)
    assert sent(port.take()) == [m.JobSeal(1, 2)]
    session.receive(m.Beat(echo=12.0), 12.1)
    assert session.jobs.unsealed == ["sums"]
    session.receive(m.JobInfo(0, [], ME, 1, state="sealed"), 12.2)
    assert session.jobs.unsealed == []
    session.receive(m.Beat(echo=12.0), 12.3)
    assert sent(reconnect(session, port, 13.0)[1]) == []


def test_tasks_cancelled_before_they_were_sent_do_not_count_in_their_job():
    session, port = open_session(credit_tasks=1)
    session.open_job(1, "", 0.0)
    session.submit([group(1, 3, job=1)], [F], 0.0)
    session.seal_job(1, 3, 0.0)
    session.cancel(7, [(ME, 2, 2)], 0.0)
    session.receive(m.Accepted(1, [(1, 1)]), 0.1)
    port.take()
    session.on_tick(0.1)
    assert sent(port.take()) == [m.JobSeal(1, 1)]


def test_followed_tasks_are_heard_once_and_asked_for_again():
    session, port = open_session()
    session.attach(3, [(OTHER, 1, 4)], "", 0.0)
    assert sent(port.take()) == [m.Attach(3, [(OTHER, 1, 4)])]
    info = m.JobInfo(3, [(OTHER, 1, 4)])
    session.receive(info, 0.1)
    session.receive(m.Results(1, 1, [result(1, 2, session=OTHER), result(9, session=OTHER)]), 0.1)
    assert port.take() == [("replied", info), ("settled", result(1, 2, session=OTHER))]
    _, done = reconnect(session, port, 1.0)
    assert sent(done) == [m.Attach(3, [(OTHER, 3, 2)])]


def test_follows_that_are_over_are_not_remembered_for_ever():
    session, port = open_session()
    session.attach(1, [(OTHER, 10_000, 1)], "", 0.0)
    session.receive(m.JobInfo(1, [(OTHER, 10_000, 1)]), 0.0)
    for at in range(1, 2000):
        session.attach(at + 1, [(OTHER, at, 1)], "", 0.0)
        session.receive(m.JobInfo(at + 1, [(OTHER, at, 1)]), 0.1)
        session.receive(m.Results(at, 1, [result(at, session=OTHER)]), 0.1)
    assert len(session._follows._follows) <= 256
    port.take()
    assert sent(reconnect(session, port, 1.0)[1]) == [m.Attach(1, [(OTHER, 10_000, 1)])]


def test_an_unanswered_follow_is_asked_again_although_its_tasks_ended_for_another():
    session, port = open_session()
    session.attach(2, [(OTHER, 1, 1)], "", 0.0)
    session.attach(3, [(OTHER, 1, 1)], "", 0.0)
    session.receive(m.JobInfo(2, [(OTHER, 1, 1)]), 0.1)
    session.receive(m.Results(1, 1, [result(1, session=OTHER)]), 0.1)
    port.take()
    assert sent(reconnect(session, port, 1.0)[1]) == [m.Attach(3, [(OTHER, 1, 1)])]
    session.receive(m.JobInfo(3, [(OTHER, 1, 1)]), 1.1)
    port.take()
    assert sent(reconnect(session, port, 2.0)[1]) == []


def test_a_followed_job_grows():
    session, port = open_session()
    session.attach(3, [], "sums", 0.0)
    session.receive(m.JobInfo(3, [(OTHER, 1, 1)], state="open"), 0.1)
    session.receive(m.Results(1, 1, [result(1, session=OTHER)]), 0.2)
    session.receive(m.JobInfo(3, [(OTHER, 1, 2)], state="sealed"), 0.3)
    session.receive(m.Results(2, 1, [result(1, session=OTHER)]), 0.4)
    assert settled(port.take()) == [result(1, session=OTHER)]
    assert sent(reconnect(session, port, 1.0)[1]) == [m.Attach(3, [], "sums")]
    session.receive(m.Results(1, 1, [result(1, 2, session=OTHER)]), 1.1)
    assert settled(port.take()) == [result(2, session=OTHER)]
    assert sent(reconnect(session, port, 2.0)[1]) == []


def test_an_unknown_job_is_answered_and_forgotten():
    session, port = open_session()
    session.attach(3, [], "none", 0.0)
    port.take()
    info = m.JobInfo(3, [], error="no such job")
    session.receive(info, 0.1)
    assert port.take() == [("replied", info)]
    assert sent(reconnect(session, port, 1.0)[1]) == []


def test_queries_are_asked_until_answered():
    session, port = open_session()
    session.query(1, "status", {}, 0.0)
    assert sent(port.take()) == [m.Query(1, "status", {})]
    assert sent(reconnect(session, port, 1.0)[1]) == [m.Query(1, "status", {})]
    session.receive(m.Answer(1, {"tasks": 0}), 1.1)
    session.receive(m.Answer(1, {"tasks": 0}), 1.2)
    assert port.take() == [("replied", m.Answer(1, {"tasks": 0}))]


def test_silence_ends_the_connection_but_our_own_sleep_does_not():
    session, port = open_session()
    for now in (10.0, 20.0):
        session.on_tick(now)
    assert [type(one) for one in sent(port.take())] == [m.Beat, m.Beat]
    session.on_tick(29.9)
    assert port.take() == []
    session.on_tick(100.0)  # we slept for 70 s
    assert not any(what == "disconnect" for what, _ in port.take())
    for now in (110.0, 120.0, 130.0):
        session.on_tick(now)
    assert [what for what, _ in port.take()][-1] == "disconnect"
    assert not session.connected


@pytest.mark.parametrize("began", [994.004, 1014.004])  # times that sums round
def test_a_time_that_was_asked_for_is_not_asked_for_again(began):
    session, port = new_session()
    for is_welcome in (False, True):
        session.on_connected(began)
        if is_welcome:
            session.receive(welcome(), began)
        while (due := session.next_deadline()) is not None:
            session.on_tick(due)
            assert session.next_deadline() != due
        assert port.take()[-1][0] == "disconnect"


def test_beats_are_echoed_and_measured():
    session, port = open_session()
    session.receive(m.Beat(stamp=4.0), 1.0)
    session.receive(m.Beat(echo=1.0), 1.5)
    assert port.take() == [("send", m.Beat(echo=4.0))]
    assert session.round_trip == 0.5


def test_hello_without_an_answer_is_given_up():
    session, port = new_session()
    session.on_connected(1.0)
    assert session.next_deadline() == 11.0
    session.on_tick(11.0)
    assert [what for what, _ in port.take()] == ["send", "disconnect"]
    assert session.next_deadline() is None


def test_rejection_is_told():
    session, port = new_session()
    session.on_connected(0.0)
    session.receive(m.Rejected("version", "too old"), 0.1)
    assert [what for what, _ in port.take()] == ["send", "disconnect", "rejected"]


@pytest.mark.parametrize(
    "message", [m.Accepted(1, []), m.Beat(), m.Bye("down"), m.Results(1, 1, [])]
)
def test_nothing_but_a_welcome_opens_a_connection(message):
    session, port = new_session()
    session.on_connected(0.0)
    session.receive(message, 0.1)
    assert [what for what, _ in port.take()] == ["send", "disconnect"]
    session.receive(welcome(), 0.2)
    assert port.take() == []


def test_an_older_epoch_or_a_second_welcome_is_refused():
    session, port = open_session(epoch=7)
    assert reconnect(session, port, 1.0, epoch=6)[1][0][0] == "disconnect"
    session, port = open_session()
    session.receive(welcome(), 1.0)
    assert port.take()[0][0] == "disconnect"


def test_a_new_store_has_commits_of_its_own():
    session, port = open_session(commit=50)
    assert reconnect(session, port, 1.0, store=b"t" * 16, commit=3)[0].commit_seen == 50
    assert session.commit_seen == 3


def test_close_says_what_is_taken_and_bye():
    session, port = open_session()
    session.submit([group(1)], [F], 0.0)
    session.receive(m.Results(1, 1, [result(1)]), 0.1)
    port.take()
    session.close(0.2)
    assert sent(port.take()) == [m.Taken(1), m.Bye()]
    session.on_tick(50.0)
    assert port.take() == []


def test_functions_that_nothing_uses_are_dropped():
    session, port = open_session(credit_tasks=1 << 20)
    for i in range(600):
        function = m.Function(i.to_bytes(16, "big"), "f", b"")
        session.submit([group(i + 1, function=function.hash)], [function], 0.0)
        session.receive(m.Accepted(1, [(i + 1, 1)]), 0.0)
    assert len(session._outbox._functions) <= 257
    assert sum(isinstance(one, m.Function) for one in sent(port.take())) == 600


def test_hints_are_passed_on():
    session, port = open_session()
    session.receive(m.Started([(1, 2)]), 0.0)
    session.receive(m.Progress([(ME, 1, 1.0, 2.0, "half")]), 0.0)
    assert port.take() == [("started", [(1, 2)]), ("progress", [(ME, 1, 1.0, 2.0, "half")])]
