"""Cancelled means that a task never ran: what may have begun elsewhere is stopped at most."""

from farm.model import Ending
from farm.protocol import messages as m
from tests.unit.session_helpers import (
    ME,
    F,
    group,
    open_session,
    reconnect,
    result,
    sent,
    settled,
)

STOPPED = m.Failure("stopped", "it was cancelled when it may have begun")
TRIED = m.Failure("stopped", "it was cancelled when a coordinator that is gone may have begun it")
VOLATILE = m.Template(durable=False)


def test_what_a_coordinator_that_is_gone_was_sent_may_have_begun():
    session, port = open_session()
    session.submit([group(1, 2)], [F], 0.0)
    session.receive(m.Accepted(2, [(1, 1)]), 0.1)
    port.take()
    _, done = reconnect(session, port, 1.0)
    assert [s.groups for s in sent(done)] == [[group(2)]]  # it is the same one, and knows
    _, done = reconnect(session, port, 2.0, epoch=6)
    [submit] = [s for s in sent(done) if isinstance(s, m.Submit)]
    assert submit.groups == [group(2, tried=True)]


def test_it_is_stopped_and_not_cancelled_once_the_next_coordinator_refused_it():
    session, port = open_session()
    session.submit([group(1, 3)], [F], 0.0)
    port.take()
    reconnect(session, port, 1.0, epoch=6)
    session.receive(m.Refused(1, 3, "busy", 30.0), 1.1)
    session.submit([group(4)], [F], 1.2)  # never sent
    port.take()
    session.cancel(7, [(ME, 1, 2), (ME, 4, 1)], 1.3)
    done = port.take()
    stopped = result(1, 2, ending=Ending.CANCELLED, failure=TRIED)
    assert settled(done) == [stopped, result(4, ending=Ending.CANCELLED)]
    assert ("replied", m.CancelReply(7, [(ME, 4, 1)], [(ME, 1, 2)])) in done
    assert list(session.open) == [(3, 4)]
    session.on_tick(90.0)
    assert [s.groups for s in sent(port.take()) if isinstance(s, m.Submit)] == [
        [group(3, tried=True)]
    ]


def test_it_is_stopped_if_it_is_refused_after_the_cancel_was_sent():
    session, port = open_session()
    session.submit([group(1, 2, template=VOLATILE)], [F], 0.0)
    session.receive(m.Accepted(2, [(1, 2)]), 0.1)
    port.take()
    reconnect(session, port, 1.0, epoch=6)
    session.cancel(7, [(ME, 1, 1)], 1.1)
    assert sent(port.take()) == [m.Cancel(7, [(ME, 1, 1)])]
    session.receive(m.Refused(1, 2, "busy", 30.0), 1.2)
    stopped = result(1, ending=Ending.CANCELLED, failure=TRIED)
    assert settled(port.take()) == [stopped]
    session.receive(m.CancelReply(7, []), 1.3)
    assert port.take() == [("replied", m.CancelReply(7, [], [(ME, 1, 1)]))]
    session.on_tick(90.0)
    [submit] = [s for s in sent(port.take()) if isinstance(s, m.Submit)]
    assert [(g.first, g.count) for g in submit.groups] == [(2, 1)]


def test_what_was_stopped_does_not_run_if_its_outcome_is_lost_with_the_coordinator():
    session, port = open_session()
    session.submit([group(1, 2, template=VOLATILE)], [F], 0.0)
    session.receive(m.Accepted(2, [(1, 2)]), 0.1)
    session.cancel(7, [(ME, 1, 1)], 0.2)
    session.receive(m.CancelReply(7, [], [(ME, 1, 1)]), 0.3)
    port.take()
    _, done = reconnect(session, port, 1.0, epoch=6)
    assert [(x.first, x.ending) for x in settled(done)] == [(1, Ending.CANCELLED)]
    [submit] = [s for s in sent(done) if isinstance(s, m.Submit)]
    assert [(g.first, g.count) for g in submit.groups] == [(2, 1)]


def test_the_answer_says_which_were_stopped_and_their_outcome_comes_by_itself():
    session, port = open_session()
    session.submit([group(1, 3)], [F], 0.0)
    session.receive(m.Accepted(2, [(1, 3)]), 0.1)
    session.cancel(7, [(ME, 1, 3)], 0.2)
    port.take()
    stopped = result(2, ending=Ending.CANCELLED, failure=STOPPED)
    session.receive(m.Results(1, 3, [stopped]), 0.3)
    assert settled(port.take()) == [stopped]
    session.receive(m.CancelReply(7, [(ME, 1, 1)], [(ME, 3, 1)]), 0.4)
    done = port.take()
    assert settled(done) == [result(1, ending=Ending.CANCELLED)]
    assert done[-1] == ("replied", m.CancelReply(7, [(ME, 1, 1)], [(ME, 2, 2)]))
    assert list(session.open) == [(3, 4)]
