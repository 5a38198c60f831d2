import pytest

from farm.client.pacing import GROWING_WINDOW_MIN, ITEMS_MAX, WINDOW_MIN, Pace
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
            pace.submitted(size, size * item_bytes, max(0.0, *free))
            worker = min(range(slots), key=free.__getitem__)
            free[worker] += size * item_seconds + 1e-4  # what a task costs besides
            queue.append((free[worker], size))
        queue.sort()
        ended, size = queue.pop(0)
        pace.finished(size, size, ended)
    return sizes


@pytest.mark.parametrize("slots", [1, 2, 16])
def test_tasks_come_to_fifty_milliseconds(slots):
    pace = Pace()
    pace.slots = slots
    sizes = run(pace, 0.001, 40 * max(64, 4 * slots), slots=slots)
    first = max(GROWING_WINDOW_MIN, 2 * slots)
    assert sizes[:first] == [1] * first
    assert all(b <= 8 * max(sizes[: i + 1]) for i, b in enumerate(sizes[1:]))
    assert 20 <= pace.size <= 100


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
    run(pace, 1e-5, 3000)
    before = pace.size
    pace.finished(1, 1, 1e6)
    assert pace.size < before


def test_few_tasks_are_on_the_way_while_their_sizes_grow():
    pace = Pace()
    pace.slots = 2
    assert pace.window == GROWING_WINDOW_MIN
    sizes = run(pace, 1e-7, 400)
    assert sizes.index(ITEMS_MAX) < 200  # or each size would fill a large window of its own
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
