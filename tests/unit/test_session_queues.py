"""A queue without room keeps back what is for it, and nothing else."""

import threading
from time import monotonic

import pytest

from farm.client.backlog import Backlog, Lane
from farm.errors import Busy
from farm.protocol import messages as m
from tests.unit.session_helpers import F, group, open_session, packed, reconnect, sent

MAIL = m.Template(queue="mail")


def mail(first, count=1, **more):
    return group(first, count, template=MAIL, **more)


def full(first, count, queue="mail"):
    return m.Refused(first, count, "busy", 3.0, "queue mail is full", queue)


def submitted(port):
    return [(g.first, g.count) for x in sent(port.take()) if isinstance(x, m.Submit)
            for g in x.groups]  # fmt: skip


def parked():
    """A session with tasks 2 to 5 of a queue refused, and 1 accepted."""
    session, port = open_session()
    session.submit([mail(1, 5)], [F], 0.0)
    session.receive(m.Accepted(1, [(1, 1)]), 0.1)
    session.receive(full(2, 4), 0.1)
    port.take()
    return session, port


def test_the_others_go_on():
    session, port = parked()
    session.submit([mail(6), group(7)], [F], 0.2)
    assert submitted(port) == [(7, 1)]
    assert session.full == {"mail": (3.1, "queue mail is full")}
    assert session.unsent == (0, 0)  # nobody waits for what is parked but those of its queue
    assert session.unacknowledged == 6
    session.on_tick(9.0)
    assert submitted(port) == []


def test_what_may_be_sent_is_sent_the_oldest_first():
    session, port = parked()
    session.submit([mail(6)], [F], 0.2)
    session.receive(m.QueueCredit("mail", 2), 0.3)
    assert submitted(port) == [(2, 2)]
    session.receive(m.QueueCredit("mail", 10), 0.4)
    assert submitted(port) == [(4, 3)]
    assert session.full == {}
    session.submit([mail(7)], [F], 0.5)
    assert submitted(port) == [(7, 1)]


def test_refused_again_it_waits_again():
    session, port = parked()
    session.receive(m.QueueCredit("mail", 2), 0.3)
    session.receive(full(3, 1), 0.4)
    port.take()
    session.receive(m.QueueCredit("mail", 1), 0.5)
    assert submitted(port) == [(3, 1)]
    session.receive(m.Refused(3, 1, "busy", 0.1, "the farm is full"), 0.6)
    assert submitted(port) == []
    session.on_tick(2.0)  # it may be sent to the farm again, but not to the queue
    assert submitted(port) == []
    session.receive(m.QueueCredit("mail", 1), 2.1)
    assert submitted(port) == [(3, 1)]


def test_a_packed_task_counts_as_one():
    session, port = open_session()
    session.submit([packed(1, 9, template=MAIL), packed(10, 9, template=MAIL)], [F], 0.0)
    session.receive(full(1, 9), 0.1)
    session.receive(full(10, 9), 0.1)
    port.take()
    session.receive(m.QueueCredit("mail", 1), 0.2)
    assert submitted(port) == [(1, 9)]


def test_room_for_another_queue_or_for_nothing_changes_nothing():
    session, port = parked()
    session.receive(m.QueueCredit("bulk", 5), 0.2)
    session.receive(m.QueueCredit("mail", 0), 0.2)
    assert submitted(port) == []


def test_what_is_parked_can_be_cancelled():
    session, _port = parked()
    session.cancel(1, [(session.session, 2, 4)], 0.2)
    assert session.full == {}
    assert session.unacknowledged == 0


def test_a_new_connection_begins_anew():
    session, port = parked()
    _, said = reconnect(session, port, 1.0)
    groups = [(g.first, g.count) for x in sent(said) if isinstance(x, m.Submit) for g in x.groups]
    assert groups == [(2, 4)]
    assert session.full == {}


def test_the_welcome_says_which_queues_there_are():
    session, _ = open_session(queues=["default", "mail"])
    assert session.queues == {"default", "mail"}


# ---------------------------------------------------------------- callers

LANE, OTHER = Lane(F, MAIL, 0), Lane(F, None, 0)


def test_whoever_does_not_wait_is_told_which_queue_is_full():
    box = Backlog(lambda: None)
    box.note_full({"mail": (monotonic() + 30.0, "queue mail is full")})
    with pytest.raises(Busy, match="queue mail is full; try again in 30 s") as caught:
        box.put(LANE, b"x", int, block=False)
    assert caught.value.retry_after == pytest.approx(30.0, abs=0.49)
    assert box.put(OTHER, b"x", int, block=False) == 1
    assert not box.put_packed(LANE, b"x", 3, int, block=False)
    assert box.put_packed(OTHER, b"x", 3, int, block=False)
    assert box.put_or_wait(LANE, b"x", int, lambda: None) is None
    assert box.put_or_wait(OTHER, b"x", int, lambda: None) == 5


def test_whoever_waits_goes_on_when_there_is_room():
    box = Backlog(lambda: None)
    box.note_full({"mail": (3.0, "full")})
    found, notices = [], []
    waiting = threading.Thread(target=lambda: found.append(box.put(LANE, b"x", int, block=True)))
    waiting.start()
    assert box.put_or_wait(LANE, b"x", int, lambda: notices.append(1)) is None
    box.note_full({})
    waiting.join(20)
    assert (found, notices) == ([1], [1])
