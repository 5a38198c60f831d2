"""The client of a worker process: nothing of it waits for room, and its tasks have parents."""

import asyncio
import threading
from concurrent.futures import as_completed, wait
from itertools import pairwise

import pytest

from farm.client import waits
from farm.client.backlog import Backlog, Lane
from farm.client.callbacks import CallbackThread
from farm.client.future import Future, Origin
from farm.client.nest import Nest
from farm.client.session import Session, SessionSettings
from farm.client.waiting import refusal
from farm.errors import Busy
from farm.protocol import messages as m
from tests.unit.session_helpers import ME, F, Recorder, group, result, sent, welcome

LANE = Lane(F, None, 0)


def impatient(**more):
    port = Recorder()
    settings = SessionSettings("1", "3.11", take_seconds=0.0, waits_for_room=False)
    session = Session(settings, port, session=ME, secret=b"secret", instance=b"i" * 16)
    session.on_connected(0.0)
    session.receive(welcome(**more), 0.0)
    port.take()
    return session, port


def busy(first, count=1, **more):
    return m.Refused(first, count, "busy", 3.0, "full", **more)


def submitted(port):
    messages = [one for one in sent(port.take()) if isinstance(one, m.Submit)]
    return [(g.first, g.count) for message in messages for g in message.groups]


# ---------------------------------------------------------------- no room


def test_what_there_is_no_credit_for_is_sent_and_decided_there():
    session, port = impatient(credit_tasks=1)
    assert session.credit == 1
    session.submit([group(1, 3)], [F], 0.0)
    assert submitted(port) == [(1, 3)]
    assert session.credit == 0
    assert not session.waits_for_credit


def test_what_is_refused_twice_with_nothing_else_at_the_farm_fails():
    session, port = impatient()
    session.submit([group(1)], [F], 0.0)
    port.take()
    session.receive(busy(1), 0.1)
    assert submitted(port) == []
    session.on_tick(0.2)
    assert submitted(port) == [(1, 1)]
    session.receive(busy(1), 0.3)
    assert ("failed", (1, 1, "busy", "full")) in port.take()
    assert not session.open


def test_what_is_refused_waits_while_others_are_at_the_farm():
    session, port = impatient()
    session.submit([group(1, 2)], [F], 0.0)
    session.receive(m.Accepted(1, [(1, 1)]), 0.1)
    port.take()
    for turn in range(3):
        session.receive(busy(2, queue="mail" if turn else ""), 0.2 + turn)
        assert not any(what == "failed" for what, _ in port.take())
        session.on_tick(0.9 + turn)
        assert submitted(port) == [(2, 1)]
    session.receive(m.Results(1, 2, [result(1)]), 5.0)
    session.receive(busy(2), 5.1)
    session.on_tick(5.2)
    session.receive(busy(2), 5.3)
    assert ("failed", (2, 1, "busy", "full")) in port.take()


def asks(session, port, now, seconds, first):
    """Have a task refused again and again, as many turns as there are; when it was sent."""
    found, end = [], now + seconds
    while now < end:
        session.receive(m.Beat(), now)  # the farm is there
        session.on_tick(now)
        if submitted(port):
            found.append(now)
            session.receive(busy(first), now)
        now += 0.01
    return found


def test_who_is_refused_again_and_again_asks_as_often_as_it_was_told_to():
    session, port = impatient()
    session.submit([group(1, 2)], [F], 0.0)
    session.receive(m.Accepted(1, [(1, 1)]), 0.1)
    port.take()
    session.receive(busy(2), 0.2)
    found = asks(session, port, 0.2, 30.0, 2)
    assert [round(b - a, 1) for a, b in pairwise(found)][:5] == [0.1, 0.2, 0.4, 0.8, 1.6]
    assert {round(b - a, 1) for a, b in pairwise(found[6:])} == {3.0}  # as it was said


