import threading
from time import monotonic

import pytest

from farm.client import backlog
from farm.client.backlog import Backlog, Lane
from farm.errors import Busy
from farm.protocol.messages import Function, TaskKey

LANE = Lane(Function(b"f" * 16, "f", b""), None, 0)
OTHER = Lane(Function(b"g" * 16, "g", b""), None, 0)


def counters(entries):
    return [(e.first, e.stop, e.lane) for e in entries if e.lane]


def put(box, lane=LANE, payload=b"x", *, block=True):
    return box.put(lane, payload, int, block=block)


def test_tasks_of_one_lane_become_one_entry():
    box = Backlog(lambda: None)
    assert [put(box), put(box), put(box, OTHER), put(box)] == [1, 2, 3, 4]
    assert counters(box.take()) == [(1, 3, LANE), (3, 4, OTHER), (4, 5, LANE)]
    assert put(box) == 5
    assert box.take()[0].payloads == [b"x"]
    assert box.take() == []


def test_a_task_with_a_key_is_an_entry_of_its_own():
    box = Backlog(lambda: None)
    keys = [TaskKey("a", unique=True), None, TaskKey("b", unique=True)]
    assert [box.put(LANE, b"x", int, key, block=True) for key in keys] == [1, 2, 3]
    assert [(e.first, e.key) for e in box.take()] == [(1, keys[0]), (2, None), (3, keys[2])]


def test_packed_tasks_take_a_counter_for_each_item():
    box = Backlog(lambda: None)
    firsts = []
    assert box.put_packed(LANE, b"many", 10, firsts.append, block=False)
    assert box.skip() == 11
    assert put(box) == 12
    assert firsts == [1]
    assert counters(box.take()) == [(1, 11, LANE), (12, 13, LANE)]


def test_several_tasks_are_put_all_or_none():
    box = Backlog(lambda: None)
    put(box)
    assert box.put_all(LANE, [b"a", b"b"], int) == [2, 3]
    box.left(backlog.TASKS_MAX - 4, 0)
    with pytest.raises(Busy):
        box.put_all(LANE, [b"c", b"d"], int)
    assert box.put_all(LANE, [b"c"], int) == [4]
    assert box.lacks_room("default")
    assert counters(box.take()) == [(1, 2, LANE), (2, 4, LANE), (4, 5, LANE)]


def test_what_may_not_wait_hears_of_every_lack_of_room():
    box = Backlog(lambda: None)
    box.note_full({"mail": (monotonic() + 30.0, "mail is full")})
    assert (box.lacks_room("mail"), box.lacks_room("default")) == (True, False)
    assert box.busy("mail").retry_after == pytest.approx(30.0, abs=10.0)
    assert str(box.busy("mail")).startswith("mail is full")
    box.starved = True
    assert box.lacks_room("default")
    with pytest.raises(Busy):
        box.put_all(LANE, [b"x"], int)


def test_commands_keep_their_place():
    box = Backlog(lambda: None)
    said = []
    put(box)
    box.before(lambda now: said.append(("before", now)))
    put(box)
    box.after(lambda now: said.append(("after", now)))
    put(box)
    entries = box.take()
    assert [e.stop for e in entries if e.lane] == [2, 4]
    assert entries[-1].command
    for entry in entries:
        if entry.command:
            entry.command(5.0)
    assert said == [("before", 5.0), ("after", 5.0)]


def test_a_command_that_submits_a_task_has_its_counter():
    box = Backlog(lambda: None)
    put(box)
    assert box.before(lambda _now: None, int) == 2
    assert put(box) == 3
    assert [(e.first, e.stop, e.command is not None) for e in box.take()] == [
        (1, 2, False),
        (2, 3, True),
        (3, 4, False),
    ]


def test_handing_over_waits_until_it_is_taken(monkeypatch):
    monkeypatch.setattr(backlog, "HAND_OVER_SECONDS", 60.0)
    woken = threading.Event()
    box = Backlog(woken.set)
    box.hand_over()  # there is nothing to wait for
    box.sleeping = True

    def take():
        woken.wait()
        taken.extend(box.take())

    taken = []
    thread = threading.Thread(target=take)
    thread.start()
    put(box)
    box.hand_over()
    assert not box.has_entries
    thread.join()
    assert len(taken) == 1


def test_handing_over_does_not_wait_long_for_a_thread_that_is_busy(monkeypatch):
    monkeypatch.setattr(backlog, "HAND_OVER_SECONDS", 0.0)
    box = Backlog(lambda: None)
    put(box)
    box.hand_over()
    assert box.has_entries


