"""What a call means: equal in every process that makes the same call, different for others."""

import functools
import os
import subprocess
import sys
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import Path
from threading import Lock

import pytest

from farm.errors import PayloadError
from farm.payload import body_of


def work(*_args, **_kwargs):
    pass


def other():
    pass


def body(*args, **kwargs):
    return body_of(work, args, kwargs)


class Colour(Enum):
    RED = 1
    BLUE = 2


@dataclass
class Point:
    x: int
    y: object = None

    def move(self):
        pass


Pair = namedtuple("Pair", "a b")  # noqa: PYI024

CALLS = """
import sys
from datetime import datetime, UTC
from pathlib import Path
from farm.payload import body_of

class Own:
    def __init__(self, tags): self.tags = tags

def main(): pass

def outer(n):
    def inner(x): return x in {"a", "b", "c", "d", n}
    return inner

text = "".join(["al", "pha"])  # equal to, and not the same object as, the other
words = {"alpha", "beta", "gamma", "delta", "epsilon"}
when = datetime(2024, 1, 1, tzinfo=UTC)
args = (words, frozenset(words), {"k": [text, "alpha"]}, Own(words), when)
for fn in (main, outer(3), lambda x: x + 1, len, Path.cwd, words.union):
    print(body_of(fn, args, {"b": 1, "a": 2}).hex())
"""


def test_it_is_the_same_in_every_process(tmp_path):
    said = set()
    for seed in ("1", "2", "3"):
        path = tmp_path / f"{seed}.py"
        path.write_text(CALLS if seed != "3" else "# moved by a line\n" + CALLS)
        environ = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, path], env=environ, capture_output=True, text=True, check=True
        )
        said.add(done.stdout)
    assert len(said) == 1
    assert len(set(said.pop().split())) == 6


def test_equal_arguments_are_equal():
    one, again = ["x" * 50], ["".join(["x"] * 50)]
    assert body(one[0], one) == body(again[0], one)
    assert body(one, one) == body(one, again)  # whether they are one object does not count
    assert body({"a": 1, "b": 2}) == body({"b": 2, "a": 1})
    assert body(a=1, b=2) == body(b=2, a=1)
    assert body({1, 2}) == body({2, 1})
    assert body(Point(1)) == body(Point(1))
    assert body(Pair(1, 2)) == body(Pair(1, 2))
    assert body(float("nan")) == body(float("nan"))


@pytest.mark.parametrize(
    "values",
    [
        [1, 1.0, True, "1", b"1", Decimal(1), Fraction(1)],
        [(), [], {}, set(), frozenset(), None, "", b"", 0, OrderedDict()],
        [("a", "b"), ("ab",), ["a", "b"], ("a", ("b",)), Pair("a", "b")],
        [{"a": 1}, {"a": 2}, {"b": 1}, {("a", 1)}],
        [OrderedDict(a=1, b=2), OrderedDict(b=2, a=1)],
        [Colour.RED, Colour.BLUE, 1, Colour],
        [Point(1), Point(2), Point(1, 1), Point],
        [len, print, os, int, work, other, Point.move, Point(1).move, Point(2).move],
        [functools.partial(work, 1), functools.partial(work, 2), functools.partial(other, 1)],
        [datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 2, tzinfo=UTC)],
        [Path("a"), Path("b"), bytearray(b"a"), bytearray(b"b")],
        [-0.0, 0.0, 1e300, 10**30],
        ["\udcff", "\udcfe"],
    ],
    ids=lambda values: type(values[0]).__name__,
)
def test_different_arguments_are_different(values):
    assert len({body(value) for value in values}) == len(values)


def test_functions_differ_by_name_and_those_without_by_code_and_captures():
    def make(n, default=1):
        return lambda x=default: x + n

    def twin(n):
        return lambda x=1: x - n

    same = body_of(make(1), (), {}), body_of(make(1), (), {})
    assert same[0] == same[1]
    different = {body_of(f, (), {}) for f in (make(1), make(2), make(1, 2), twin(1), work, other)}
    assert len(different) == 6


def test_what_contains_itself_ends():
    one, again = [1], [1]
    one.append(one)
    again.append(again)
    assert body(one) == body(again) != body([1, [1]])


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(PayloadError, match="idempotency_key"):
        body(Lock())


def test_arrays_count_by_their_content():
    numpy = pytest.importorskip("numpy")
    assert body(numpy.arange(5)) == body(numpy.arange(5))
    assert body(numpy.arange(5)) != body(numpy.arange(6))
    assert body(numpy.arange(4)) != body(numpy.arange(4).reshape(2, 2))
