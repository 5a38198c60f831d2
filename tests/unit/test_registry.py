"""Registered functions: their names, their signatures, and what travels."""

import sys
from dataclasses import dataclass
from datetime import date
from typing import Any

import msgspec
import pytest

import farm
from farm import registry
from farm.errors import ArgumentError, ConfigError, PayloadError, UnknownFunction
from farm.json_payload import HEAD_BYTES, Json, json_span, json_text, to_json
from farm.named import NamedCall, Signature, call_text
from farm.payload import dump_function, load_function, load_value
from farm.registry import find, import_modules, registered


@pytest.fixture(autouse=True)
def functions(monkeypatch):
    """No function is registered; what a test registers is gone after it."""
    known = {}
    monkeypatch.setattr(registry, "_functions", known)
    return known


def make(path: str, width: int = 100, *, when: date | None = None):
    """Make a thumbnail.

    In more words.
    """
    return {"path": path, "width": width, "year": when and when.year}


# ---------------------------------------------------------------- names


def test_a_registered_function_stays_what_it_is_and_is_found_by_its_name():
    assert farm.task(name="thumbnails.make")(make) is make
    found = find("thumbnails.make")
    assert (found.name, found.function, found.summary) == (
        "thumbnails.make",
        make,
        "Make a thumbnail.",
    )


def test_without_a_name_it_is_called_as_in_python():
    farm.task(make)
    farm.task()(sorted_text)
    assert [one.name for one in registered()] == [f"{__name__}.make", f"{__name__}.sorted_text"]


def sorted_text(text):
    return "".join(sorted(text))


def test_the_modules_that_have_the_names_of_functions_can_still_be_imported():
    from farm.local import LocalFarm
    from farm.task import current_task

    assert (LocalFarm.__module__, current_task.__module__) == ("farm.local", "farm.task")
    assert farm.task is registry.task


def test_an_unknown_name_is_told_with_the_nearest():
    farm.task(name="thumbnails.make")(make)
    with pytest.raises(UnknownFunction, match=r"'thumbnail.make'; did you mean 'thumbnails.make'"):
        find("thumbnail.make")
    with pytest.raises(LookupError, match=r"there are thumbnails\.make"):
        find("xyz")


def test_where_nothing_is_registered_the_way_to_do_so_is_told():
    with pytest.raises(UnknownFunction, match=r"none is registered: name the modules .* --import"):
        find("make")


def test_a_name_is_given_once_but_a_module_may_be_imported_anew():
    farm.task(name="make")(make)
    farm.task(name="make")(make)
    with pytest.raises(ConfigError, match=r"two tasks 'make': .*\.make and .*\.sorted_text"):
        farm.task(name="make")(sorted_text)


@pytest.mark.parametrize("name", ["", "1st", "a b", "a/b", "x" * 201, 7])
def test_a_name_is_plain(name):
    with pytest.raises(ConfigError, match="cannot be the name of a task"):
        farm.task(name=name)(make)


async def coroutine():
    pass


@pytest.mark.parametrize(("thing", "says"), [(coroutine, "coroutine"), (7, "is for functions")])
def test_what_cannot_run_is_not_registered(thing, says):
    with pytest.raises(ConfigError, match=says):
        farm.task(name="it")(thing)


