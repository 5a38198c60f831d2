"""What a worker decides about its tasks' exceptions: when one is raised, and what may follow."""

import signal
import subprocess
import sys

import pytest

from farm.errors import SoftTimeLimitExceeded
from farm_workers.host_slices import Slice
from farm_workers.retrying import must_end
from farm_workers.soft_limit import SIGNAL, SoftLimit


@pytest.fixture
def limit():
    before = signal.getsignal(SIGNAL)
    yield SoftLimit()
    signal.signal(SIGNAL, before)


def test_the_signal_raises_only_inside_the_call_of_the_task(limit):
    def task():
        limit._due = 0.0  # the time is over
        limit._on_signal(SIGNAL, sys._getframe())

    with pytest.raises(SoftTimeLimitExceeded, match=r"soft time limit of 60 s"):
        limit.wrap(task, 60.0)()
    limit._due = 0.0
    limit._on_signal(SIGNAL, sys._getframe())  # the time is over, but the task is, too
    assert limit._due == 0.0  # it would be sent again


def test_the_signal_of_a_task_that_is_over_does_nothing_to_the_next(limit):
    def task():
        limit._on_signal(SIGNAL, sys._getframe())
        return "done"

    assert limit.wrap(task, 60.0)() == "done"


def test_it_is_raised_once_so_that_the_task_can_clean_up(limit):
    def task():
        limit._due = 0.0
        try:
            limit._on_signal(SIGNAL, sys._getframe())
        except SoftTimeLimitExceeded:
            limit._on_signal(SIGNAL, sys._getframe())
            return "cleaned up"

    assert limit.wrap(task, 60.0)() == "cleaned up"


def part(**more):
    return Slice((1, 1), 1, b"s" * 16, 1, 1, b"f" * 16, [b""], **more)


class Own(LookupError):
    """An exception of users."""


OWN = f"{__name__}.Own"


@pytest.mark.parametrize(
    ("options", "ends"),
    [
        ({}, False),
        ({"retry_on": (OWN,)}, False),
        ({"retry_on": ("LookupError",)}, False),
        ({"retry_on": ("ValueError",)}, True),
        ({"never_on": ("Exception",)}, True),
        ({"never_on": ("ValueError", OWN)}, True),
        ({"never_on": ("ValueError", "no.such.Thing")}, False),
    ],
)
def test_types_and_their_bases_are_known_by_name(options, ends):
    assert must_end(Own(), part(**options)) is ends


def test_the_name_under_which_users_know_a_type_will_do():
    error = subprocess.CalledProcessError(1, "x")
    assert must_end(error, part(never_on=("subprocess.SubprocessError",)))
    alias = f"{__name__}.Alias"
    sys.modules[__name__].Alias = Own
    assert must_end(Own(), part(never_on=(alias,)))
    assert must_end(Own(), part(retry_on=(alias,))) is False
