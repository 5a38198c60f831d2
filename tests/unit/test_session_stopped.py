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


def test_it_is_not_cancelled_here_though_the_next_coordinator_refused_it():
    session, port = open_session()
    session.submit([group(1, 2)], [F], 0.0)
    port.take()
    reconnect(session, port, 1.0, epoch=6)
    session.receive(m.Refused(1, 2, "busy", 30.0), 1.1)
    session.submit([group(3)], [F], 1.2)  # never sent
    port.take()
    session.cancel(7, [(ME, 1, 3)], 1.3)
    done = port.take()
    assert settled(done) == [result(3, ending=Ending.CANCELLED)]
    assert sent(done) == [m.Cancel(7, [(ME, 1, 2)])]
    session.receive(m.CancelReply(7, []), 1.4)
    assert ("replied", m.CancelReply(7, [(ME, 3, 1)])) in port.take()
    assert list(session.open) == [(1, 3)]


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
