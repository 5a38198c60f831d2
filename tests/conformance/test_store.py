"""What every store promises, asked of each."""

import threading

import pytest

from farm.errors import ConfigError
from farm.model import Ending
from farm.protocol.records import (
    ClockRead,
    Finished,
    JobSealed,
    Memory,
    Remembered,
    Restored,
    SessionMark,
    Submitted,
    decode_memories,
    encode_memories,
)
from farm.store import Append, Delete, DropFunctions, PutFunction, open_store
from tests.unit.store_records import SESSION, record_of, submitted

LARGE = 300_000  # bytes of payload: a row that the SQLite store keeps in another file


class Place:
    """Somewhere a store lives, opened again and again as restarts would."""

    def __init__(self, address):
        self.address = address
        self.memory = open_store(address) if address == "memory:" else None
        self.opened = []

    def start(self, epoch_floor=0, wall_ms=0):
        store = self.memory or open_store(self.address)
        self.opened.append(store)
        return store, store.open(epoch_floor, wall_ms)

    def restart(self):
        self.opened[-1].close()
        return self.start()


@pytest.fixture(params=["memory", "sqlite"])
def place(request, tmp_path):
    place = Place("memory:" if request.param == "memory" else str(tmp_path / "state" / "farm.db"))
    yield place
    for store in place.opened:
        store.close()


@pytest.fixture
def store(place):
    return place.start()[0]


def refs(store):
    return [ref for ref, _ in store.records()]


def test_a_new_store_is_empty_and_has_an_epoch_and_an_id(place):
    store, opened = place.start()
    assert opened.epoch == 1
    assert opened.commit == 0
    assert len(opened.store_id) == 16
    assert list(store.records()) == []
    assert list(store.functions()) == []
    assert store.read(1) is None


def test_an_epoch_that_was_used_elsewhere_is_not_given_out(place):
    store, opened = place.start()
    store.note_epoch(opened.epoch + 1000)
    store.note_epoch(opened.epoch)  # never lowers it
    assert place.restart()[1].epoch == opened.epoch + 1001


def test_every_kind_of_record_comes_back(place):
    store, _ = place.start()
    memories = encode_memories([Memory(SESSION, 1, 5, Ending.OK, 1.0, 2.0, 3.0, "f", "host-1")])
    kept = {
        1: Remembered(3.0, 1, [(SESSION, 1, 5)], memories),
        2: ClockRead("boot", 1.5e9),
        3: Restored(77),
        4: Finished(2.0, [], [("host-1", 0.5)]),
        5: SessionMark(SESSION, SESSION, 1.0, [(1, 9)], 2, [(1, 2)], [(5, 1)]),
    }
    store.commit([Append(ref, record) for ref, record in kept.items()])
    assert dict(place.restart()[0].records()) == kept
    assert decode_memories(kept[1].memories)[0].host == "host-1"


def test_two_stores_have_different_ids(place, tmp_path):
    other = open_store(tmp_path / "other.db")
    assert other.open(0, 0).store_id != place.start()[1].store_id
    other.close()


@pytest.mark.parametrize(
    ("floor", "wall", "epoch"), [(0, 0, 8), (7, 7, 8), (8, 0, 8), (20, 9, 20), (9, 30, 30)]
)
def test_the_epoch_is_above_every_one_before_and_every_floor(place, floor, wall, epoch):
    first, opened = place.start(7, 3)
    assert opened.epoch == 7
    first.close()
    assert place.start(floor, wall)[1].epoch == epoch


def test_records_come_back_in_order_and_equal(place, store):
    records = [submitted(1, b"a", b"b"), JobSealed(SESSION, 1, 2), record_of(LARGE), record_of(9)]
    store.commit([Append(ref, record) for ref, record in zip((3, 4, 9, 10), records, strict=True)])
    assert list(store.records()) == list(zip((3, 4, 9, 10), records, strict=True))
    again, opened = place.restart()
    assert list(again.records()) == list(zip((3, 4, 9, 10), records, strict=True))
    assert opened.commit == 10


def test_many_records_come_back_whole(place, store):
    store.commit([Append(ref, record_of(ref)) for ref in range(1, 300)])
    again, _ = place.restart()
    assert list(again.records()) == [(ref, record_of(ref)) for ref in range(1, 300)]


