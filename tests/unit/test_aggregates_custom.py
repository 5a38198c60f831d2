"""Measures of one's own in whole runs: code that changes, comes back, and fails."""

from dataclasses import dataclass, replace

import pytest

from farm.errors import ConfigError
from farm_scheduler import Aggregate, Count, Files
from farm_scheduler.aggregates.measures import Custom
from tests.unit.aggregates_helpers import Desk, write_lines


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path)
    yield desk
    desk.catalog.close()


@dataclass(frozen=True)
class Greatest(Custom):
    """The greatest number."""

    column: str

    def zero(self):
        return None

    def lift(self, rows):
        return max(rows.column(self.column).to_pylist())

    def merge(self, one, other):
        return other if one is None else max(one, other)

    def finalize(self, state):
        return state


class Twice(Greatest):
    """As somebody edited it, under the name that it had."""

    def __str__(self):
        return str(Greatest(self.column))

    def finalize(self, state):
        return 2 * state


@dataclass(frozen=True)
class LostInMerge(Greatest):
    def merge(self, one, other):
        raise RuntimeError("no way")


@dataclass(frozen=True)
class NoValue(Greatest):
    def finalize(self, state):
        return object()


@pytest.fixture
def made(tmp_path):
    for name in "ab":
        write_lines(tmp_path / f"{name}.json", [{"time": "2015-09-12T13:00:00Z", "x": 21}])

    def made(measure):
        source = Files(str(tmp_path / "*.json"), time="time")
        return Aggregate("own", source, measures={"n": Count(), "own": measure("x")})

    return made


def test_code_that_comes_back_is_served_again(desk, made):
    once = made(Greatest)
    desk.build(once)
    desk.build(replace(once, measures={"n": Count(), "own": Twice("x")}))
    assert desk.snapshot("own").table().column("own").to_pylist() == [42]
    built = desk.build(once)
    assert (built.version, built.lifted, built.merged) == (3, 0, 0)  # all of it is there still
    assert desk.snapshot("own").table().column("own").to_pylist() == [21]
    assert desk.build(once).version == 0


@pytest.mark.parametrize(
    ("measure", "says"),
    [
        (LostInMerge, r"LostInMerge\('x'\): its merge failed: RuntimeError: no way"),
        (NoValue, r"NoValue\('x'\): its finalize failed: ArrowInvalid: "),
    ],
)
def test_code_that_fails_is_named_and_what_is_published_stays(desk, made, measure, says):
    desk.build(made(Greatest))
    with pytest.raises(ConfigError, match=says):
        desk.build(made(measure))
    assert desk.snapshot("own").table().column("own").to_pylist() == [21]
