"""Columns of text as NumPy has them: some bytes of all texts at a time, as numbers."""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from farm_scheduler.aggregates.arrays import as_arrow, as_numpy

__all__ = ["WORD_BYTES", "Texts", "order_within", "texts_of"]

WORD_BYTES = 8
MASKS = np.array([(1 << 8 * size) - 1 for size in range(WORD_BYTES + 1)], np.uint64)
"""The first bytes of a word, by how many these are."""
ROUNDS = 3
"""How often some bytes are compared before texts are."""


class Texts(NamedTuple):
    """Where texts begin, how many bytes each has, and all bytes with a word behind them."""

    starts: "np.ndarray[Any, Any]"
    sizes: "np.ndarray[Any, Any]"
    data: "np.ndarray[Any, Any]"

    def words(self, rows: "np.ndarray[Any, Any]", at: int) -> "np.ndarray[Any, Any]":
        """Eight bytes of texts from a place on, the first the lowest; 0 behind their ends."""
        last = len(self.data) - WORD_BYTES
        every = np.ndarray(last + 1, "<u8", self.data, strides=(1,))
        left = np.clip(self.sizes[rows] - at, 0, WORD_BYTES)
        found: np.ndarray[Any, Any] = every[np.minimum(self.starts[rows] + at, last)] & MASKS[left]
        return found


def texts_of(texts: pa.Array) -> Texts:
    """The texts of a column in which nothing is NULL."""
    wide = pa.Array.from_buffers(
        pa.int64() if pa.types.is_large_string(texts.type) else pa.int32(),
        len(texts) + 1, [None, texts.buffers()[1]], offset=texts.offset,
    )  # fmt: skip
    offsets = as_numpy(wide).astype(np.int64)
    first, last = int(offsets[0]), int(offsets[-1])
    data = np.zeros(last - first + WORD_BYTES, np.uint8)
    if last > first:
        data[: last - first] = np.frombuffer(texts.buffers()[2], np.uint8)[first:last]
    offsets -= first
    return Texts(offsets[:-1], np.diff(offsets), data)


def order_within(
    classes: "np.ndarray[Any, Any]", texts: pa.Array, rows: "np.ndarray[Any, Any]"
) -> "np.ndarray[Any, Any]":
    """The order, by class and then by text, of ``rows`` of a column, no two of a class alike.

    The classes of the rows are in order already. Most have a row or a few, so that sorting all
    texts would be most of the work: here the class and a few bytes are sorted as one number, and
    what is equal then is a class for the bytes behind them.
    """
    order, every = np.arange(len(rows)), texts_of(texts)
    place, own = _shared(classes)
    at = 0
    for _ in range(ROUNDS):
        if not len(place):
            return order
        taken = min((64 - int(own[-1]).bit_length()) // 8, WORD_BYTES - 1)
        words = every.words(rows[order[place]], at).byteswap()  # the first byte the highest
        keys = own << np.uint64(8 * taken) | words >> np.uint64(8 * (WORD_BYTES - taken))
        by_key = np.argsort(keys, kind="stable")  # which is quick on what is nearly so
        order[place] = order[place[by_key]]
        alike, own = _shared(keys[by_key])
        place, at = place[alike], at + taken
    left = order[place]
    ranks = np.empty(len(left), np.int64)
    ranks[as_numpy(pc.sort_indices(texts.take(as_arrow(rows[left]))))] = np.arange(len(left))
    order[place] = left[np.lexsort((ranks, own))]
    return order


def _shared(
    keys: "np.ndarray[Any, Any]",
) -> tuple["np.ndarray[Any, Any]", "np.ndarray[Any, Any]"]:
    """Of keys in order, the places of those that are there more than once, and numbers of these."""
    first = np.append(True, keys[1:] != keys[:-1])[: len(keys)]
    alone = first & np.append(first[1:], True)[: len(keys)]
    place = np.flatnonzero(~alone)
    return place, np.cumsum(first[place]).astype(np.uint64) - np.uint64(1)
