import pytest

from farm.client.pacing import (
    GROWING_WINDOW_MIN,
    GROWTH,
    ITEMS_MAX,
    TARGET_SECONDS,
    WINDOW_MIN,
    Pace,
)
from farm.client.watch import Watch
from farm.protocol.messages import BATCH_BYTES


def run(pace, item_seconds, tasks, *, slots=2, item_bytes=10):
    """A farm of ``slots`` workers that always has something to do; the sizes of the tasks."""
    free = [0.0] * slots
    queue, sizes = [], []
    for _ in range(tasks):
        while len(queue) < pace.window:
            size = pace.size
            sizes.append(size)
            pace.submitted(size, size * item_bytes)
            worker = min(range(slots), key=free.__getitem__)
            free[worker] += size * item_seconds
            queue.append((free[worker], size))
        queue.sort()
        _, size = queue.pop(0)
        pace.finished(size, size, size * item_seconds)
    return sizes


@pytest.mark.parametrize("slots", [1, 2, 16])
def test_tasks_come_to_fifty_milliseconds(slots):
    pace = Pace()
    pace.slots = slots
    sizes = run(pace, 0.001, 40 * max(64, 4 * slots), slots=slots)
    first = max(GROWING_WINDOW_MIN, 2 * slots)
    assert sizes[:first] == [1] * first
    assert 49 <= pace.size <= 50


def test_a_task_never_has_many_times_the_items_measured_of_late():
    pace = Pace()
    pace.finished(1, 1, 1e-9)
    assert pace.size == GROWTH
    for _ in range(100):
        pace.finished(10, 10, 1e-9)
        assert pace.size <= GROWTH * 4 * 10
    assert pace.size > GROWTH * 10


@pytest.mark.parametrize("seconds", [1e-4, 1e-3, 0.02, 0.06, 3.0])
def test_no_task_is_expected_to_take_longer_than_fifty_milliseconds(seconds):
    pace = Pace()
    for _ in range(100):
        pace.finished(pace.size, pace.size, pace.size * seconds)
        assert pace.size == 1 or pace.size * seconds < 1.001 * TARGET_SECONDS
    assert pace.size + 1 > 0.95 * min(TARGET_SECONDS / seconds, ITEMS_MAX)


def test_sizes_grow_though_all_that_is_on_the_way_comes_back_at_once():
    pace = Pace()
    pace.slots = 2
    sizes = []
    for _ in range(4):
        size, window = pace.size, pace.window
        sizes.append(size)
        for _ in range(window):
            pace.submitted(size, size * 5)
        for _ in range(window):
            pace.finished(size, size, size * 1e-7)
    assert sizes[0] == 1
    assert sizes == sorted(sizes)
    assert sizes[-1] == ITEMS_MAX


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan")])
def test_a_time_that_is_none_is_ignored(seconds):
    pace = Pace()
    pace.finished(1, 1, 1e-6)
    before = pace.size
    pace.finished(1, 1, seconds)
    assert pace.size == before > 1


@pytest.mark.parametrize("seconds", [5e-324, 1e308, float("inf")])
def test_absurd_times_break_nothing(seconds):
    pace = Pace()
    for _ in range(10):
        pace.finished(1, 1, seconds)
        assert 1 <= pace.size <= ITEMS_MAX


def test_parts_of_a_task_count_as_the_task():
    whole, parts = Pace(), Pace()
    for pace in (whole, parts):
        pace.finished(800, 800, 0.0008)
    whole.finished(800, 800, 0.0008)
    for _ in range(800):
        parts.finished(1, 800, 1e-6)
    assert parts.size == pytest.approx(whole.size, rel=0.2)


def test_long_items_stay_alone():
    pace = Pace()
    pace.slots = 2
    assert set(run(pace, 1.0, 300)) == {1}


def test_tiny_items_come_to_the_most():
    pace = Pace()
    pace.slots = 2
    run(pace, 1e-7, 2000)
    assert pace.size == ITEMS_MAX


def test_large_items_keep_payloads_small():
    pace = Pace()
    pace.slots = 2
    run(pace, 1e-6, 1000, item_bytes=100_000)
    assert pace.size == BATCH_BYTES // 100_000


def test_a_fixed_size_is_kept():
    pace = Pace(7)
    assert set(run(pace, 1e-6, 500)) == {7}


def test_items_that_get_longer_make_tasks_smaller():
    pace = Pace()
    pace.slots = 2
    run(pace, 1e-5, 300)
    before = pace.size
    for _ in range(100):  # of a task that was sent before
        pace.finished(1, before, 1.0)
    assert pace.size < before / 50


def test_few_tasks_are_on_the_way_while_their_sizes_grow():
    pace = Pace()
    pace.slots = 2
    assert pace.window == GROWING_WINDOW_MIN
    sizes = run(pace, 1e-7, 400)
    assert sizes.index(ITEMS_MAX) < 100  # or each size would fill a large window of its own
    assert pace.window == WINDOW_MIN


def test_large_items_do_not_keep_the_window_small():
    pace = Pace()
    pace.slots = 2
    run(pace, 1e-6, 1000, item_bytes=100_000)
    assert pace.window == WINDOW_MIN


def test_the_window_grows_with_the_farm():
    pace = Pace(1)
    assert pace.window == WINDOW_MIN
    pace.slots = 1000
    assert pace.window == 4000


class TestWatch:
    def test_asks_after_five_seconds_and_not_again_for_a_minute(self, caplog):
        watch = Watch("tcp://farm-host:7070")
        assert not watch.look(0.0, 3, "", connected=True)
        assert watch.due() == 5.0
        assert not watch.look(4.9, 3, "", connected=True)
        assert watch.look(5.0, 3, "", connected=True)
        watch.answered({"hosts": 0}, 3, full=False)
        assert "no hosts connected; start one with: farm worker tcp://farm-host" in caplog.text
        assert not watch.look(64.0, 3, "", connected=True)
        assert watch.due() == 65.0
        assert watch.look(65.0, 3, "", connected=True)

    def test_says_why_there_is_no_connection(self, caplog):
        watch = Watch("tcp://farm-host:7070")
        watch.look(0.0, 3, "nothing answers", connected=False)
        assert not watch.look(5.0, 3, "nothing answers", connected=False)
        assert "nothing answers" in caplog.text

    def test_says_that_the_farm_is_full(self, caplog):
        watch = Watch("tcp://farm-host:7070")
        watch.look(0.0, 3, "", connected=True)
        assert watch.look(5.0, 3, "", connected=True)
        watch.answered({"hosts": 2}, 3, full=True)
        assert "no room" in caplog.text

    def test_is_silent_while_something_happens(self, caplog):
        watch = Watch("tcp://farm-host:7070")
        for second in range(20):
            assert not watch.look(float(second), 3, "", connected=True)
            watch.moved()
        assert not watch.look(20.0, 0, "", connected=True)
        assert watch.due() is None
        assert not caplog.text


def test_a_slow_first_call_does_not_fill_the_window_with_small_tasks():
    pace = Pace()
    pace.slots = 2
    pace.finished(1, 1, 0.0008)  # says 62 items, and there will be thousands
    assert pace.window == GROWING_WINDOW_MIN
    for _ in range(100):
        pace.finished(pace.size, pace.size, pace.size * 1e-6)
    assert pace.window == WINDOW_MIN
