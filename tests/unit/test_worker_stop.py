"""The signal that stops a task hits the item that the page names, in the task's own call, once."""

import signal
import sys
import time

import pytest

from farm.errors import TaskStopped
from farm_workers import soft_limit
from farm_workers.soft_limit import SIGNAL, SoftLimit


@pytest.fixture
def words():
    return [5, 0, 0, 5]  # at the item whose mark is 5, and that is to stop


@pytest.fixture
def limit(words):
    before = signal.getsignal(SIGNAL)
    yield SoftLimit(words)
    signal.signal(SIGNAL, before)


def hear(limit):
    limit._on_signal(SIGNAL, sys._getframe(1))


def test_it_is_raised_in_the_task_and_once_so_that_it_can_clean_up(limit):
    def task():
        try:
            hear(limit)
        except TaskStopped:
            hear(limit)
            return "cleaned up"

    assert limit.known(task, often=False)() == "cleaned up"


def test_another_item_is_left_alone(limit, words):
    def task():
        hear(limit)
        return "done"

    words[0] = 6
    assert limit.known(task, often=False)() == "done"


def test_the_workers_own_code_is_left_alone_and_the_signal_comes_again(limit):
    def task():
        return time.sleep(60)

    called = limit.known(task, often=False)
    hear(limit)  # between two steps of the worker
    with pytest.raises(TaskStopped):
        called()
    hear(limit)
    assert not limit._again


def test_when_nothing_runs_any_more_the_signal_is_not_sent_again(limit):
    limit.known(lambda: None, often=False)
    limit.done()
    hear(limit)
    assert not limit._again


def test_a_function_without_a_frame_of_its_own_is_stopped_too(limit):
    sleep = limit.known(time.sleep, often=False)
    hear(limit)
    with pytest.raises(TaskStopped):
        sleep(60)


def test_many_tiny_calls_are_not_wrapped(limit):
    assert limit.known(abs, often=True) is abs
    assert limit.known(hear, often=False) is hear


def test_a_soft_time_limit_and_a_stop_get_along(limit):
    def task():
        try:
            hear(limit)
        except TaskStopped:
            return "cleaned up"

    assert limit.wrap(task, 60.0)() == "cleaned up"


def test_a_handler_that_a_task_took_away_is_put_back_before_the_next(limit):
    signal.signal(SIGNAL, signal.SIG_IGN)
    limit.known(abs, often=False)
    assert signal.getsignal(SIGNAL) == limit._handler
    assert soft_limit.SIGNAL == SIGNAL
