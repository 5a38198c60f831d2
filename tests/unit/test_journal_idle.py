"""Commits that the reactor does itself: when, and what becomes of those that cannot be done."""

import threading

import pytest

from farm.coordinator.gathering import LITTLE_ROWS, PATIENT_BYTES
from farm.coordinator.journal import QUICK_SECONDS
from farm.store import Append, Delete, PutFunction, StoreFailed, StoreFull
from tests.unit.journal_shell import SECONDS, Shell
from tests.unit.store_records import record_of


class Clock:
    """A clock that moves on by the same time whenever it is looked at."""

    def __init__(self):
        self.now = self.step = 0.0

    def __call__(self):
        self.now += self.step
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def shell(clock):
    """Its store has committed once, quickly; ``threads`` are those that have committed since."""
    shell = Shell(clock=clock, retry_seconds=(0.0, 0.0))
    commit, shell.threads = shell.store.commit, []
    shell.append(1)
    shell.journal.hand_over()
    shell.begun()
    shell.until(lambda: shell.journal.committed == 1)

    def watched(changes):
        shell.threads.append(threading.current_thread())
        commit(changes)

    shell.store.commit = watched
    yield shell
    shell.store.go.set()
    shell.journal.close()


def by_reactor(shell):
    return [thread is threading.current_thread() for thread in shell.threads]


def test_a_little_is_committed_on_return_and_nobody_is_woken(shell):
    woken = []
    shell.journal._notify = lambda: woken.append(1)
    shell.append(2, 3)
    shell.journal.hand_over(idle=True)
    assert shell.journal.committed == 3
    assert by_reactor(shell) == [True]
    assert woken == []
    shell.append(4)
    shell.journal.hand_over(idle=True)
    assert shell.journal.committed == 4


@pytest.mark.parametrize(
    "changes",
    [
        [Append(2, record_of(1)), Delete([1])],
        [Append(2, record_of(PATIENT_BYTES))],
        [PutFunction(b"a", "a", bytes(PATIENT_BYTES)), Append(2, record_of(1))],
        [Append(2 + n, record_of(1)) for n in range(LITTLE_ROWS + 1)],
    ],
    ids=["deletes", "large", "large function", "many"],
)
def test_what_may_take_longer_is_for_the_journal_thread(shell, changes):
    for change in changes:
        shell.journal.append(change)
    shell.journal.hand_over(idle=True)
    last = max(change.ref for change in changes if isinstance(change, Append))
    shell.until(lambda: shell.journal.committed == last)
    assert by_reactor(shell) == [False]


def test_a_reactor_that_has_something_to_do_does_not_wait(shell):
    shell.append(2)
    shell.journal.hand_over()
    shell.until(lambda: shell.journal.committed == 2)
    assert by_reactor(shell) == [False]


def test_on_a_disk_that_became_slow_the_reactor_waits_once(shell, clock):
    clock.step = 100 * QUICK_SECONDS
    for ref in (2, 3):
        shell.append(ref)
        shell.journal.hand_over(idle=True)
        shell.until(lambda ref=ref: shell.journal.committed == ref)
    assert by_reactor(shell) == [True, False]
    clock.step = 0.0
    for ref in range(4, 104):
        shell.append(ref)
        shell.journal.hand_over(idle=True)
        shell.until(lambda ref=ref: shell.journal.committed == ref)
    assert not by_reactor(shell)[2]
    assert by_reactor(shell)[-1]


def test_what_comes_while_the_journal_thread_commits_is_committed_after_it(shell):
    shell.hold()
    shell.append(2)
    shell.journal.hand_over()
    shell.begun()
    shell.append(3)
    shell.journal.hand_over(idle=True)
    assert shell.journal.committed == 1
    shell.store.go.set()
    shell.until(lambda: shell.journal.committed == 3)
    assert by_reactor(shell) == [False, False]


def test_while_upkeep_has_its_turn_the_reactor_does_not_wait_for_it(shell):
    maintain, done = shell.store.maintain, threading.Event()

    def slow():
        maintain()
        assert done.wait(SECONDS)

    shell.store.maintain = slow
    shell.store.wants_maintenance = True
    shell.append(2)
    shell.journal.hand_over(idle=True)
    assert shell.store.maintained.acquire(timeout=SECONDS)
    shell.store.wants_maintenance = False
    shell.append(3)
    shell.journal.hand_over(idle=True)
    shell.until(lambda: shell.journal.committed == 3)
    done.set()
    assert by_reactor(shell) == [True, False]


def test_a_full_disk_leaves_the_batch_to_the_journal_thread(shell):
    shell.store.errors = [StoreFull("no room")] * 2
    shell.append(2)
    shell.journal.hand_over(idle=True)
    shell.append(3)
    shell.journal.hand_over(idle=True)
    shell.until(lambda: shell.journal.committed == 3)
    assert [change.ref for commit in shell.store.commits for change in commit] == [1, 2, 3]
    assert by_reactor(shell)[:3] == [True, False, False]
    assert shell.journal.fatal is None


@pytest.mark.parametrize("error", [StoreFailed("fsync failed"), ValueError("a bug")])
def test_a_failed_store_is_fatal_here_too(shell, error):
    shell.store.errors = [error]
    shell.append(2)
    shell.journal.hand_over(idle=True)
    assert str(error.args[0]) in str(shell.journal.fatal)
    assert shell.journal.committed == 1
    shell.append(3)
    shell.journal.hand_over(idle=True)
    shell.journal.close()
    assert len(shell.store.attempts) == 2


def test_a_record_that_was_waited_for_is_read_after_a_commit_of_the_reactor(shell):
    shell.journal.read(2)
    shell.append(2)
    shell.journal.hand_over(idle=True)
    found = []
    shell.until(lambda: found.extend(shell.journal.take_loaded()) or found)
    assert found == [(2, record_of(1))]