def test_who_was_refused_asks_at_once_when_a_sibling_has_ended_or_there_is_another():
    session, port = impatient()
    session.submit([group(1, 3)], [F], 0.0)
    session.receive(m.Accepted(1, [(1, 2)]), 0.1)
    port.take()
    session.receive(busy(3), 0.2)
    last = asks(session, port, 0.2, 30.0, 3)[-1]
    session.receive(m.Results(1, 2, [result(1)]), last + 0.3)
    session.on_tick(last + 0.3)
    assert submitted(port) == [(3, 1)]
    session.receive(busy(3), last + 0.31)
    session.on_tick(last + 0.37)
    assert submitted(port) == [(3, 1)]  # from the beginning
    session.receive(busy(3), last + 0.38)
    last = asks(session, port, last + 0.38, 30.0, 3)[-1]
    session.submit([group(4)], [F], last + 0.3)
    assert submitted(port) == [(3, 2)]


def test_what_was_refused_does_not_ask_at_once_because_its_credit_comes_back():
    session, port = impatient()
    session.submit([group(1, 2)], [F], 0.0)
    session.receive(m.Accepted(1, [(1, 1)]), 0.1)
    port.take()
    for credit in range(10, 14):
        session.receive(busy(2), 0.2)
        session.receive(m.Credit(credit, 1 << 20), 0.2)
        session.on_tick(0.24)
        assert submitted(port) == []
    session.on_tick(0.26)
    assert submitted(port) == [(2, 1)]


def test_all_that_is_refused_together_is_one_refusal():
    session, port = impatient()
    session.submit([group(i) for i in range(1, 12)], [F], 0.0)
    session.receive(m.Accepted(1, [(1, 1)]), 0.1)
    port.take()
    for i in range(2, 12):
        session.receive(busy(i), 0.2)
    session.on_tick(0.26)
    assert len(submitted(port)) > 0


def test_what_is_refused_waits_for_no_task_that_may_be_above_it():
    session, port = impatient()
    above = m.Template(depth=1, parent=(b"other-parent-id!", 1))
    session.submit([group(1, template=above)], [F], 0.0)
    session.receive(m.Accepted(1, [(1, 1)]), 0.1)
    # It runs in this very process now, and submits two: one has room.
    below = m.Template(depth=2, parent=(ME, 1))
    session.submit([group(2, 2, template=below)], [F], 0.2)
    session.receive(m.Accepted(2, [(2, 1)]), 0.3)
    for turn in range(3):
        session.receive(busy(3), 0.4 + turn)
        session.on_tick(1.0 + turn)
    session.receive(m.Results(1, 3, [result(2)]), 4.0)
    for turn in range(2):
        assert 3 in session.open
        session.receive(busy(3), 5.0 + turn)
        session.on_tick(5.5 + turn)
    assert ("failed", (3, 1, "busy", "full")) in port.take()
    assert list(session.open) == [(1, 2)]


def test_of_two_parents_one_waits_for_room_and_does_not_keep_the_other_waiting():
    session, port = impatient()
    gone = m.Template(depth=1, parent=(b"other-parent-id!", 1))
    session.submit([group(1, template=gone), group(2, template=gone)], [F], 0.0)
    session.receive(m.Accepted(1, [(1, 1)]), 0.1)
    # Its parent is over; it runs in this very process, is all that one may have, and submits one.
    below = m.Template(depth=1, parent=(ME, 1))
    session.submit([group(3, template=below)], [F], 0.2)
    for turn in range(2):
        session.receive(busy(2), 0.3 + turn)
        assert {2, 3} <= {i for first, stop in session.open for i in range(first, stop)}
        session.receive(busy(3), 0.4 + turn)
        session.on_tick(0.9 + turn)
    assert [what for name, what in port.take() if name == "failed"] == [(3, 1, "busy", "full")]
    assert list(session.open) == [(1, 3)]


def test_what_is_over_before_it_is_said_to_be_accepted_was_accepted():
    session, port = impatient()
    session.submit([group(1)], [F], 0.0)
    session.receive(busy(1), 0.1)
    session.on_tick(0.2)
    session.receive(m.Results(1, 1, [result(1)]), 0.3)
    session.submit([group(2)], [F], 0.4)
    session.receive(busy(2), 0.5)
    assert not any(what == "failed" for what, _ in port.take())
    session.on_tick(0.6)
    session.receive(busy(2), 0.7)
    assert ("failed", (2, 1, "busy", "full")) in port.take()


def test_others_wait_for_room_as_ever():
    port = Recorder()
    session = Session(
        SessionSettings("1", "3.11"), port, session=ME, secret=b"s", instance=b"i" * 16
    )
    session.on_connected(0.0)
    session.receive(welcome(credit_tasks=1), 0.0)
    assert session.credit is None
    session.submit([group(1, 3)], [F], 0.0)
    assert submitted(port) == [(1, 1)]


