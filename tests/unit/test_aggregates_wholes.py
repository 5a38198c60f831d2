"""Whole numbers are summed up without DuckDB, and come out as it has them."""

from fractions import Fraction

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm_scheduler.aggregates.engine import connection, encode
from farm_scheduler.aggregates.measures import Count, Max, Mean, Min, Sum, Variance
from farm_scheduler.aggregates.measures.wholes import Wholes

KINDS = {"x": "whole"}
EXACT = [Count(), Count("x"), Sum("x"), Mean("x"), Min("x"), Max("x")]
LEAST, MOST = -(2**63), 2**63 - 1
numbers = st.none() | st.integers(-9, 9) | st.integers(-(10**6), 10**6)
rows = st.lists(st.tuples(st.integers(0, 4), numbers), max_size=30)
GROUPS = 5


def table(found, kind=None):
    x = pa.array([x for _, x in found], kind or pa.int64())
    return pa.table({"g": pa.array([g for g, _ in found], pa.int64()), "c:x": x})


def by_duckdb(measure, found):
    """States of all groups as SQL makes them, those without rows as merging would leave them."""
    db, columns = connection(), measure.lift_sql(KINDS)
    terms = ", ".join(f"{term} AS s{at}" for at, term in enumerate(columns))
    db.register("rows", table(found))
    made = db.sql(
        f"SELECT {terms} FROM range({GROUPS}) AS every(n) LEFT JOIN "
        "(SELECT *, 1 AS here FROM rows) ON g = n GROUP BY n ORDER BY n"
    ).to_arrow_table()
    db.unregister("rows")
    return made


def by_numpy(measure, found, kind=None):
    columns = measure.lift_wholes(Wholes(table(found, kind), GROUPS, KINDS))
    return pa.table({f"s{at}": one for at, one in enumerate(columns)})


@pytest.mark.parametrize("measure", EXACT[1:], ids=str)
@settings(max_examples=25, deadline=None)
@given(rows)
def test_states_are_those_of_duckdb_in_every_byte(measure, found):
    assert encode(by_numpy(measure, found)) == encode(by_duckdb(measure, found))


@given(rows)
def test_rows_are_counted(found):
    counts = [sum(g == group for g, _ in found) for group in range(GROUPS)]
    assert by_numpy(Count(), found).column("s0").to_pylist() == counts


@given(rows)
def test_the_distances_from_the_mean_are_rounded_once(found):
    made = by_numpy(Variance("x"), found).to_pylist()
    for group in range(GROUPS):
        xs = [Fraction(x) for g, x in found if g == group and x is not None]
        if not xs:
            assert made[group] == {"s0": 0, "s1": None, "s2": None}
            continue
        mean = sum(xs) / len(xs)
        spread = float(sum((x - mean) ** 2 for x in xs))
        assert made[group]["s0"] == len(xs)
        assert made[group]["s1"] == float(mean)
        assert made[group]["s2"] == pytest.approx(spread, rel=2e-16, abs=0)


@pytest.mark.parametrize("x", [LEAST, MOST, 2**62])
def test_what_does_not_fit_is_left_to_duckdb(x):
    for measure in (Sum("x"), Mean("x"), Variance("x")):
        assert not measure.lift_wholes(Wholes(table([(0, x), (0, x)]), GROUPS, KINDS))


def test_a_sum_that_fits_may_have_squares_that_do_not():
    wholes = Wholes(table([(0, 2**40), (0, -5), (3, 7)]), GROUPS, KINDS)
    assert Sum("x").lift_wholes(wholes)[0].to_pylist() == [2**40 - 5, None, None, 7, None]
    assert not Variance("x").lift_wholes(wholes)


def test_other_kinds_are_left_to_duckdb():
    some = [(0, 1), (1, 2)]
    for kind in (pa.int32(), pa.uint64(), pa.float64(), pa.decimal128(38, 0)):
        assert not Sum("x").lift_wholes(Wholes(table(some, kind), GROUPS, KINDS))
    assert not Max("x").lift_wholes(Wholes(table(some), GROUPS, {"x": "time"}))
