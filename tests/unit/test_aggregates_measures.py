"""The laws of measures: however rows are split into partitions and ordered, the answer is the same.

Byte for byte where the measure promises it; else within the error that it states.
"""

import math
import random
import statistics
from collections import Counter, defaultdict
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from farm.errors import ConfigError
from farm_scheduler.aggregates.engine import (
    Piece,
    Unfit,
    connection,
    decode,
    encode,
    finish,
    lift_rows,
    merge_pieces,
)
from farm_scheduler.aggregates.measures import (
    Count,
    Custom,
    Distinct,
    Max,
    Mean,
    Min,
    Quantiles,
    Sum,
    TopK,
    Variance,
)

EXACT = {
    "rows": Count(),
    "there": Count("x"),
    "sum": Sum("x"),
    "least": Min("x"),
    "most": Max("x"),
    "distinct": Distinct("x"),
    "top": TopK("x", 3),
    "quantiles": Quantiles("x"),
    "words": Distinct("word"),
    "top_words": TopK("word", 3),
    "first_word": Min("word"),
}
few = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
rows_of_wholes = st.lists(
    st.tuples(
        st.sampled_from([0, 59_999_999, 60_000_000, -1]),
        st.sampled_from(["a", "b", None]),
        st.none() | st.integers(-(10**12), 10**12) | st.integers(-3, 3),
        st.none() | st.sampled_from(["", "x", "ä", "X", "x "]),
    ),
    max_size=20,
)
reals = st.none() | st.floats(-1e6, 1e6) | st.sampled_from([0.0, -0.0, 1.5, float("nan")])


WHOLE = pa.int64()


def lifted(rows, measures, x=WHOLE):
    """A piece of rows (microseconds, key, x, word), as a worker makes it."""
    columns = {"t": pa.int64(), "k": pa.string(), "x": x, "word": pa.string()}
    table = pa.table(
        {
            name: pa.array([row[at] for row in rows], kind)
            for at, (name, kind) in enumerate(columns.items())
        }
    )
    whole = "real" if pa.types.is_floating(x) else "whole"
    kinds = {"t": "whole", "k": "text", "x": whole, "word": "text"}
    db = connection()
    db.register("source", table)
    try:
        return lift_rows("source", "t", ["k"], 60_000_000, measures, kinds)
    finally:
        db.unregister("source")


def split(rows, cuts):
    edges = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    return [rows[a:b] for a, b in pairwise(edges)]


def sent(piece):
    """A piece after a journey."""
    states = {name: decode(encode(table)) for name, table in piece.states.items()}
    return Piece(decode(encode(piece.keys)), states)


def merged(pieces, measures, shape):
    """Merged in a tree of any shape."""
    pieces = [sent(one) for one in pieces]
    while len(pieces) > 1:
        at = shape.randrange(len(pieces) - 1)
        size = shape.randint(2, 4)
        pieces[at : at + size] = [sent(merge_pieces(pieces[at : at + size], measures))]
    return pieces[0]


def in_bytes(piece):
    return encode(piece.keys), {name: encode(one) for name, one in piece.states.items()}


def values(piece, measures, x="whole"):
    table = finish(piece, measures, {"x": x, "y": "real", "word": "text"})
    return {(row["w"], row["k0"]): row for row in table.to_pylist()}


@few
@given(rows_of_wholes, st.lists(st.integers(0, 40), max_size=6), st.randoms(use_true_random=False))
def test_any_split_in_any_order_gives_the_same_bytes(rows, cuts, order):
    whole = sent(lifted(rows, EXACT).piece)
    mixed = order.sample(rows, len(rows))
    pieces = [lifted(part, EXACT).piece for part in split(mixed, cuts)]
    order.shuffle(pieces)
    found = merged(pieces, EXACT, order)
    assert in_bytes(found) == in_bytes(whole)
    assert values(found, EXACT) == values(whole, EXACT)