def test_a_refusal_for_want_of_room_is_busy():
    error = refusal(m.Refused(1, 1, "busy", 3.0))("id-1")
    assert isinstance(error, Busy)
    assert error.retry_after == 3.0
    assert "no room" in str(error)


def test_a_submit_without_credit_raises_exactly_when_it_is_used_up():
    box = Backlog(lambda: None, lambda: False)
    box.left(0, 0, 2)
    assert [box.put(LANE, b"x", int, block=True) for _ in range(2)] == [1, 2]
    with pytest.raises(Busy):
        box.put(LANE, b"x", int, block=True)
    box.take()  # what is taken has used it, too, until it is said anew
    with pytest.raises(Busy):
        box.put(LANE, b"x", int, block=True)
    assert not box.put_packed(LANE, b"x", 5, int, block=False)
    box.left(0, 0, 1)
    assert box.put(LANE, b"x", int, block=True) == 3
    with pytest.raises(Busy):
        box.put_packed(LANE, b"x", 5, int, block=True)


# ---------------------------------------------------------------- parents


def test_tasks_are_given_their_parent():
    running = [None]
    nest = Nest(lambda: running[0])
    assert nest.template(None) is None
    running[0] = (ME, 7, 2)
    own = m.Template(retries=3)
    template = nest.template(own)
    assert (template.parent, template.depth, template.retries) == ((ME, 7), 3, 3)
    assert own.parent is None
    assert nest.template(None).depth == 3


# ---------------------------------------------------------------- who is told of waits


@pytest.fixture
def told():
    """What the one who listens is told."""
    heard = []
    waits.listen(heard.append)
    yield heard
    waits.listen(None)
    waits.reset()


def new_future():
    return Future(Origin(ME, lambda *_: False, CallbackThread(), lambda *_: None), 1)


def later(future, heard):
    """Give a future its value when somebody is said to wait."""

    def end():
        while not heard:
            threading.Event().wait(0.001)
        future.set_result(5)

    threading.Thread(target=end).start()


@pytest.mark.parametrize(
    "read",
    [
        lambda future: future.result(10),
        lambda future: future.exception(10),
        lambda future: wait([future], 10),
        lambda future: list(as_completed([future], 10)),
    ],
)
def test_a_wait_is_told_and_its_end(told, read):
    future = new_future()
    later(future, told)
    read(future)
    assert told == [True, False]
    read(future)  # what is over is not waited for
    assert told == [True, False]


def test_coroutines_that_wait_at_a_time_are_told_once(told):
    async def both():
        loop = asyncio.get_running_loop()
        futures = [new_future(), new_future()]

        async def one(future):
            return await future

        waiting = [loop.create_task(one(future)) for future in futures]
        await asyncio.sleep(0)
        assert told == [True]
        for future in futures:
            future.set_result(1)
        await asyncio.gather(*waiting)

    asyncio.run(both())
    assert told == [True, False]


def test_a_wait_that_times_out_is_over(told):
    with pytest.raises(TimeoutError):
        new_future().result(0)
    assert told == [True, False]


def test_threads_beside_the_task_are_not_told_of(told):
    future = new_future()
    thread = threading.Thread(target=wait, args=([future], 0))
    thread.start()
    thread.join()
    assert told == []


def test_a_wait_of_a_task_that_is_over_ends_for_nobody_else(told):
    async def one(future):
        return await future

    loop = asyncio.new_event_loop()
    try:
        left = loop.create_task(one(new_future()))
        loop.run_until_complete(asyncio.sleep(0))
        assert told == [True]
        waits.reset()  # the task is over, and a worker has heard of it
        told.clear()
        future = new_future()
        later(future, told)
        left.cancel()
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(left)
        assert told == []
        future.result(10)
    finally:
        loop.close()
    assert told == [True, False]


def test_who_must_not_wait_raises():
    def refuse(begins):
        raise RecursionError("too deep")

    waits.listen(refuse)
    try:
        with pytest.raises(RecursionError):
            new_future().result(1)
        with pytest.raises(RecursionError):
            wait([new_future()], 1)
    finally:
        waits.listen(None)
        waits.reset()
