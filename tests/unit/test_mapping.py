import itertools
import random
import threading
from time import monotonic

import pytest

from farm.client import mapping
from farm.client.backlog import Lane
from farm.client.mapping import MapSettings, items_of, map_results
from farm.errors import Busy, PayloadError
from farm.model import Ending
from farm.payload import dump_exception, dump_value, dump_values, load_exception
from farm.protocol.messages import Function, Result
from tests.packed import load_items

LANE = Lane(Function(b"f" * 16, "f", b""), None, 0)


class Farm:
    """The client of a map: runs what ``run`` says, in any order and in any pieces."""

    def __init__(self, function=abs, *, chance=None, room=10**9):
        self.function, self.chance, self.room = function, chance, room
        self.chunks = []
        self.sizes = []
        self.dropped = []
        self.ended = self.handed_over = 0
        self.counter = 1
        self.auto = True

    def keep(self, payload):
        return payload

    def put_chunk(self, lane, payload, chunk, *, block):
        if self.room < 1 and not block:
            return False
        self.room -= 1
        chunk.register(self.counter)
        self.counter += chunk.count
        self.sizes.append(chunk.count)
        self.chunks.append((chunk, payload))
        if self.auto and not self.chance:
            self.run()
        return True

    def slots(self):
        if self.chance and self.chunks and self.chance.random() < 0.7:
            self.run()
        return 2

    def run(self):
        """Run everything, in pieces of any size if there is chance."""
        if self.chance:
            self.chance.shuffle(self.chunks)
        while self.chunks:
            chunk, payload = self.chunks.pop()
            self.room += 1
            at = 0
            while at < chunk.count:
                count = self.chance.randint(1, chunk.count - at) if self.chance else chunk.count
                for entry in self.execute(chunk, payload, at, count):
                    chunk.settle(entry, entry.first, entry.first + entry.count)
                at += count

    def execute(self, chunk, payload, at, count):
        values = []
        for i, args in enumerate(load_items(payload, at, at + count)):
            try:
                values.append(self.function(*args))
            except ValueError as error:
                data = dump_exception(error)[0]
                first = chunk.first + at + i
                yield from self.packed(first - len(values), values)
                values = []
                yield Result(b"", first, 1, Ending.EXCEPTION, [data], len(data))
        yield from self.packed(chunk.first + at + count - len(values), values)

    def packed(self, first, values):
        if values and self.chance and self.chance.random() < 0.3:
            data = [dump_value(value) for value in values]
            yield Result(b"", first, len(values), Ending.OK, data, sum(map(len, data)))
        elif values:
            data = dump_values(values)
            yield Result(b"", first, len(values), Ending.OK, [data], len(data), packed=True)

    def hand_over(self):
        self.handed_over += 1

    def drop_chunks(self, chunks):
        self.dropped += chunks

    def busy(self, _lane):
        return Busy("full")

    def error_at(self, entry, counter):
        return load_exception(entry.payloads[counter - entry.first])


def start(farm, items, *, lane=LANE, **options):
    fields = {
        "chunksize": None,
        "buffersize": None,
        "deadline": None,
        "ordered": True,
        "block": True,
    }

    def ended():
        farm.ended += 1

    settings = MapSettings(**{**fields, **options})
    return map_results(farm, lane, items_of([items]), settings, ended)


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("ordered", [True, False])
def test_every_result_comes_once_whatever_the_pieces(seed, ordered):
    chance = random.Random(seed)
    farm = Farm(chance=chance, room=chance.choice([1, 3, 1000]))
    chunksize = chance.choice([None, 1, 7, 100])
    buffersize = chance.choice([None, None, 1, 50])
    results = start(
        farm, range(-1000, 0), chunksize=chunksize, buffersize=buffersize, ordered=ordered
    )
    got = []
    while True:
        farm.run()
        value = next(results, None)
        if value is None:
            break
        got.append(value)
    assert (got if ordered else sorted(got, reverse=True)) == list(range(1000, 0, -1))
    assert farm.ended == 1
    assert farm.dropped == []


@pytest.mark.parametrize(("seconds", "handed_over"), [(-1.0, 40), (float("inf"), 0)])
def test_what_takes_long_to_read_is_handed_over_meanwhile(monkeypatch, seconds, handed_over):
    monkeypatch.setattr(mapping, "HAND_OVER_SECONDS", seconds)
    farm = Farm()
    assert len(list(start(farm, range(-40, 0), chunksize=1))) == 40
    assert farm.handed_over == handed_over


def root(x):
    return x**0.5 if x >= 0 else int("no")


@pytest.mark.parametrize("seed", range(10))
def test_an_error_comes_in_its_place(seed):
    farm = Farm(root, chance=random.Random(seed))
    items = [*range(40), -1, *range(40)]
    results = start(farm, items, chunksize=1 + seed)
    got = []

    def take_all():
        while True:
            farm.run()
            got.append(next(results))

    with pytest.raises(ValueError, match="no"):
        take_all()
    assert got == [root(x) for x in range(40)]
    assert farm.ended == 1


def test_the_first_window_is_read_at_the_call_and_no_more():
    farm = Farm()
    farm.auto = False
    items = iter(range(10_000))
    start(farm, items)
    assert next(items) == 8
    assert farm.sizes == [1] * 8


