"""Rows by their keys: which group each belongs to, groups being in order of their keys."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["Groups", "group"]


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
    codes = _ranks(keys[0])[0]
    for key in keys[1:]:
        ranks, size = _ranks(key)
        codes = np.unique(codes, return_inverse=True)[1] * size + ranks
    _, rows, of = np.unique(codes, return_index=True, return_inverse=True)
    return Groups(of, rows)


def _ranks(key: pa.ChunkedArray) -> tuple["np.ndarray[Any, Any]", int]:
    """The place of each value among the different ones in order, and how many places there are."""
    encoded = key.combine_chunks().dictionary_encode()
    values = encoded.dictionary
    ranks = np.empty(len(values) + 1, np.int64)
    ranks[pc.sort_indices(values).to_numpy()] = np.arange(len(values))
    ranks[-1] = len(values)
    return ranks[encoded.indices.fill_null(len(values)).to_numpy()], len(values) + 1
