"""A ``RangeSet`` is a set of integers: compared with one."""

from random import Random

import pytest

from farm.ranges import RangeSet


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_set_that_it_seems_to_be(seed):
    chance, ranges, members = Random(seed), RangeSet(), set()
    for _ in range(100):
        start = chance.randrange(40)
        stop = start + chance.randrange(1, 8)
        act, change = chance.choice(
            [(ranges.add, members.update), (ranges.remove, members.difference_update)]
        )
        act(start, stop)
        change(range(start, stop))
        assert [one for a, b in ranges for one in range(a, b)] == sorted(members)
        assert len(ranges) == len(members)
        lo = chance.randrange(40)
        hi = lo + chance.randrange(1, 8)
        asked = set(range(lo, hi))
        assert [one for a, b in ranges.overlap(lo, hi) for one in range(a, b)] == sorted(
            asked & members
        )
        assert [one for a, b in ranges.gaps(lo, hi) for one in range(a, b)] == sorted(
            asked - members
        )
        assert ranges.covers(lo, hi) == (asked <= members)
        assert (lo in ranges) == (lo in members)