def test_closing_drops_what_is_on_the_way():
    farm = Farm()
    farm.auto = False
    results = start(farm, range(10), chunksize=5)
    results.close()
    assert [chunk.count for chunk in farm.dropped] == [5, 5]
    assert farm.ended == 1
    chunk = farm.dropped[0]
    chunk.dropped = True
    farm.run()
    assert chunk.left == 5  # nothing was told to a map that is over


@pytest.mark.parametrize("values", [range(20), [str] * 20])  # travelling by themselves, or not
def test_nothing_comes_after_closing_though_it_has_arrived(values):
    farm = Farm(lambda x: x)
    results = start(farm, values, chunksize=10)
    got = []
    for value in results:
        farm.run()
        got.append(value)
        if len(got) == 3:
            results.close()
    assert got == list(values)[:3]
    assert next(results, None) is None
    assert farm.ended == 1


def test_closing_wakes_who_waits_for_the_next_result():
    farm = Farm()
    farm.auto = False
    results = start(farm, range(5))
    got = []
    thread = threading.Thread(target=lambda: got.append(list(results)), daemon=True)
    thread.start()
    thread.join(0.05)  # it waits
    results.close()
    thread.join(10)
    assert got == [[]]
    assert farm.ended == 1
    assert len(farm.dropped) == 5


def test_a_map_that_nobody_holds_is_cancelled():
    farm = Farm()
    farm.auto = False
    values = iter(start(farm, range(10), chunksize=5))
    assert not farm.dropped
    del values
    assert [chunk.count for chunk in farm.dropped] == [5, 5]
    assert farm.ended == 1


def test_a_slow_first_item_does_not_let_results_pile_up():
    farm = Farm()
    farm.auto = False
    results = start(farm, itertools.count(), chunksize=1)
    first = farm.chunks.pop(0)
    for _ in range(40):
        farm.run()
        results._map._gather()
        results._map._fill()
    assert len(farm.sizes) <= (mapping.HELD_WINDOWS + 1) * 64
    farm.chunks.append(first)
    farm.run()
    assert next(results) == 0


def test_items_too_large_for_one_payload_are_cut():
    farm = Farm(len)
    items = [bytes(300_000)] * 64
    assert list(start(farm, items)) == [300_000] * 64
    assert max(farm.sizes) <= 8


def test_one_item_that_cannot_travel_fails_alone():
    class No:
        def __reduce__(self):
            raise TypeError("no")

    farm = Farm(lambda x: x)
    results = start(farm, [1, 2, 3, No(), 5], chunksize=5)
    assert [next(results) for _ in range(3)] == [1, 2, 3]
    with pytest.raises(PayloadError, match="no"):
        next(results)
    assert list(results) == []


def test_items_that_cannot_travel_end_the_map_at_the_first_of_them():
    class No:
        def __reduce__(self):
            raise TypeError("no")

    farm = Farm(lambda x: x)
    results = start(farm, [1, No(), No(), 4, 5, 6, 7, 8], chunksize=8)
    assert sum(farm.sizes) == 1
    assert next(results) == 1
    with pytest.raises(PayloadError, match="no"):
        next(results)
    assert list(results) == []


def test_what_waits_for_room_comes_before_the_item_that_cannot_travel():
    class No:
        def __reduce__(self):
            raise TypeError("no")

    farm = Farm(lambda x: x, room=1)
    farm.auto = False
    results = start(farm, [1, 2, 3, 4, 5, 6, No(), 8], chunksize=4)
    farm.run()
    assert [next(results) for _ in range(4)] == [1, 2, 3, 4]
    farm.run()
    assert [next(results) for _ in range(2)] == [5, 6]
    with pytest.raises(PayloadError, match="no"):
        next(results)


def test_a_function_that_cannot_travel_fails_at_the_first_item():
    farm = Farm()
    results = start(farm, range(10), lane=PayloadError("lambda"))
    with pytest.raises(PayloadError, match="lambda"):
        next(results)
    assert farm.sizes == []
    assert list(start(farm, [], lane=PayloadError("lambda"))) == []


def test_no_room_and_no_waiting_is_busy():
    farm = Farm(room=0)
    with pytest.raises(Busy):
        start(farm, range(10), block=False)
    assert farm.ended == 1


def test_no_room_but_something_on_the_way_is_waited_for():
    farm = Farm(chance=random.Random(1), room=2)
    farm.slots = lambda: 2
    results = start(farm, range(20), chunksize=3)
    assert len(farm.chunks) == 2
    got = []
    for _ in range(20):
        farm.run()
        got.append(next(results))
    assert got == list(range(20))


def test_a_map_that_is_late_raises():
    farm = Farm()
    farm.auto = False
    results = start(farm, range(5), deadline=0.0)
    with pytest.raises(TimeoutError):
        next(results)
    assert farm.ended == 1
    assert len(farm.dropped) == 5


@pytest.mark.parametrize("seconds", [1e12, float("inf")])
def test_a_map_may_have_more_time_than_there_is(seconds):
    farm = Farm()
    farm.auto = False
    results = start(farm, range(5), deadline=monotonic() + seconds)
    threading.Timer(0.01, farm.run).start()
    assert list(results) == [0, 1, 2, 3, 4]


def test_results_settled_twice_are_told_once():
    farm = Farm()
    farm.auto = False
    results = start(farm, range(4), chunksize=4)
    [(chunk, payload)] = farm.chunks
    [entry] = farm.execute(chunk, payload, 0, 4)
    assert not chunk.settle(entry, 1, 2)
    assert chunk.settle(entry, 1, 5)
    assert list(results) == [0, 1, 2, 3]
