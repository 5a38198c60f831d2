"""Nodes are given out once what they are made of is there, and none waits for others beside it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm_scheduler import Aggregate
from farm_scheduler.aggregates.flow import Flow
from farm_scheduler.aggregates.measures import Count
from farm_scheduler.aggregates.sources import Files
from farm_scheduler.aggregates.tree import Leaf, grow, shape_of
from tests.unit.aggregates_helpers import Desk, write_lines

LEVELS = Aggregate(
    "a", Files("*.json", time="t"), every="1m", rollup=["1h", "1d"], measures={"n": Count()}
).levels


def tree(leaves):
    """The nodes over so many leaves, all of one day."""
    day = ["2015-09-12"]
    shape = shape_of(LEVELS, {"n": Count()}, {})
    return grow(shape, [Leaf(f"{at}", f"leaf {at}", day) for at in range(leaves)])


@pytest.mark.parametrize("leaves", [1, 2, 16, 17, 60, 90])
@given(st.sets(st.integers(0, 9), max_size=5), st.randoms(use_true_random=False))
def test_every_node_comes_after_those_it_is_made_of(leaves, there, chance):
    nodes = tree(leaves)
    lacking = {at: {"n"} for at in range(len(nodes)) if at not in there}
    flow, made, under_way = Flow(nodes, lacking), set(there), []

    while flow.ready or under_way:
        under_way += flow.take(chance.randint(0 if under_way else 1, 3))
        todo = under_way.pop(chance.randrange(len(under_way)))
        below = {id(child) for child in todo.node.children}
        assert {at for at, node in enumerate(nodes) if id(node) in below} <= made
        assert todo.at not in made
        assert nodes[todo.at] is todo.node
        made.add(todo.at)
        flow.made(todo)

    assert made >= set(range(len(nodes)))


def test_what_most_nodes_wait_for_comes_first():
    nodes = tree(60)
    flow = Flow(nodes, {at: {"n"} for at in range(len(nodes))})
    first = flow.take(100)
    depth = [len(one.node.part) for one in first]

    assert depth == sorted(depth, reverse=True)
    assert depth[0] > depth[-1]


class Watched:
    """Does the work of workers as soon as it is submitted, and sees beside what that was."""

    def __init__(self):
        self.done = []
        self.most = 0
        self.beside = set()
        self._waiting = []

    def map(self, fn, iterable):
        works = list(iterable)
        if fn.func.__name__ == "lift":
            return iter([fn(work) for work in works])
        self.beside |= {(str(a.level), str(b.level)) for a in works for b in self._waiting}
        self._waiting += works
        self.most = max(self.most, len(self._waiting))
        return self._results([(work, fn(work)) for work in works])

    def _results(self, made):
        for work, one in made:
            self._waiting.remove(work)
            yield one


def test_a_node_does_not_wait_for_others_that_it_is_not_made_of(tmp_path):
    """Hours of one month are begun while minutes of others are under way; so many, and no more."""
    for day in range(100):
        at = f"2015-{day // 28 + 1:02}-{day % 28 + 1:02}T10:00:00Z"
        write_lines(tmp_path / f"{day:03}.json", [{"t": at, "x": day}])
    source = Files(str(tmp_path / "*.json"), time="t")
    own = Aggregate("a", source, every="1m", rollup=["1h", "1d"], measures={"n": Count()})
    desk = Desk(tmp_path)
    desk.workers = Watched()

    assert not desk.build(own).failures

    assert ("1h", "1m") in desk.workers.beside
    assert 8 < desk.workers.most <= 64
    table = desk.snapshot("a").table("1d")
    assert sum(table.column("n").to_pylist()) == 100
