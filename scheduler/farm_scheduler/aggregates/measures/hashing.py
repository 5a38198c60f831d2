"""A hash of 64 bits of many texts at once. Kept states are made of it, so it never changes.

Words of eight bytes are mixed in one after another, for all texts that are long enough at a time,
by the last step of A. Appleby's MurmurHash3 (2011).
"""

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa

from farm_scheduler.aggregates.texts import WORD_BYTES, texts_of

__all__ = ["hash_texts"]

LONG_BYTES = 256
"""Longer texts are few, and hashed one by one."""
FIRST, SECOND = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)
HALF = np.uint64(33)


def hash_texts(texts: pa.Array) -> "np.ndarray[Any, Any]":
    """The hash of each; there is no NULL among them."""
    every = texts_of(texts)
    sizes = every.sizes
    found = _mixed((sizes + 1).astype(np.uint64))  # whose mixture is not 0
    active = np.flatnonzero((sizes > 0) & (sizes <= LONG_BYTES))
    at = 0
    while len(active):
        found[active] = _mixed(found[active] ^ every.words(active, at))
        at += WORD_BYTES
        active = active[sizes[active] > at]
    for row in np.flatnonzero(sizes > LONG_BYTES).tolist():
        text = every.data[every.starts[row] :][: sizes[row]]
        digest = hashlib.blake2b(text.tobytes(), digest_size=WORD_BYTES).digest()
        found[row] = int.from_bytes(digest, "little")
    return found


def _mixed(bits: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    found: np.ndarray[Any, Any] = bits ^ (bits >> HALF)
    found *= FIRST
    found ^= found >> HALF
    found *= SECOND
    found ^= found >> HALF
    return found
