"""The journal thread: order, grouping, failures, reading, stopping."""

import threading
from math import inf

import pytest

from farm.coordinator.gathering import PATIENCE_SECONDS_MAX
from farm.coordinator.journal import Journal
from farm.protocol.records import Submitted
from farm.store import Append, Delete, PutFunction, StoreFailed, StoreFull
from farm.store.memory import MemoryStore
from tests.unit.journal_shell import SECONDS, Shell
from tests.unit.store_records import record_of


@pytest.fixture
def shells():
    made = []

    def make(**settings):
        made.append(Shell(**settings))
        return made[-1]

    yield make
    for shell in made:
        shell.store.go.set()
        shell.journal.close()


@pytest.fixture
def shell(shells):
    return shells()


def refs(changes):
    return [change.ref for change in changes]


def test_what_is_handed_over_is_committed_and_told(shell):
    shell.append(1, 2)
    assert shell.store.attempts == []
    assert shell.journal.committed == 0
    shell.journal.hand_over()
    shell.until(lambda: shell.journal.committed == 2)
    assert [refs(commit) for commit in shell.store.commits] == [[1, 2]]


def test_committed_moves_only_after_the_store_is_done(shell):
    shell.hold()
    shell.append(1)
    shell.journal.hand_over()
    shell.begun()
    assert shell.journal.committed == 0
    shell.store.go.set()
    shell.until(lambda: shell.journal.committed == 1)


def test_while_one_commit_runs_the_next_gathers(shell):
    shell.hold()
    for ref in range(1, 8):
        shell.append(ref)
        shell.journal.hand_over()
        if ref == 1:
            shell.begun()
    shell.store.go.set()
    shell.until(lambda: shell.journal.committed == 7)
    assert [refs(commit) for commit in shell.store.commits] == [[1], [2, 3, 4, 5, 6, 7]]


def test_changes_of_all_kinds_keep_their_order(shell):
    shell.hold()
    changes = [
        PutFunction(b"a", "a", b"1"), Append(1, record_of(1)), Delete([1]), Append(2, record_of(2)),
        Delete([2]),
    ]  # fmt: skip
    for change in changes:
        shell.journal.append(change)
        shell.journal.hand_over()
    shell.store.go.set()
    shell.until(lambda: shell.journal.committed == 2)
    assert [change for commit in shell.store.commits for change in commit] == changes


def test_handing_over_nothing_commits_nothing(shell):
    shell.journal.hand_over()
    shell.journal.close()
    assert shell.store.attempts == []


def test_too_many_changes_are_behind_until_they_are_committed(shells):
    shell = shells(behind_changes=3)
    shell.hold()
    shell.append(1, 2, 3)
    assert not shell.journal.behind
    shell.journal.hand_over()
    shell.begun()
    assert not shell.journal.behind
    shell.append(4)
    assert shell.journal.behind
    shell.journal.hand_over()
    assert shell.journal.behind
    shell.store.go.set()
    shell.until(lambda: shell.journal.committed == 4)
    shell.until(lambda: not shell.journal.behind)


def test_too_many_bytes_are_behind_whatever_carries_them(shells):
    shell = shells(behind_bytes=1000)
    shell.hold()
    shell.append(1, size=600)
    shell.journal.append(PutFunction(b"a", "a", bytes(300)))
    shell.journal.hand_over()
    assert not shell.journal.behind
    shell.append(2, size=200)
    assert shell.journal.behind
    shell.journal.hand_over()
    assert shell.journal.behind
    shell.store.go.set()
    shell.until(lambda: not shell.journal.behind)


def test_a_full_disk_retries_the_same_batch_before_anything_later(shells):
    shell = shells(retry_seconds=(0.0, 0.0))
    shell.store.errors = [StoreFull("no room")] * 3
    shell.hold()
    shell.append(1, 2)
    shell.journal.hand_over()
    shell.begun()
    shell.append(3)
    shell.journal.hand_over()
    shell.store.go.set()
    shell.until(lambda: shell.journal.committed == 3)
    assert [refs(attempt) for attempt in shell.store.attempts] == [[1, 2]] * 4 + [[3]]
    assert shell.journal.failing == ""
    assert shell.journal.fatal is None


def test_while_a_commit_is_stalled_the_reason_is_told_and_upkeep_tried(shells):
    shell = shells(retry_seconds=(SECONDS, SECONDS))
    shell.store.errors = [StoreFull("no room")]
    shell.append(1)
    shell.journal.hand_over()
    shell.until(lambda: shell.journal.failing == "no room")
    assert shell.journal.committed == 0
    assert shell.store.maintained.acquire(timeout=SECONDS)


def test_a_store_that_is_short_is_failing_and_asked_again_without_commits(shells):
    shell = shells(retry_seconds=(0.0, 0.0))
    shell.store.wants_maintenance = True
    shell.store.short = "nearly full"
    assert shell.journal.failing == "nearly full"
    shell.append(1)
    shell.journal.hand_over()
    for _ in range(3):
        assert shell.store.maintained.acquire(timeout=SECONDS)
    shell.store.short = ""
    assert shell.journal.failing == ""


