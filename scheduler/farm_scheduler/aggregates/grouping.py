"""Rows by their keys: which group each belongs to, groups being in order of their keys."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from farm_scheduler.aggregates.arrays import as_numpy

__all__ = ["Groups", "group", "places"]


class Groups(NamedTuple):
    """The number of each row's group, and a row of each group."""

    of: "np.ndarray[Any, Any]"
    rows: "np.ndarray[Any, Any]"

    @property
    def size(self) -> int:
        """How many there are."""
        return len(self.rows)


def group(keys: Sequence[pa.ChunkedArray]) -> Groups:
    """Number the groups of rows with equal keys; NULL is a key like others, and the last."""
    codes = places(keys[0])[0]
    for key in keys[1:-1]:
        codes = _numbered(_joined(codes, key)).of
    return _numbered(_joined(codes, keys[-1]) if len(keys) > 1 else codes)


def places(
    key: pa.Array | pa.ChunkedArray, *, sort: bool = True
) -> tuple["np.ndarray[Any, Any]", int]:
    """The place of each value among the different ones in order, and how many places there are.

    Unless that is to ``sort``: then in any order, but for NULL, which is the last.
    """
    whole = key.combine_chunks() if isinstance(key, pa.ChunkedArray) else key
    encoded = whole.dictionary_encode()
    values = encoded.dictionary
    found = as_numpy(encoded.indices, len(values))
    if sort:
        ranks = np.empty(len(values) + 1, np.int64)
        ranks[as_numpy(pc.sort_indices(values))] = np.arange(len(values))
        ranks[-1] = len(values)
        found = ranks[found]
    return found, len(values) + 1


def _joined(codes: "np.ndarray[Any, Any]", key: pa.ChunkedArray) -> "np.ndarray[Any, Any]":
    own, size = places(key)
    joined: np.ndarray[Any, Any] = codes * size + own
    return joined


def _numbered(codes: "np.ndarray[Any, Any]") -> Groups:
    _, rows, of = np.unique(codes, return_index=True, return_inverse=True)
    return Groups(of, rows)
