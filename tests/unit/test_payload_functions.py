"""A function's pickle is used again exactly as long as nothing that it takes along can differ."""

import dataclasses
import enum
import functools
import gc
import sys
import weakref
from types import FunctionType, ModuleType

import pytest

import farm
from farm import _payload_memory, payload
from farm._payload_captures import RECORDS_MAX
from farm._payload_memory import FUNCTIONS_MAX

dump = payload.dump_function


def load(function):
    return payload.load_function(dump(function).data)


def define(source, **names):
    """Functions as a script or notebook has them: of ``__main__``, in a namespace of their own."""
    namespace = {"__name__": "__main__", **names}
    exec(source, namespace)
    return namespace


def importable(x):
    return x


def test_an_importable_function_travels_as_its_name():
    first = dump(importable)
    assert dump(importable) is first
    assert len(first.data) < 250  # its name, and its file's name and hash
    assert first.name.endswith("test_payload_functions.importable")
    assert len(first.hash) == 16
    assert payload.load_function(first.data) is importable


@pytest.mark.parametrize("function", [len, int, dataclasses.replace, functools.reduce, enum.Enum])
def test_functions_of_the_standard_library_travel_as_their_names(function):
    assert dump(function) is dump(function)
    assert payload.load_function(dump(function).data) is function


def test_a_function_that_is_no_longer_found_by_its_name_travels_by_value(monkeypatch):
    function = importable
    named = dump(function)
    monkeypatch.setattr(sys.modules[__name__], "importable", len)
    assert len(dump(function).data) > len(named.data)
    assert load(function)(3) == 3


def test_an_unchanged_function_is_not_pickled_again():
    made = define("def g(x): return x * k\ndef f(x, y=2, *, z=(1, 'a')): return g(x) + y", k=3)
    first = dump(made["f"])
    assert dump(made["f"]) is first
    assert dump(made["g"]) is dump(made["g"])
    assert load(made["f"])(4) == 14


def test_a_rebound_global_is_seen():
    made = define("def f(): return k", k=1)
    assert load(made["f"])() == 1
    made["k"] = 2
    assert load(made["f"])() == 2
    del made["k"]
    made["f"].__globals__["k"] = 2.0
    assert type(load(made["f"])()) is float


def test_a_new_global_is_seen():
    made = define("def f(): return k")
    dump(made["f"])
    made["k"] = 5
    assert load(made["f"])() == 5


def test_a_global_of_a_called_function_and_of_nested_code_is_seen():
    made = define(
        "def g(): return [k for _ in 'a']\ndef f(): return [(lambda: g())() for _ in 'a']"
    )
    for k in (1, 2):
        made["k"] = k
        assert load(made["f"])() == [[k]]
    made["g"] = define("def g(): return 7")["g"]
    assert load(made["f"])() == [7]


@pytest.mark.parametrize(
    ("value", "change", "before", "after"),
    [
        ([1], lambda v: v.append(2), [1], [1, 2]),
        ({"a": [1]}, lambda v: v["a"].append(2), {"a": [1]}, {"a": [1, 2]}),
        ((1, [2]), lambda v: v[1].clear(), (1, [2]), (1, [])),
        ({1}, lambda v: v.add(2), {1}, {1, 2}),
        (bytearray(b"a"), lambda v: v.extend(b"b"), bytearray(b"a"), bytearray(b"ab")),
    ],
)
def test_a_change_inside_what_is_captured_is_seen(value, change, before, after):
    made = define("def f(): return k", k=value)

    def closure():
        return value

    def default(value=value):
        return value

    def keyword(*, value=value):
        return value

    def attribute():
        return None

    attribute.value = value
    functions = [made["f"], closure, default, keyword, functools.partial(closure)]
    for function in functions:
        assert dump(function) is dump(function)
        assert load(function)() == before
    assert load(attribute).value == before
    change(value)
    for function in functions:
        assert load(function)() == after
    assert load(attribute).value == after


def test_a_rebound_cell_default_keyword_attribute_and_code_are_seen():
    cell = 1

    def f(a=1, *, b=1):
        return cell, a, b, f.c

    f.c = 1
    assert load(f)() == (1, 1, 1, 1)
    cell = 2
    assert load(f)() == (2, 1, 1, 1)
    f.__defaults__ = (2,)
    assert load(f)() == (2, 2, 1, 1)
    f.__kwdefaults__["b"] = 2
    assert load(f)() == (2, 2, 2, 1)
    f.c = 2
    assert load(f)() == (2, 2, 2, 2)
    f.__code__ = (lambda a, *, b: (cell, f, 0)).__code__
    assert load(f)()[2] == 0