def test_a_module_that_cannot_be_imported_is_told_with_its_error(tmp_path, monkeypatch):
    (tmp_path / "breaks_at_import.py").write_text("raise RuntimeError('no licence')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"'breaks_at_import' cannot .* RuntimeError: no licence"):
        import_modules(["breaks_at_import"])
    with pytest.raises(ConfigError, match="No module named 'no_such_module'"):
        import_modules(["no_such_module"])
    (tmp_path / "ends_at_import.py").write_text("raise SystemExit('usage: ends FILE')")
    with pytest.raises(ConfigError, match=r"'ends_at_import' cannot .* SystemExit: usage: ends"):
        import_modules(["ends_at_import"])


def test_modules_register_what_they_have(tmp_path, monkeypatch):
    text = "import farm\n@farm.task(name='double')\ndef double(x): return 2 * x\n"
    (tmp_path / "registers_double.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    import_modules(["registers_double"])
    assert find("double").function(4) == 8
    del sys.modules["registers_double"]


# ---------------------------------------------------------------- arguments


def test_arguments_become_what_the_annotations_say():
    args, kwargs = Signature(make).convert(["a.png"], {"when": "2026-01-31", "width": 7})
    assert (args, kwargs) == (["a.png"], {"when": date(2026, 1, 31), "width": 7})


@dataclass
class Point:
    x: float
    y: float


def many(first: int, /, *points: Point, **more: list[int]):
    return first, points, more


def test_the_rest_has_its_annotation_too():
    args, kwargs = Signature(many).convert([1, {"x": 1, "y": 2}], {"sizes": [1, 2]})
    assert (args, kwargs) == ([1, Point(1.0, 2.0)], {"sizes": [1, 2]})


WRONG = [
    (make, [], {}, "kwargs.path", "this argument is missing"),
    (make, ["a", 1, 2], {}, "args", "there are 3 arguments, and the function takes 2 by position"),
    (make, ["a"], {"widht": 1}, "kwargs.widht", "no such argument; did you mean 'width'?"),
    (make, ["a"], {"zzz": 1}, "kwargs.zzz", "no such argument; there are path, width, when"),
    (make, ["a"], {"path": "b"}, "kwargs.path", "given by position, too"),
    (make, ["a"], {"width": "7"}, "kwargs.width", "expected `int`, got `str`"),
    (make, [7], {}, "args[0]", "expected `str`, got `int`"),
    (make, ["a"], {"when": "soon"}, "kwargs.when", "invalid"),
    (many, [], {}, "args", "the argument 'first' is missing"),
    (many, [1], {"first": 2}, "kwargs.first", "expected `array`, got `int`"),
    (many, [1, {"x": 1, "y": "2"}], {}, "args[1].y", "expected `float`, got `str`"),
    (many, [1], {"sizes": [1, "2"]}, "kwargs.sizes[1]", "expected `int`, got `str`"),
]


@pytest.mark.parametrize(("function", "args", "kwargs", "field", "says"), WRONG)
def test_what_does_not_fit_is_told_with_its_field(function, args, kwargs, field, says):
    with pytest.raises(ArgumentError) as caught:
        Signature(function).convert(args, kwargs)
    assert caught.value.field == field
    assert says in caught.value.message


def unclear(a: "Nowhere", b: memoryview, c: Any, d):  # noqa: F821
    return a, b, c, d


def test_annotations_that_json_cannot_be_are_not_looked_at():
    assert Signature(unclear).convert([1, "b", None, {}], {}) == ([1, "b", None, {}], {})
    assert Signature(max).convert([1, 2], {"key": None}) == ([1, 2], {"key": None})


def test_a_signature_describes_itself():
    rows = Signature(make).describe()
    assert [(row["name"], row["required"]) for row in rows] == [
        ("path", True),
        ("width", False),
        ("when", False),
    ]
    assert rows[1]["schema"] == {"type": "integer"}
    assert [row["name"] for row in Signature(many).describe()] == ["first", "*points", "**more"]


# ---------------------------------------------------------------- calls


def called(name, *args, **kwargs):
    """A call as it travels, run as a worker does; the payload of its result."""
    function = load_function(dump_function(NamedCall(name)).data)
    return function(call_text(args, kwargs)).payload()


def test_a_call_travels_as_a_name_and_json():
    farm.task(name="thumbnails.make")(make)
    function = dump_function(NamedCall("thumbnails.make"))
    assert function.name == "thumbnails.make"
    assert b"test_registry" not in function.data
    result = called("thumbnails.make", "a.png", when="2026-01-31")
    assert load_value(result) == {"path": "a.png", "width": 100, "year": 2026}
    assert json_text(result) == b'{"path":"a.png","width":100,"year":2026}'


def test_a_host_that_lacks_the_function_says_what_to_do():
    with pytest.raises(UnknownFunction, match=r"this host knows no function 'make': .* --import"):
        called("make")


def test_a_result_that_json_cannot_say_is_told_with_its_place():
    farm.task(name="bad")(lambda: {"rows": [1, {"file": object()}]})
    with pytest.raises(PayloadError, match=r"the result\['rows'\]\[1\]\['file'\] is object, which"):
        called("bad")


def test_a_result_without_end_is_told():
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(PayloadError, match="is list, which JSON cannot say"):
        to_json(loop)


# ---------------------------------------------------------------- payloads


@pytest.mark.parametrize("value", [None, 1, "é", [1.5, {"a": [True]}], "x" * 100_000])
def test_json_is_read_with_and_without_unpickling(value):
    payload = to_json(value).payload()
    assert load_value(payload) == value
    assert msgspec.json.decode(json_text(payload)) == value
    assert json_span(payload[:HEAD_BYTES], len(payload)) == (HEAD_BYTES, len(payload) - 3)


@pytest.mark.parametrize(
    "other",
    [b"", b"\x80\x05N.", to_json(1).payload()[:-1], to_json(1).payload() + b".", b"{}" * 20],
)
def test_other_payloads_have_no_json(other):
    assert json_text(other) is None


def test_large_json_goes_to_a_file():
    class Files:
        least = 100

        def keep(self, data):
            return "file", len(data)

    assert Json(b"1").payload(Files()) == Json(b"1").payload()
    assert to_json("x" * 100).payload(Files())[0] == "file"
