"""Values, calls and packed items as bytes, and what is said of those that cannot be."""

import dataclasses
import functools
import gc
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from types import ModuleType

import cloudpickle
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm import payload
from farm.errors import PayloadError
from farm.protocol import messages
from tests.packed import load_items, load_values

ROOT = Path(__file__).resolve().parents[2]

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.binary()
)
data = st.recursive(
    scalars,
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


class Holder:
    def __init__(self, **attributes):
        self.__dict__.update(attributes)


class Unloadable:
    def __setstate__(self, state):
        raise ModuleNotFoundError("No module named 'elsewhere'", name="elsewhere")

    def __getstate__(self):
        return {"a": 1}


class Rude:
    def __reduce__(self):
        raise RuntimeError("I will not")


class Slotted:
    __slots__ = ("inside",)


@given(st.lists(data).map(tuple), st.dictionaries(st.text(), data))
def test_a_call_comes_back(args, kwargs):
    assert payload.load_call(payload.dump_call(args, kwargs)) == (args, kwargs)


def test_a_call_with_one_tuple_or_list_is_not_mistaken():
    for args in [((),), ([],), (((1,), {}),), ([(1,), {}],)]:
        assert payload.load_call(payload.dump_call(args, {})) == (args, {})


def test_a_call_without_arguments_costs_nothing():
    assert payload.dump_call((), {}) is payload.dump_call((), {})
    assert payload.dump_value(None) is payload.dump_value(None)


@given(data)
def test_a_value_comes_back(value):
    assert payload.load_value(payload.dump_value(value)) == value


@given(st.lists(data))
def test_values_come_back(values):
    assert load_values(payload.dump_values(values)) == values


@given(st.lists(st.tuples(data)), st.integers(0, 5), st.none() | st.integers(0, 5))
def test_items_come_back_whole_and_as_slices(items, start, stop):
    dumped = payload.dump_items(items)
    assert load_items(dumped) == items
    assert load_items(dumped, start, stop) == items[start:stop]


@given(st.lists(data, min_size=1), st.integers(0, 5), st.none() | st.integers(0, 5))
def test_bare_items_come_back_as_tuples_of_one(arguments, start, stop):
    dumped = payload.dump_items(arguments, bare=True)
    assert load_items(dumped, start, stop) == [(a,) for a in arguments][start:stop]
    items, bare = payload.open_items(dumped, start, stop)
    assert (items if bare else [a for (a,) in items]) == arguments[start:stop]


def test_a_bare_item_that_cannot_travel_is_named_like_any_other():
    with pytest.raises(PayloadError, match="item 1, argument 1"):
        payload.dump_items([[1], threading.Lock()], bare=True)


def test_an_array_comes_back():
    array = np.arange(12.0).reshape(3, 4)
    assert (payload.load_value(payload.dump_value(array)) == array).all()


def test_bare_items_never_share_what_can_be_changed():
    shared = [1]
    (first,), (second,) = load_items(payload.dump_items([shared, shared], bare=True))
    assert first == second
    assert first is not second


def test_items_never_share_what_can_be_changed():
    shared = [1]
    first, second = load_items(payload.dump_items([(shared,), (shared,)]))
    assert first[0] == second[0]
    assert first[0] is not second[0]
    one, other = load_values(payload.dump_values([(shared,), (shared,)]))
    assert one[0] is not other[0]


def test_a_value_of_its_own_type_is_kept_in_a_pack():
    values = [True, 1, 1.0, "1", b"1", None, (1, "a")]
    back = load_values(payload.dump_values(values))
    assert list(map(type, back)) == list(map(type, values))


def test_opening_values_runs_no_code_of_users():
    values, load = payload.open_values(payload.dump_values([Unloadable(), [2]]))
    assert load(values[1]) == [2]
    with pytest.raises(PayloadError, match="the result cannot be unpickled here"):
        load(values[0])


def test_classes_that_travel_by_value_are_sent_once_in_a_pack():
    @dataclasses.dataclass
    class Point:
        x: int
        label: str = "a" * 100

    points = [Point(i) for i in range(100)]
    dumped = payload.dump_values(points)
    assert len(dumped) < len(payload.dump_value(points[0])) * 10
    back = load_values(dumped)
    assert back == points
    assert type(back[0]) is Point
    assert load_items(payload.dump_items([(p,) for p in points]), 7, 8) == [(points[7],)]


# ---------------------------------------------------------------- what cannot travel


@pytest.mark.parametrize(
    ("args", "kwargs", "path"),
    [
        ((1, {"config": Holder(lock=threading.Lock())}), {}, "argument 2['config'].lock: "),
        ((), {"deep": [1, (2, [threading.Lock()])]}, "argument 'deep'[1][1][0]: "),
        ((functools.partial(print, threading.Lock()),), {}, "argument 1.args[0]: "),
        ((Holder(lock=threading.Lock()).__init__,), {}, "argument 1.__self__.lock: "),
        (({1: {"a", 2}, (3, 4): threading.Lock()},), {}, "argument 1[(3, 4)]: "),
        (({Rude()},), {}, "argument 1 member "),
        (({Rude(): 1},), {}, "argument 1 key "),
        (([*range(5_000), Rude(), *range(5_000)],), {}, "argument 1[5000]: I will not"),
    ],
)
def test_the_smallest_part_that_cannot_be_pickled_is_named(args, kwargs, path):
    with pytest.raises(PayloadError) as caught:
        payload.dump_call(args, kwargs)
    assert str(caught.value).startswith(path)
    assert "inside the task" in str(caught.value)


def test_slots_are_looked_into():
    value = Slotted()
    value.inside = [threading.Lock()]
    with pytest.raises(PayloadError, match=r"the result\.inside\[0\]: cannot pickle"):
        payload.dump_value(value)


def test_what_a_local_function_captures_is_named():
    lock = threading.Lock()
    with pytest.raises(PayloadError, match=r"argument 1 → variable 'lock': cannot pickle"):
        payload.dump_call((lambda: lock,), {})
    with pytest.raises(PayloadError, match=r"function .*<lambda> → default .*: cannot pickle"):
        payload.dump_function(lambda x=lock: x)


def test_the_item_that_cannot_be_pickled_is_named():
    with pytest.raises(PayloadError, match=r"item 1, argument 2\[0\]: I will not"):
        payload.dump_items([(1, [2]), (1, [Rude()])])
    with pytest.raises(PayloadError, match="the result: I will not"):
        payload.dump_values([[1], Rude()])


def test_an_endless_structure_is_refused():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(PayloadError, match="argument 1"):
        payload.dump_call((deep,), {})
    while deep:  # taken apart by hand: old Pythons run out of stack freeing it
        deep = deep.pop()


def test_a_cycle_is_no_problem():
    cycle: list = [1]
    cycle.append(cycle)
    (back,), _ = payload.load_call(payload.dump_call((cycle,), {}))
    assert back[1] is back


def test_the_error_says_where_in_users_code_it_arose_and_keeps_no_arguments():
    value = Holder(rude=Rude())
    gone = weakref.ref(value)
    with pytest.raises(PayloadError) as caught:
        payload.dump_call((value,), {})
    error = caught.value.with_traceback(None)
    del caught, value
    gc.collect()
    assert gone() is None
    assert isinstance(error.__cause__, RuntimeError)
    assert "in __reduce__" in error.__notes__[0]


def test_a_missing_module_is_named():
    with pytest.raises(PayloadError, match="install 'elsewhere' here") as caught:
        payload.load_value(payload.dump_value(Unloadable()))
    assert caught.value.__cause__.name == "elsewhere"


@pytest.mark.parametrize(
    "load",
    [
        payload.load_call,
        load_items,
        payload.load_value,
        load_values,
        payload.load_function,
    ],
)
@pytest.mark.parametrize("garbage", [b"", b"garbage", b"\x80\x05K"])
def test_garbage_is_a_payload_error(load, garbage):
    with pytest.raises(PayloadError, match="cannot be unpickled here"):
        load(garbage)


def test_what_is_not_callable_is_no_function():
    with pytest.raises(PayloadError, match="is no function but int"):
        payload.load_function(payload.dump_value(3))


def test_a_large_payload_is_refused_by_name():
    assert payload.PAYLOAD_BYTES_MAX == messages.PAYLOAD_BYTES_MAX
    payload.check_size(payload.PAYLOAD_BYTES_MAX, "the arguments of f")
    with pytest.raises(PayloadError, match=r"the arguments of f is 100\.0 MiB .* at most 64 MiB"):
        payload.check_size(100 << 20, "the arguments of f")


# ---------------------------------------------------------------- by value, in another process

READER = """
import sys
from farm import payload
function = payload.load_function(bytes.fromhex(sys.argv[1]))
args, kwargs = payload.load_call(bytes.fromhex(sys.argv[2]))
print(payload.dump_value(function(*args, **kwargs)).hex())
"""

SCRIPT = """
import dataclasses, enum, functools, os.path, subprocess, sys
from farm import payload

@dataclasses.dataclass
class Point:
    x: int

class Colour(enum.Enum):
    RED = 1

@functools.lru_cache(maxsize=7)
def cached(x):
    return x + 1

scale = 10
def helper(x):
    return cached(x) * scale

def work(point, colour=Colour.RED):
    assert os.path.basename("a/b") == "b"
    return Point(helper(point.x)), colour, functools.partial(lambda a: a, 5)

class Service:
    def method(self, x):
        return x, self

def there(function, *args):
    call = [payload.dump_function(function).data.hex(), payload.dump_call(args, {}).hex()]
    done = subprocess.run([sys.executable, "-c", sys.argv[1], *call], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return payload.load_value(bytes.fromhex(done.stdout.decode()))

point, colour, part = there(work, Point(4))
assert point == Point(50) and colour is Colour.RED and part() == 5, (point, colour)
assert there(cached, 2) == 3
number, service = there(Service().method, 6)
assert number == 6 and type(service) is Service
assert there(Point, 3) == Point(3)
assert there(functools.partial(helper, 1)) == 20
print("fine")
"""


def test_what_a_script_defines_works_in_another_process(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, script, READER],
        env={"PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("fine\n", "")


def run_elsewhere(function, *args):
    call = [payload.dump_function(function).data.hex(), payload.dump_call(args, {}).hex()]
    done = subprocess.run(
        [sys.executable, "-c", READER, *call],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    return payload.load_value(bytes.fromhex(done.stdout))


def test_a_module_made_by_hand_travels_by_value(monkeypatch):
    module = ModuleType("made_by_hand")
    monkeypatch.setitem(sys.modules, "made_by_hand", module)
    code = (
        "base = 1\nclass Thing:\n pass\ndef f(x):\n return x + base\ndef g(t):\n return type(t)()"
    )
    exec(code, module.__dict__)
    try:
        assert run_elsewhere(module.f, 2) == 3
        assert type(run_elsewhere(module.g, module.Thing())) is module.Thing
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def test_a_module_registered_by_the_user_travels_by_value(monkeypatch, tmp_path):
    (tmp_path / "only_here.py").write_text("class A:\n    pass\ndef f(x):\n    return [A(), x]\n")
    monkeypatch.syspath_prepend(tmp_path)
    import only_here  # type: ignore[import-not-found]

    assert b"only_here" in payload.dump_function(only_here.f).data
    assert len(payload.dump_function(only_here.f).data) < 250  # its name and its file's hash
    cloudpickle.register_pickle_by_value(only_here)
    try:
        thing, x = run_elsewhere(only_here.f, only_here.A())
        assert type(thing) is type(x) is only_here.A
    finally:
        cloudpickle.unregister_pickle_by_value(only_here)
        del sys.modules["only_here"]


@pytest.mark.parametrize(
    "items", [[(1,), (2,)], [(1, "a"), (2, "b"), (3, "c")], [(), ()], [(None,)]]
)
def test_items_of_plain_values_come_back_as_they_were(items):
    data = payload.dump_items(items)
    assert load_items(data) == items
    assert load_items(data, 1, 2) == items[1:2]