def test_a_large_captured_object_is_pickled_each_time_with_the_same_result():
    made = define("def f(): return sum(k)", k=list(range(50_000)))
    assert dump(made["f"]) is dump(made["f"])
    made["k"][0] = 1
    assert load(made["f"])() == sum(range(50_000)) + 1


SCRIPT = """
import dataclasses, enum
@dataclasses.dataclass
class Point:
    x: int = 1
    limits = [1, 2]
    def norm(self): return self.x * scale
    @property
    def double(self): return 2 * self.x * scale
    @staticmethod
    def one(): return scale
class Colour(enum.Enum):
    RED = 1
    def tint(self): return scale
def f():
    return Point(3).norm(), Point(3).double, Point.one(), Colour.RED.tint(), Point.limits[-1]
"""


def test_a_class_that_travels_by_value_is_looked_into():
    made = define(SCRIPT, scale=1)
    function = made["f"]
    assert dump(function) is dump(function)
    known = dump(function)
    for change in [
        lambda: made.update(scale=10),
        lambda: made["Point"].limits.append(5),
        lambda: setattr(made["Point"], "one", staticmethod(lambda: 4)),
        lambda: setattr(made["Point"], "added", 4),
    ]:
        change()
        assert dump(function).hash != known.hash
        known = dump(function)
        assert dump(function) is known


def test_a_new_module_may_be_a_submodule_that_the_function_uses(monkeypatch):
    made = define("def f(): return 1")
    first = dump(made["f"])
    monkeypatch.setitem(sys.modules, "brand_new", ModuleType("brand_new"))
    assert dump(made["f"]) is first  # pickled again, to the same bytes


def test_a_function_that_calls_itself_and_its_caller_is_fine():
    made = define("def f(n): return n and g(n - 1)\ndef g(n): return n and f(n - 1)")
    assert dump(made["f"]) is dump(made["f"])
    assert load(made["f"])(4) == 0


def test_many_captured_functions_are_fine():
    count = RECORDS_MAX + 10
    source = "".join(f"def f{i}(): return f{i + 1}()\n" for i in range(count))
    made = define(source + f"def f{count}(): return k", k=1)
    assert load(made["f0"])() == 1
    made["k"] = 2
    assert load(made["f0"])() == 2


def test_bound_methods_and_callable_objects_are_pickled_each_time():
    class Counter:
        def __init__(self):
            self.count = 0

        def __call__(self):
            return self.count

        @classmethod
        def make(cls):
            return cls()

    counter = Counter()
    for expected in (0, 1):
        assert load(counter)() == load(counter.__call__)() == expected
        counter.count += 1
    assert type(load(Counter.make)()) is Counter
    assert dump(counter).name.endswith("Counter")


def test_a_partial_of_an_importable_function_is_named_after_it():
    assert dump(functools.partial(importable, 1)).name.endswith(".importable")
    assert load(functools.partial(importable, x=4))() == 4


def test_nothing_is_kept_alive():
    class Thing:
        @property
        def me(self):
            return Thing

    def make():
        state = [Thing()]

        def recursive(n):
            return n and helper(n), state, Thing

        def helper(n):
            return recursive(n - 1)

        return recursive, helper

    function, helper = make()
    dump(function)
    assert dump(functools.partial(function, 2)) is not None
    gone = [weakref.ref(function), weakref.ref(helper)]
    del function, helper
    gc.collect()
    assert [of() for of in gone] == [None, None]


def test_the_memory_is_bounded_and_keeps_the_most_recent(monkeypatch):
    memory = payload._functions
    bound = 128
    assert bound < FUNCTIONS_MAX
    monkeypatch.setattr(_payload_memory, "FUNCTIONS_MAX", bound)
    codes = [compile(f"{i}", "f", "eval") for i in range(bound + 50)]
    kept = [FunctionType(code, {"__name__": "__main__"}) for code in codes]
    first = dump(kept[0])
    for function in kept[1:]:
        dump(function)
        assert dump(kept[0]) is first
    assert len(memory) <= bound
    kept.clear()
    del function
    gc.collect()
    assert len(memory) < bound // 2


def test_a_function_that_uses_the_farm_package_travels():
    work = define("def work():\n    return farm.__version__\n", farm=farm)["work"]
    assert load(work)() == farm.__version__
