"""A session that stops tasks: asked until it is answered, and then true whoever restarts."""

from farm.model import Ending
from farm.protocol import messages as m
from tests.unit.session_helpers import (
    ME,
    OTHER,
    F,
    group,
    open_session,
    reconnect,
    result,
    sent,
    settled,
)

VOLATILE = m.Template(durable=False)
STOPPED = m.Failure("stopped", "it was stopped while it ran")


def stopping(*groups):
    """A session whose tasks were accepted, and that was promised to stop the first of them."""
    session, port = open_session()
    session.submit(list(groups), [F], 0.0)
    session.receive(m.Accepted(2, [(g.first, g.count) for g in groups]), 0.1)
    session.cancel(7, [(ME, 1, 1)], 0.2, 2.5)
    assert sent(port.take())[-1] == m.Cancel(7, [(ME, 1, 1)], 2.5)
    session.receive(m.CancelReply(7, [], [], [(ME, 1, 1)]), 0.3)
    assert port.take() == [("replied", m.CancelReply(7, [], [], [(ME, 1, 1)]))]
    return session, port


def test_what_is_being_stopped_stays_open_until_its_outcome_comes():
    session, port = stopping(group(1, 2))
    assert list(session.open) == [(1, 3)]
    outcome = result(1, ending=Ending.CANCELLED, failure=STOPPED)
    session.receive(m.Results(1, 3, [outcome]), 0.4)
    assert settled(port.take()) == [outcome]
    assert list(session.open) == [(2, 3)]


def test_a_stop_is_asked_again_with_its_grace_until_it_is_answered():
    session, port = open_session()
    session.cancel(7, [(OTHER, 1, 1)], 0.0, 2.5)
    port.take()
    _, done = reconnect(session, port, 1.0)
    assert sent(done) == [m.Cancel(7, [(OTHER, 1, 1)], 2.5)]
    session.receive(m.CancelReply(7, [], [], [(OTHER, 1, 1)]), 1.1)
    port.take()
    _, done = reconnect(session, port, 2.0)
    assert sent(done) == []


def test_what_was_never_sent_is_cancelled_here():
    session, port = open_session(credit_tasks=0)
    session.submit([group(1, 2)], [F], 0.0)
    port.take()
    session.cancel(7, [(ME, 1, 2)], 0.1, 2.5)
    done = port.take()
    assert settled(done) == [result(1, 2, ending=Ending.CANCELLED)]
    assert done[-1] == ("replied", m.CancelReply(7, [(ME, 1, 2)]))


def test_what_was_to_be_stopped_is_not_submitted_to_another_coordinator():
    session, port = stopping(group(1, 2, template=VOLATILE))
    _, done = reconnect(session, port, 1.0, epoch=6)
    assert settled(done) == [result(1, ending=Ending.CANCELLED, failure=STOPPED)]
    [submit] = [s for s in sent(done) if isinstance(s, m.Submit)]
    assert [(g.first, g.count) for g in submit.groups] == [(2, 1)]
    assert list(session.open) == [(2, 3)]


def test_nor_is_what_it_had_not_acknowledged_yet():
    session, port = open_session()
    session.submit([group(1, 2, template=VOLATILE)], [F], 0.0)
    session.cancel(7, [(ME, 1, 1)], 0.2, 2.5)
    session.receive(m.CancelReply(7, [], [], [(ME, 1, 1)]), 0.3)
    port.take()
    _, done = reconnect(session, port, 1.0, epoch=6)
    assert settled(done) == [result(1, ending=Ending.CANCELLED, failure=STOPPED)]
    [submit] = [s for s in sent(done) if isinstance(s, m.Submit)]
    assert [(g.first, g.count) for g in submit.groups] == [(2, 1)]


def test_an_outcome_that_overtakes_the_promise_leaves_nothing_behind():
    session, port = open_session()
    session.submit([group(1, template=VOLATILE)], [F], 0.0)
    session.receive(m.Accepted(2, [(1, 1)]), 0.1)
    session.cancel(7, [(ME, 1, 1)], 0.2, 2.5)
    session.receive(m.Results(1, 3, [result(1, ending=Ending.CANCELLED, failure=STOPPED)]), 0.3)
    session.receive(m.CancelReply(7, [], [], [(ME, 1, 1)]), 0.4)
    port.take()
    _, done = reconnect(session, port, 1.0, epoch=6)
    assert settled(done) == []
