"""A hash of 64 bits of many texts at once. Kept states are made of it, so it never changes.

Words of eight bytes are mixed in one after another, for all texts that are long enough at a time,
by the last step of A. Appleby's MurmurHash3 (2011).
"""

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa

from farm_scheduler.aggregates.arrays import as_numpy

__all__ = ["hash_texts"]

WORD_BYTES = 8
LONG_BYTES = 256
"""Longer texts are few, and hashed one by one."""
FIRST, SECOND = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)
HALF = np.uint64(33)
MASKS = np.array([(1 << 8 * size) - 1 for size in range(WORD_BYTES + 1)], np.uint64)
"""The bytes of a word that belong to a text, by how many these are."""


def hash_texts(texts: pa.Array) -> "np.ndarray[Any, Any]":
    """The hash of each; there is no NULL among them."""
    offsets, data = _parts(texts)
    starts, sizes = offsets[:-1], np.diff(offsets)
    found = _mixed((sizes + 1).astype(np.uint64))  # whose mixture is not 0
    words = np.ndarray(max(len(data) - WORD_BYTES, 0), "<u8", data, strides=(1,))
    active = np.flatnonzero((sizes > 0) & (sizes <= LONG_BYTES))
    at = 0
    while len(active):
        left = sizes[active] - at
        word = words[starts[active] + at] & MASKS[np.minimum(left, WORD_BYTES)]
        found[active] = _mixed(found[active] ^ word)
        active = active[left > WORD_BYTES]
        at += WORD_BYTES
    for row in np.flatnonzero(sizes > LONG_BYTES).tolist():
        text = data[starts[row] : starts[row] + sizes[row]]
        digest = hashlib.blake2b(text.tobytes(), digest_size=WORD_BYTES).digest()
        found[row] = int.from_bytes(digest, "little")
    return found


def _parts(texts: pa.Array) -> tuple["np.ndarray[Any, Any]", "np.ndarray[Any, Any]"]:
    """Where texts begin and end in their bytes, and the bytes, with a word behind them."""
    wide = pa.Array.from_buffers(
        pa.int64() if pa.types.is_large_string(texts.type) else pa.int32(),
        len(texts) + 1, [None, texts.buffers()[1]], offset=texts.offset,
    )  # fmt: skip
    offsets = as_numpy(wide).astype(np.int64)
    first, last = int(offsets[0]), int(offsets[-1])
    data = np.zeros(last - first + WORD_BYTES, np.uint8)
    if last > first:
        data[: last - first] = np.frombuffer(texts.buffers()[2], np.uint8)[first:last]
    return offsets - first, data


def _mixed(bits: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    found: np.ndarray[Any, Any] = bits ^ (bits >> HALF)
    found *= FIRST
    found ^= found >> HALF
    found *= SECOND
    found ^= found >> HALF
    return found
