from hypothesis import given
from hypothesis import strategies as st

from farm.client.session_shelf import Shelf, join, part, part_of_result
from farm.model import Ending
from farm.protocol.messages import Result
from tests.unit.session_helpers import group, packed

OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["add", "packed", "take"]), st.integers(0, 60), st.integers(1, 12)),
    max_size=60,
)


@given(OPERATIONS, st.booleans())
def test_a_shelf_is_a_set_of_tasks(operations, joined):
    shelf, model = Shelf(), {}
    for what, first, count in operations:
        span = range(first, first + count)
        if what == "take":
            taken = {}
            for one in shelf.take(first, first + count):
                for i in range(one.count):
                    taken[one.first + i] = _task(one, i)
            assert taken == {i: model.pop(i) for i in span if i in model}
            assert list(taken) == sorted(taken)
        elif not any(i in model for i in span):
            new = packed(first, count) if what == "packed" else group(first, count)
            model |= {first + i: _task(new, i) for i in range(count)}
            shelf.add(new, joined=joined)
        assert len(shelf) == len(model)
        held = {g.first + i: _task(g, i) for g in shelf for i in range(g.count)}
        assert held == model
        assert list(held) == sorted(held)
        assert [i for i in range(75) if i in shelf] == sorted(model)
        assert shelf.size == sum(g.size for g in shelf)
        head = shelf.head()
        assert (head.first if head else None) == min(model, default=None)
    assert len(shelf.take_all()) <= len(model)
    assert not shelf
    assert shelf.size == 0


def _task(one, index):
    return one.start + index if one.packed else one.payloads[index]


def test_taking_from_the_front_of_a_long_shelf_sweeps():
    shelf = Shelf()
    for i in range(5000):
        shelf.add(group(2 * i))
    for i in range(5000):
        assert shelf.head().first == 2 * i
        [_] = shelf.take(2 * i, 2 * i + 1)
    assert len(shelf._groups) < 100


def test_a_part_of_a_packed_group_names_its_own_items():
    one = part(packed(10, 100, start=5), 20, 30)
    assert (one.first, one.count, one.start, one.payloads, one.size) == (20, 10, 15, [b"many"], 4)


def test_only_likes_are_joined():
    assert not join(group(1), group(3))
    assert not join(group(1), group(2, job=1))
    assert not join(group(1), group(2, function=b"g" * 16))
    assert not join(packed(1, 2), group(3))
    assert not join(group(1, 300), group(301, 300))
    one = group(1)
    assert join(one, group(2))
    assert one == group(1, 2)


def test_a_taken_group_leaves_no_trace_inside_a_later_one():
    shelf = Shelf()
    shelf.add(group(14))
    shelf.take(14, 15)
    shelf.add(group(30))
    shelf.add(group(10, 10))
    assert shelf.take(15, 16) == [group(15)]


def test_a_part_of_a_result_has_its_share_of_the_time():
    whole = Result(b"s" * 16, 5, 4, Ending.OK, [b"a", b"bb", b"ccc", b"d"], 7, seconds=2.0)
    part = part_of_result(whole, 6, 8)
    assert part == Result(b"s" * 16, 6, 2, Ending.OK, [b"bb", b"ccc"], 5, seconds=1.0)
