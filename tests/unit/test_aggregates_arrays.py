"""Columns of numbers as arrays and back, hashes of texts, and that neither asks for pandas."""

import hashlib
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm_scheduler.aggregates.arrays import as_arrow, as_numpy, is_there
from farm_scheduler.aggregates.measures.hashing import hash_texts
from farm_scheduler.aggregates.texts import order_within

KINDS = [pa.int8(), pa.uint32(), pa.int64(), pa.uint64(), pa.float32(), pa.float64(), pa.bool_()]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("cut", [slice(0, 40), slice(3, 29), slice(8, 8), slice(17, 40)])
def test_columns_and_arrays_are_the_same_numbers(kind, cut):
    true = pa.types.is_boolean(kind)
    values = [None if at % 5 == 0 else at % 2 == 1 if true else at % 7 for at in range(40)]
    column = pa.array(values, kind)[cut]

    numbers = as_numpy(column, 1)

    assert numbers.tolist() == [1 if one is None else one for one in values[cut]]
    assert is_there(column).tolist() == [one is not None for one in values[cut]]
    assert as_arrow(numbers, ~is_there(column)).equals(column)


def test_a_column_in_pieces_is_one_array():
    pieces = pa.chunked_array([pa.array([1, 2]), pa.array([], pa.int64()), pa.array([None, 4])])

    assert as_numpy(pieces, 9).tolist() == [1, 2, 9, 4]
    assert as_numpy(pa.chunked_array([], pa.float64())).dtype == np.float64


def test_a_column_of_nothing_but_null_is_not_there():
    assert is_there(pa.nulls(3)).tolist() == [False] * 3
    assert as_numpy(pa.nulls(3, pa.float64()), -1.0).tolist() == [-1.0] * 3


def plainly(text: str) -> int:
    """The hash of one text, byte by byte, as it is kept in states."""
    data, whole = text.encode(), (1 << 64) - 1

    def mixed(bits: int) -> int:
        bits ^= bits >> 33
        bits = bits * 0xFF51AFD7ED558CCD & whole
        bits ^= bits >> 33
        bits = bits * 0xC4CEB9FE1A85EC53 & whole
        return bits ^ bits >> 33

    if len(data) > 256:
        return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")
    found = mixed(len(data) + 1)
    for at in range(0, len(data), 8):
        found = mixed(found ^ int.from_bytes(data[at : at + 8], "little"))
    return found


@given(st.lists(st.text(max_size=40) | st.text(min_size=200, max_size=300), max_size=9), st.data())
def test_hashes_of_texts_are_those_of_each_text(texts, data):
    begin = data.draw(st.integers(0, len(texts)))
    kind = data.draw(st.sampled_from([pa.string(), pa.large_string()]))

    found = hash_texts(pa.array(texts, kind)[begin:])

    assert found.tolist() == [plainly(one) for one in texts[begin:]]


def test_a_hash_that_is_kept_never_changes():
    texts = pa.array(["", "a", "#en.wikipedia", "ä" * 130])

    assert hash_texts(texts).tolist() == [
        12994781566227106604,
        16438015941037438845,
        17770949341661766678,
        7928337154247716040,
    ]


LIKE = ["", "User talk:", "https://www.example.com/a/path/that/many/have"]
ends = st.text("ab\0ä𝄞", max_size=6) | st.text(max_size=20)
alike = st.builds(str.__add__, st.sampled_from(LIKE), ends)


@given(st.lists(st.tuples(st.integers(0, 4), alike), unique=True, max_size=30), st.data())
def test_texts_are_in_order_of_their_bytes_within_each_class(pairs, data):
    """However many bytes of them are the same, and wherever they are in their column."""
    pairs.sort(key=lambda one: one[0])
    kind = data.draw(st.sampled_from([pa.string(), pa.large_string()]))
    before = data.draw(st.lists(alike, max_size=3))
    rows = data.draw(st.permutations(range(len(pairs))))
    texts = dict(zip(rows, (text for _, text in pairs), strict=True))
    column = pa.array([*before, *(texts[row] for row in range(len(pairs)))], kind)[len(before) :]
    classes = np.array([number for number, _ in pairs], np.int64)

    order = order_within(classes, column, np.array(rows, np.int64))

    found = [pairs[at] for at in order.tolist()]
    assert found == sorted(pairs, key=lambda one: (one[0], one[1].encode()))


WITHOUT_PANDAS = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        assert name != "pandas", "pandas is imported"

sys.meta_path.insert(0, Refuse())
import pathlib
from farm_scheduler import *
from farm_scheduler.aggregates import Catalog, Here, Snapshot, build

folder = pathlib.Path(sys.argv[1])
measures = {
    "n": Count(), "sum": Sum("x"), "mean": Mean("x"), "least": Min("x"), "most": Max("x"),
    "spread": Variance("x"), "users": Distinct("x"), "q": Quantiles("x"), "top": TopK("who", 2),
}
own = Aggregate("a", Files(str(folder / "*.json"), time="t"), by=["who"], rollup=["1d"],
                lateness="1h", drop_after="1d", measures=measures)
catalog = Catalog(folder / "a.db")

def write(name, hours):
    rows = [f'{{"t": "2015-09-1{h // 24}T{h % 24:02}:00:00Z", "who": "a", "x": {h or "null"}}}'
            for h in hours]
    (folder / name).write_text("\\n".join(rows))

write("one.json", range(30))
write("two.json", [1, 2, 40])
for _ in range(2):
    with catalog.writing():
        built = build(own, catalog, Here())
    assert not built.failures, built.failures
    write("two.json", [1, 1, 20, 39, 71])
print(Snapshot(catalog.manifest("a"), catalog.node).read(who="a", day="2015-09-11").value["n"])
"""


def test_a_run_does_not_load_pandas(tmp_path):
    """It is more than half a second of each worker, and none of it is used."""
    made = subprocess.run(
        [sys.executable, "-c", WITHOUT_PANDAS, str(tmp_path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert made.stdout == "7\n", made.stderr