@few
@given(rows_of_wholes)
def test_exact_measures_say_what_plain_python_says(rows):
    found = values(lifted(rows, EXACT).piece, EXACT)
    groups = defaultdict(list)
    for at, key, x, word in rows:
        groups[at // 60_000_000 * 60_000_000, key].append((x, word))
    assert found.keys() == groups.keys()
    for group, members in groups.items():
        row, xs = found[group], [x for x, _ in members if x is not None]
        words = [word for _, word in members if word is not None]
        assert row["m:rows"] == row["n"] == len(members)
        assert row["m:there"] == len(xs)
        assert row["m:sum"] == sum(xs)
        assert row["m:least"] == min(xs, default=None)
        assert row["m:most"] == max(xs, default=None)
        assert row["m:distinct"] == len(set(xs))
        assert row["m:words"] == len(set(words))
        common = sorted(Counter(words).items(), key=lambda one: (-one[1], one[0].encode()))
        assert row["m:top_words"] == [{"value": word, "count": n} for word, n in common[:3]]
        if xs:
            middle = sorted(xs)[math.ceil(len(xs) * 0.5) - 1]
            assert row["m:quantiles"]["p50"] == middle
        else:
            assert row["m:quantiles"] is None


@few
@given(
    st.lists(st.tuples(st.just(0), st.just("a"), reals, st.none()), max_size=20),
    st.lists(st.integers(0, 40), max_size=5),
    st.randoms(use_true_random=False),
)
def test_real_numbers_in_any_order_give_the_same_but_for_rounding(rows, cuts, order):
    exact = {"least": Min("x"), "most": Max("x"), "n": Distinct("x"), "q": Quantiles("x")}
    rounded = {"sum": Sum("x"), "mean": Mean("x"), "variance": Variance("x")}
    measures = exact | rounded
    mixed = order.sample(rows, len(rows))
    pieces = [lifted(part, measures, pa.float64()).piece for part in split(mixed, cuts)]
    found = merged(pieces, measures, order)
    whole = sent(lifted(rows, measures, pa.float64()).piece)
    for name in exact:
        assert encode(found.states[name]) == encode(whole.states[name]), name
    for group, row in values(found, measures, "real").items():
        xs = [Fraction(x) for _, _, x, _ in rows if x is not None and not math.isnan(x)]
        if any(x is not None and math.isnan(x) for _, _, x, _ in rows):
            assert math.isnan(row["m:sum"])
            assert math.isnan(row["m:mean"])
            assert row["m:variance"] is None or math.isnan(row["m:variance"])
            continue
        scale = float(sum(map(abs, xs))) or 1.0
        assert row["m:sum"] == pytest.approx(float(sum(xs)), abs=scale * 1e-14), group
        if not xs:
            assert row["m:mean"] is None
            continue
        mean = sum(xs) / len(xs)
        assert row["m:mean"] == pytest.approx(float(mean), abs=scale * 1e-14)
        if len(xs) == 1:
            assert row["m:variance"] is None
        else:
            variance = float(sum((x - mean) ** 2 for x in xs) / (len(xs) - 1))
            squares = float(sum(x * x for x in xs))
            assert row["m:variance"] == pytest.approx(variance, rel=1e-9, abs=squares * 1e-13)


def test_nothing_is_the_identity():
    rows = [(0, "a", at, "w") for at in range(9)] + [(0, "b", None, None)]
    whole = sent(lifted(rows, EXACT).piece)
    nothing = sent(lifted([], EXACT).piece)
    unknown = sent(lifted([(0, "a", None, None)], EXACT).piece)
    assert in_bytes(merge_pieces([whole, nothing], EXACT)) == in_bytes(whole)
    assert in_bytes(merge_pieces([nothing, whole, nothing], EXACT)) == in_bytes(whole)
    assert in_bytes(merge_pieces([nothing, nothing], EXACT)) == in_bytes(nothing)
    with_null = values(merge_pieces([unknown, whole], EXACT), EXACT)[0, "a"]
    for name in ("there", "sum", "least", "most", "distinct", "top", "quantiles"):
        assert with_null[f"m:{name}"] == values(whole, EXACT)[0, "a"][f"m:{name}"]


def test_a_column_without_anything_has_values_for_nothing():
    measures = EXACT | {"mean": Mean("x"), "variance": Variance("x")}
    row = values(lifted([(0, "a", None, None)] * 3, measures).piece, measures)[0, "a"]
    assert (row["m:rows"], row["m:there"], row["m:sum"], row["m:distinct"]) == (3, 0, 0, 0)
    assert row["m:least"] is row["m:mean"] is row["m:variance"] is row["m:quantiles"] is None


def test_a_column_that_is_whole_here_and_real_there_is_one_column():
    measures = EXACT | {"mean": Mean("x"), "variance": Variance("x", sample=False)}
    whole = lifted([(0, "a", 1, None), (0, "a", 2, None)], measures).piece
    real = lifted([(0, "a", 2.0, None), (0, "a", 2.5, None)], measures, pa.float64()).piece
    for pieces in ([whole, real], [real, whole]):
        row = values(merge_pieces([sent(one) for one in pieces], measures), measures, "real")[
            0, "a"
        ]
        assert row["m:distinct"] == 3
        assert row["m:top"][0] == {"value": "2", "count": 2}
        assert (row["m:sum"], row["m:mean"], row["m:least"], row["m:most"]) == (7.5, 1.875, 1, 2.5)
        assert row["m:variance"] == pytest.approx(0.296875)


def test_a_column_of_nothing_goes_with_every_other():
    kinds = {"t": "whole", "k": "text", "x": "text", "word": "other"}
    db = connection()
    none = pa.array([None, None], pa.string())
    db.register("source", pa.table({"t": [0, 0], "k": ["a", "a"], "x": none, "word": none}))
    found = lift_rows("source", "t", ["k"], 60_000_000, EXACT | {"mean": Mean("x")}, kinds)
    db.unregister("source")
    assert found.kinds == {"k": "text", "x": "null", "word": "null"}
    measures = EXACT | {"mean": Mean("x")}
    real = lifted([(0, "a", 2.5, "w")], measures, pa.float64()).piece
    row = values(merge_pieces([sent(found.piece), sent(real)], measures), measures, "real")[0, "a"]
    assert (row["m:rows"], row["m:sum"], row["m:mean"], row["m:least"]) == (3, 2.5, 2.5, 2.5)
    assert row["m:first_word"] == "w"


def test_text_is_no_number():
    kinds = {"t": "whole", "x": "text"}
    db = connection()
    db.register("source", pa.table({"t": [0], "x": ["many"]}))
    with pytest.raises(Unfit, match="needs numbers, and column 'x' has text"):
        lift_rows("source", "t", [], 60_000_000, {"sum": Sum("x")}, kinds)
    db.unregister("source")


@pytest.mark.parametrize(
    "name", ["g", "w", "n", "k0", "moment", "s0", "rows", "select", 'a"b', "c:g"]
)
def test_a_column_may_have_any_name(name):
    measures = {"sum": Sum(name), "top": TopK(name), "q": Quantiles(name), "d": Distinct(name)}
    db = connection()
    db.register("source", pa.table({"the time": [0, 0, 7], name: [5, 6, 5]}))
    kinds = {"the time": "whole", name: "whole"}
    found = lift_rows("source", '"the time"', [name], 60_000_000, measures, kinds).piece
    db.unregister("source")
    assert finish(found, measures, kinds).column("m:sum").to_pylist() == [10, 6]


def test_sums_past_64_bits_are_whole_numbers_still():
    measures = {"sum": Sum("x")}
    rows = [(0, "a", 2**63 - 1, None)] * 3
    found = values(merge_pieces([lifted(rows, measures).piece] * 2, measures), measures)
    assert found[0, "a"]["m:sum"] == 6 * (2**63 - 1)


@pytest.mark.parametrize("worst", [math.inf, -math.inf, math.nan, 1e200])
def test_what_has_no_variance_is_not_a_number_and_stops_nothing(worst):
    measures = {"variance": Variance("x"), "most": Max("x")}
    pieces = [
        lifted(
            [(0, "a", x, None), (0, "b", 1.0, None), (0, "b", 2.0, None)], measures, pa.float64()
        )
        for x in (1.0, worst)
    ]
    found = values(merge_pieces([one.piece for one in pieces], measures), measures, "real")
    assert math.isnan(found[0, "a"]["m:variance"])
    assert found[0, "b"]["m:variance"] == pytest.approx(1 / 3)


# ---------------------------------------------------------------- stated errors


@pytest.mark.parametrize("size", [100, 3_000, 40_000])
def test_distinct_is_within_its_error(size):
    measures = {"d": Distinct("x")}
    chance = random.Random(size)
    pieces = []
    for _ in range(4):
        rows = [(0, "a", chance.randrange(size), None) for _ in range(size)]
        pieces.append(lifted(rows, measures))
        pieces[-1] = (pieces[-1].piece, {x for _, _, x, _ in rows})
    true = len(set().union(*(seen for _, seen in pieces)))
    row = values(merged([one for one, _ in pieces], measures, chance), measures)[0, "a"]
    assert row["e:d"] == pytest.approx(1.04 / 128)
    assert abs(row["m:d"] - true) <= 4 * row["e:d"] * true


@few
@given(
    st.lists(st.integers(0, 400), min_size=60, max_size=300),
    st.lists(st.integers(0, 300), min_size=1, max_size=5),
    st.randoms(use_true_random=False),
)
def test_quantiles_beyond_keep_are_within_the_error_they_say(xs, cuts, order):
    measures = {"q": Quantiles("x", at=(0.0, 0.1, 0.5, 0.9, 1.0), keep=16)}
    rows = [(0, "a", x, None) for x in xs]
    row = values(
        merged([lifted(part, measures).piece for part in split(rows, cuts)], measures, order),
        measures,
    )[0, "a"]
    for name, value in row["m:q"].items():
        share = float(name[1:]) / 100
        below = sum(x < value for x in xs) / len(xs)
        upto = sum(x <= value for x in xs) / len(xs)
        assert value in xs
        assert below - row["e:q"] - 1e-9 <= share <= upto + row["e:q"] + 1e-9, name


@few
@given(
    st.lists(st.integers(0, 12) | st.integers(0, 60), min_size=10, max_size=200),
    st.lists(st.integers(0, 200), min_size=1, max_size=5),
    st.randoms(use_true_random=False),
)
def test_top_values_beyond_keep_are_within_the_error_they_say(xs, cuts, order):
    measures = {"top": TopK("x", 3, keep=8)}
    rows = [(0, "a", x, None) for x in xs]
    row = values(
        merged([lifted(part, measures).piece for part in split(rows, cuts)], measures, order),
        measures,
    )[0, "a"]
    true = {str(x): n for x, n in Counter(xs).items()}
    error, shown = row["e:top"], row["m:top"]
    for one in shown:
        assert one["count"] <= true[one["value"]] <= one["count"] + error
    others = true.keys() - {one["value"] for one in shown}
    assert all(true[one] <= shown[-1]["count"] + error for one in others)


# ---------------------------------------------------------------- measures of one's own


@dataclass(frozen=True)
class Span(Custom):
    """How far the numbers of a column are apart."""

    column: str

    def zero(self):
        return None

    def lift(self, rows):
        there = [x for x in rows.column(self.column).to_pylist() if x is not None]
        return [min(there), max(there)] if there else None

    def merge(self, one, other):
        if one is None or other is None:
            return one or other
        return [min(one[0], other[0]), max(one[1], other[1])]

    def finalize(self, state):
        return None if state is None else state[1] - state[0]


@few
@given(rows_of_wholes, st.lists(st.integers(0, 40), max_size=5), st.randoms(use_true_random=False))
def test_a_measure_of_ones_own_obeys_the_same_laws(rows, cuts, order):
    measures = {"span": Span("x")}
    mixed = order.sample(rows, len(rows))
    found = merged([lifted(one, measures).piece for one in split(mixed, cuts)], measures, order)
    assert in_bytes(found) == in_bytes(sent(lifted(rows, measures).piece))
    for (at, key), row in values(found, measures).items():
        xs = [x for t, k, x, _ in rows if (t // 60_000_000 * 60_000_000, k) == (at, key)]
        xs = [x for x in xs if x is not None]
        assert row["m:span"] == (max(xs) - min(xs) if xs else None)


def test_a_measure_of_ones_own_is_known_by_its_text_and_version():
    @dataclass(frozen=True)
    class Newer(Span):
        version = 2

    assert Span("x").identity() == Span("x").identity()
    assert Newer("x").identity() != Span("x").identity()
    assert Span("y").identity() != Span("x").identity()


def test_a_measure_of_ones_own_whose_states_are_no_plain_data_says_so():
    @dataclass(frozen=True)
    class Sets(Span):
        def zero(self):
            return set()

    with pytest.raises(ConfigError, match="define encode and decode"):
        Sets("x").check()

    @dataclass(frozen=True)
    class Half(Span):
        def encode(self, state):
            return b""

    with pytest.raises(ConfigError, match="define decode too"):
        Half("x").check()


def test_measures_of_reals_are_means_of_rows_not_of_means():
    one = lifted([(0, "a", 1.0, None)] * 9, {"mean": Mean("x")}, pa.float64()).piece
    two = lifted([(0, "a", 2.0, None)], {"mean": Mean("x")}, pa.float64()).piece
    found = values(merge_pieces([one, two], {"mean": Mean("x")}), {"mean": Mean("x")}, "real")
    assert found[0, "a"]["m:mean"] == statistics.fmean([1.0] * 9 + [2.0])