@pytest.mark.parametrize("size", [0, 1, 4064, 4096, 131_000, 131_072, LARGE, (1 << 20) + 1])
def test_a_record_of_any_size_is_read_by_its_ref(place, store, size):
    store.commit([Append(5, record_of(size))])
    assert store.read(5) == record_of(size)
    assert store.read(6) is None
    assert place.restart()[0].read(5) == record_of(size)


def test_deleted_records_are_gone_and_unknown_refs_ignored(place, store):
    store.commit([Append(ref, record_of(LARGE + ref)) for ref in range(1, 6)])
    store.commit([Delete([2, 4, 77]), Delete([]), Delete([2])])
    assert refs(store) == [1, 3, 5]
    assert store.read(2) is None
    assert store.read(3) == record_of(LARGE + 3)
    assert refs(place.restart()[0]) == [1, 3, 5]


def test_the_commit_number_survives_pruning(place, store):
    store.commit([Append(ref, record_of(10)) for ref in range(1, 6)])
    store.commit([Delete([1, 2, 3, 4, 5])])
    store, opened = place.restart()
    assert opened.commit == 5
    store.commit([Append(8, record_of(1))])
    store.commit([Delete([8])])
    store, opened = place.restart()
    assert opened.commit == 8
    store.commit([Append(9, record_of(1)), Delete([9])])
    store, opened = place.restart()
    assert (opened.commit, refs(store)) == (9, [])


def test_records_appended_and_deleted_in_one_commit_never_were(place, store):
    store.commit(
        [Append(1, record_of(LARGE)), Append(2, record_of(7)), Append(3, record_of(8)), Delete([1])]
    )
    assert refs(store) == [2, 3]
    assert place.restart()[1].commit == 3


def test_functions_are_kept_until_dropped_and_never_replaced(place, store):
    store.commit(
        [
            PutFunction(b"a" * 16, "one", b"1" * 500_000),
            PutFunction(b"b" * 16, "two", b"2"),
            PutFunction(b"a" * 16, "again", b"3"),
        ]
    )
    expected = {(b"a" * 16, "one", b"1" * 500_000), (b"b" * 16, "two", b"2")}
    assert set(store.functions()) == expected
    store, _ = place.restart()
    assert set(store.functions()) == expected
    store.commit([DropFunctions([b"a" * 16, b"?" * 16]), PutFunction(b"c" * 16, "three", b"")])
    assert set(store.functions()) == {(b"b" * 16, "two", b"2"), (b"c" * 16, "three", b"")}


def test_a_function_put_and_dropped_in_one_commit_is_gone(store):
    store.commit([PutFunction(b"a" * 16, "one", b"1"), DropFunctions([b"a" * 16])])
    assert list(store.functions()) == []


def test_an_empty_commit_is_fine(store):
    store.commit([])
    assert list(store.records()) == []


def test_maintenance_changes_nothing_that_can_be_seen(place, store):
    store.commit([Append(ref, record_of(ref * 1000)) for ref in range(1, 400, 3)])
    store.commit([Delete(list(range(1, 400, 6)))])
    before = list(store.records())
    store.maintain()
    assert list(store.records()) == before
    assert store.short == ""
    assert list(place.restart()[0].records()) == before


def test_records_can_be_read_while_others_are_committed_and_deleted(store):
    store.commit([Append(1, record_of(LARGE))])
    problems = []
    stop = threading.Event()

    def read():
        while not stop.is_set():
            for ref in (1, 2, 3):
                found = store.read(ref)
                if found not in (record_of(LARGE + ref - 1), None) or (ref == 1 and not found):
                    problems.append((ref, found))

    thread = threading.Thread(target=read)
    thread.start()
    try:
        for _ in range(40):
            store.commit([Append(2, record_of(LARGE + 1)), Append(3, record_of(LARGE + 2))])
            store.commit([Delete([2, 3])])
            store.maintain()
    finally:
        stop.set()
        thread.join(30)
    assert problems == []


def test_closing_twice_is_fine(store):
    store.close()
    store.close()


def test_a_record_is_typed(store):
    store.commit([Append(1, submitted(1, b"a"))])
    assert isinstance(store.read(1), Submitted)


@pytest.mark.parametrize("address", ["", "postgresql://host/farm", "memory", "redis:x"])
def test_an_address_of_an_unknown_kind_is_refused(address):
    if address == "memory":
        assert open_store(address).durable  # a path like any other
        return
    with pytest.raises(ConfigError, match="memory:"):
        open_store(address)