def test_a_sleeper_is_woken_once():
    wakes = []
    box = Backlog(lambda: wakes.append(1))
    put(box)
    box.sleeping = True
    put(box)
    put(box)
    assert len(wakes) == 1
    box.sleeping = True
    box.after(print)
    assert len(wakes) == 2
    assert box.has_entries


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(backlog, "TASKS_MAX", 10)
    monkeypatch.setattr(backlog, "BYTES_MAX", 1000)
    waits = threading.Event()

    def may_block():
        waits.set()
        return True

    box = Backlog(lambda: None, may_block)
    box.waits = waits
    return box


def test_a_full_backlog_is_busy_until_half_of_it_is_gone(small):
    for _ in range(10):
        put(small)
    small.take()
    small.left(10, 10)
    for left in (9, 5):
        with pytest.raises(Busy):
            put(small, block=False)
        small.left(left, left)
    small.left(4, 4)
    assert put(small, block=False) == 11
    assert small.put_packed(LANE, b"x" * 2000, 3, int, block=False)
    assert not small.put_packed(LANE, b"x", 3, int, block=False)


def test_bytes_are_bounded_too(small):
    put(small, payload=bytes(2000))
    with pytest.raises(Busy):
        put(small, block=False)


def test_who_waits_goes_on_when_there_is_room(small):
    for _ in range(10):
        put(small)
    got = []
    thread = threading.Thread(target=lambda: got.append(put(small)))
    thread.start()
    assert small.waits.wait(10)
    small.take()
    small.left(0, 0)
    thread.join(10)
    assert got == [11]
    assert small.full_since is None


def test_who_waits_is_told_of_the_end(small):
    for _ in range(10):
        put(small)
    errors = []

    def wait():
        try:
            put(small)
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    assert small.waits.wait(10)
    small.close(lambda: RuntimeError("over"))
    thread.join(10)
    assert len(errors) == 1
    assert not small.after(print)
    with pytest.raises(RuntimeError):
        small.before(print)


def test_a_starved_farm_is_busy_only_for_those_who_do_not_wait(small):
    small.starved = True
    small.retry_at = monotonic() + 70.0
    assert put(small) == 1
    with pytest.raises(Busy) as busy:
        put(small, block=False)
    assert busy.value.retry_after == pytest.approx(70.0, abs=10.0)
    small.retry_at = monotonic() - 70.0  # that time is over, and there is no room: it was wrong
    with pytest.raises(Busy) as busy:
        put(small, block=False)
    assert busy.value.retry_after == 1.0
    small.retry_at = monotonic() + 7000.0
    with pytest.raises(Busy) as busy:
        put(small, block=False)
    assert busy.value.retry_after == 120.0


def test_maps_go_on_after_the_client_is_shut(small):
    small.shut = lambda: RuntimeError("shut")
    with pytest.raises(RuntimeError):
        put(small)
    assert small.put_packed(LANE, b"x", 2, int, block=False)


def test_threads_get_different_counters():
    box = Backlog(lambda: None)
    got = [[] for _ in range(4)]

    def many(mine, lane):
        for _ in range(2000):
            mine.append(put(box, lane))

    threads = [
        threading.Thread(target=many, args=(mine, LANE if i % 2 else OTHER))
        for i, mine in enumerate(got)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(c for mine in got for c in mine) == list(range(1, 8001))
    entries = box.take()
    assert [e.first for e in entries[1:]] == [e.stop for e in entries[:-1]]


def test_who_does_not_block_is_told_when_there_is_room(monkeypatch):
    monkeypatch.setattr(backlog, "TASKS_MAX", 4)
    box = Backlog(lambda: None)
    told = []

    def put_or_wait(notify=lambda: told.append(1)):
        return box.put_or_wait(LANE, b"x", int, notify)

    assert [put_or_wait() for _ in range(4)] == [1, 2, 3, 4]
    assert put_or_wait() is None
    assert put_or_wait() is None
    assert box.full_since
    box.take()
    box.left(3, 3)
    assert not told
    box.left(1, 1)
    assert told == [1, 1]
    assert not box.full_since
    assert put_or_wait() == 5
    box.left(0, 0)
    assert told == [1, 1]
    for _ in range(3):
        put_or_wait()
    assert put_or_wait() is None
    box.close(lambda: RuntimeError("over"))
    assert told == [1, 1, 1]
    with pytest.raises(RuntimeError, match="over"):
        put_or_wait()


def test_who_may_not_wait_is_not_let_wait_in_a_coroutine_either(monkeypatch):
    monkeypatch.setattr(backlog, "TASKS_MAX", 1)
    box = Backlog(lambda: None, lambda: False)
    box.put_or_wait(LANE, b"x", int, print)
    with pytest.raises(Busy):
        box.put_or_wait(LANE, b"x", int, print)