@pytest.mark.parametrize("error", [StoreFailed("fsync failed"), ValueError("a bug")])
def test_a_failed_store_is_fatal_and_commits_nothing_more(shell, error):
    shell.store.errors = [error]
    shell.append(1)
    shell.journal.hand_over()
    shell.until(lambda: shell.journal.fatal is not None)
    assert str(error.args[0]) in str(shell.journal.fatal)
    shell.append(2)
    shell.journal.hand_over()
    shell.journal.close()
    assert len(shell.store.attempts) == 1
    assert shell.journal.committed == 0


def test_records_are_read_in_the_order_of_asking(shell):
    shell.store.rows = {1: record_of(1), 2: record_of(2)}
    for ref in (2, 9, 1):
        shell.journal.read(ref)
    found = []
    shell.until(lambda: found.extend(shell.journal.take_loaded()) or len(found) == 3)
    assert found == [(2, record_of(2)), (9, None), (1, record_of(1))]
    assert shell.journal.take_loaded() == []


def test_a_record_on_its_way_to_the_disk_is_waited_for(shell):
    shell.hold()
    shell.append(5)
    shell.journal.read(5)
    shell.journal.hand_over()
    shell.begun()
    assert shell.journal.take_loaded() == []
    shell.store.go.set()
    found = []
    shell.until(lambda: found.extend(shell.journal.take_loaded()) or found)
    assert found == [(5, record_of(1))]


def test_a_record_that_cannot_be_read_is_fatal(shell):
    shell.store.read_error = StoreFailed("row 1 vanished")
    shell.journal.read(1)
    shell.until(lambda: shell.journal.fatal is not None)
    assert "row 1" in str(shell.journal.fatal)


def test_maintenance_runs_when_the_store_wants_it_and_only_then(shell):
    shell.append(1)
    shell.journal.hand_over()
    shell.until(lambda: shell.journal.committed == 1)
    assert not shell.store.maintained.acquire(blocking=False)
    shell.store.wants_maintenance = True
    shell.append(2)
    shell.journal.hand_over()
    assert shell.store.maintained.acquire(timeout=SECONDS)


def test_stalled_maintenance_is_no_failure_but_failed_maintenance_is(shell):
    shell.store.wants_maintenance = True
    shell.store.maintain_errors = [StoreFull("no room"), StoreFailed("fsync failed")]
    shell.append(1)
    shell.journal.hand_over()
    assert shell.store.maintained.acquire(timeout=SECONDS)
    assert shell.journal.fatal is None
    shell.until(lambda: shell.journal.committed == 1)
    shell.append(2)
    shell.journal.hand_over()
    shell.until(lambda: shell.journal.fatal is not None)


def test_closing_commits_all_that_was_gathered_and_ends_the_threads(shell):
    shell.hold()
    shell.append(1)
    shell.journal.hand_over()
    shell.begun()
    shell.append(2)
    closer = threading.Thread(target=shell.journal.close)
    closer.start()
    shell.store.go.set()
    closer.join(SECONDS)
    assert not closer.is_alive()
    assert [refs(commit) for commit in shell.store.commits] == [[1], [2]]
    assert shell.journal.committed == 2
    shell.journal.close()


def test_closing_a_stalled_journal_tries_once_more_and_says_what_was_not_committed(shells):
    shell = shells(retry_seconds=(SECONDS, SECONDS))
    shell.store.errors = [StoreFull("no room")] * 2
    shell.append(1)
    shell.journal.hand_over()
    shell.until(lambda: shell.journal.failing)
    shell.journal.close()
    assert len(shell.store.attempts) == 2
    assert "no room" in str(shell.journal.fatal)
    assert shell.journal.committed == 0


def test_a_store_in_memory_has_what_is_appended_at_once_and_needs_no_threads():
    news = []
    store = MemoryStore()
    journal = Journal(store, lambda: news.append(1), behind_changes=0)
    before = threading.active_count()
    journal.append(Append(3, record_of(4)))
    journal.append(Append(5, record_of(6)))
    journal.append(Delete((5,)))
    assert (store.read(3), store.read(5)) == (record_of(4), None)
    assert journal.fetch(3) == record_of(4)
    assert (journal.behind, journal.committed, journal.due) == (False, 0, inf)
    journal.read(3)
    journal.read(4)
    assert journal.take_loaded() == [(3, record_of(4)), (4, None)]
    assert news
    journal.close()
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("took", "least", "most"),
    [(0.0, 0.002, 0.002), (0.01, 0.009, 0.01), (1.0, PATIENCE_SECONDS_MAX, PATIENCE_SECONDS_MAX)],
)
def test_a_submission_waits_for_others_as_long_as_a_commit_takes(shells, took, least, most):
    times = iter(n * took for n in range(1_000))
    shell = shells(clock=lambda: next(times))
    for ref in range(1, 21):
        shell.append(ref)
        shell.journal.hand_over()
        shell.until(lambda ref=ref: shell.journal.committed == ref)
    shell.journal.append(Append(21, Submitted(b"s" * 16, 0.0, [])))
    shell.journal.hand_over(0.0)
    assert least <= shell.journal.due <= most
    shell.journal.hand_over(shell.journal.due)
    shell.until(lambda: shell.journal.committed == 21)
