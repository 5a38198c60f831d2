"""What a turn of a client's IO thread does, in which order: what somebody waits for goes first."""

import pytest

from farm.client import loop
from farm.client.backlog import Lane
from farm.client.callbacks import CallbackThread
from farm.client.flow import USUAL
from farm.client.future import Origin
from farm.client.loop import REST_SECONDS, Loop
from farm.client.waiting import Waiting
from farm.protocol import messages as m
from farm.transport import Credentials
from tests.unit.session_helpers import ME, F, result, welcome

LANE = Lane(F, None, 0)


class Wire:
    """The line of a loop: what arrives in the next turn, and what was done, in order."""

    def __init__(self):
        self.trouble = ""
        self.arrives, self.opens, self.done = [], False, []

    def step(self, _limit, _now):
        opened, arrived = self.opens, self.arrives
        self.opens, self.arrives = False, []
        return opened, arrived, False

    def send(self, message):
        self.done.append(type(message))

    def flush(self):
        self.done.append("rest")

    def welcomed(self):
        pass

    def patience(self, seconds, _now):
        return seconds

    def sleep(self, seconds, last):
        last()
        self.done.append(("sleep", round(seconds, 6)))


class Rig:
    """A loop with a clock of its own, without a thread and without a network."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(loop, "monotonic", lambda: self.now)
        monkeypatch.setattr(loop, "time", lambda: self.now)
        self.waiting = Waiting(Origin(ME, None, CallbackThread(), None))
        self.loop = Loop(
            Credentials("client", "ipc:///nowhere", "none"),
            USUAL.session("3.11", waits_for_room=True),
            1000,
            (ME, b"secret", b"i" * 16),
            waiting=self.waiting,
            may_block=lambda: True,
            on_epoch=None,
            on_ended=None,
        )
        self.loop.line.close(self.now)
        self.wire = self.loop.line = Wire()
        self.wire.opens = True
        self.turn()
        self.turn(welcome())
        self.turn(after=REST_SECONDS)
        self.turn()

    def turn(self, *arrives, after=0.0):
        """What one turn does."""
        self.now += after
        self.wire.arrives, self.wire.done = list(arrives), []
        self.loop._turn()
        return self.wire.done

    def submit(self):
        put = self.loop.backlog.put
        return put(LANE, b"payload", self.waiting.new, block=True)


@pytest.fixture
def rig(monkeypatch):
    return Rig(monkeypatch)


def test_a_task_leaves_before_the_rest_of_a_turn(rig):
    rig.submit()
    assert rig.turn() == [m.Function, m.Submit, ("sleep", REST_SECONDS)]
    rig.submit()
    assert rig.turn(after=REST_SECONDS)[:2] == [m.Submit, "rest"]


def test_results_are_given_out_and_the_rest_waits_until_what_follows_has_left(rig):
    first, second = rig.submit(), rig.submit()
    rig.turn()
    done = rig.turn(m.Results(1, 1, [result(1)]), after=REST_SECONDS)
    assert first.done()
    assert done == [("sleep", REST_SECONDS)]
    rig.submit()
    done = rig.turn()
    assert done[:2] == [m.Submit, "rest"]
    rig.turn(m.Results(2, 1, [result(2)]), after=2 * REST_SECONDS)
    assert second.done()


def test_the_rest_of_a_turn_does_not_wait_for_ever_where_results_come_and_come(rig):
    for _ in range(3):
        rig.submit()
    rig.turn()
    assert "rest" not in rig.turn(m.Results(1, 1, [result(1)]), after=REST_SECONDS)
    assert "rest" in rig.turn(m.Results(2, 1, [result(2)]), after=REST_SECONDS)


def test_what_changes_more_than_tasks_has_the_rest_of_the_turn_at_once(rig):
    rig.submit()
    rig.turn()
    assert "rest" in rig.turn(m.Credit(5, 1 << 20), m.Results(1, 1, [result(1)]))


def test_futures_are_told_when_there_is_nothing_left_to_do_but_to_wait(rig):
    future = rig.submit()
    rig.turn()
    seen = []
    rig.wire.sleep = lambda _seconds, last: (seen.append(future.done()), last())
    rig.turn(m.Results(1, 1, [result(1)]))
    assert seen == [False]
    assert future.done()


def test_futures_are_told_where_there_is_something_left_to_do(rig):
    future = rig.submit()
    rig.turn()
    step = rig.wire.step

    def step_and_submit(*arguments):
        rig.submit()
        return step(*arguments)

    rig.wire.step = step_and_submit
    assert not any(isinstance(one, tuple) for one in rig.turn(m.Results(1, 1, [result(1)])))
    assert future.done()
