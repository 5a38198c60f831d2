"""Columns of numbers in Arrow and in NumPy, one as the other, over the same memory.

pyarrow's own ways between the two import pandas wherever it is installed, even if none of it is
used: more than half a second of processor time and some fifty megabytes of every worker.
"""

from typing import Any

import numpy as np
import pyarrow as pa

__all__ = ["as_arrow", "as_numpy", "is_there"]

BOOLEAN = 1
"""Bits of a truth value in Arrow."""


def as_numpy(
    column: pa.Array | pa.ChunkedArray, null: float | None = None
) -> "np.ndarray[Any, Any]":
    """The numbers or truth values of a column; ``null`` stands where there is none.

    Without ``null`` whatever is in memory stands there. Not to be written to.
    """
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    data, start, size = whole.buffers()[1], whole.offset, len(whole)
    if not size or data is None:
        return np.full(size, null or 0, _dtype(whole.type))
    if whole.type.bit_width == BOOLEAN:
        found = _bits(data, start, size)
    else:
        found = np.frombuffer(data, _dtype(whole.type))[start : start + size]
    if null is None or not whole.null_count:
        return found
    return np.where(is_there(whole), found, found.dtype.type(null))


def is_there(column: pa.Array) -> "np.ndarray[Any, Any]":
    """Where a column, of anything, is not NULL."""
    bits = column.buffers()[0] if column.null_count else None
    if bits is None:
        return np.full(len(column), not column.null_count)
    return _bits(bits, column.offset, len(column))


def as_arrow(
    values: "np.ndarray[Any, Any]", absent: "np.ndarray[Any, Any] | None" = None
) -> pa.Array:
    """Numbers or truth values as a column, NULL where they are ``absent``."""
    kind = pa.from_numpy_dtype(values.dtype)
    data = _packed(values) if kind.bit_width == BOOLEAN else np.ascontiguousarray(values)
    there = None if absent is None or not absent.any() else pa.py_buffer(_packed(~absent))
    return pa.Array.from_buffers(kind, len(values), [there, pa.py_buffer(data)])


def _dtype(kind: pa.DataType) -> "np.dtype[Any]":
    if kind.bit_width == BOOLEAN:
        return np.dtype(bool)
    letter = "f" if pa.types.is_floating(kind) else "u" if "uint" in str(kind) else "i"
    return np.dtype(f"{letter}{kind.bit_width // 8}")


def _bits(data: pa.Buffer, start: int, size: int) -> "np.ndarray[Any, Any]":
    first = start // 8
    every = np.frombuffer(data, np.uint8)[first : (start + size + 7) // 8]
    found = np.unpackbits(every, bitorder="little")[start - first * 8 :][:size]
    return found.view(bool)


def _packed(values: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    return np.packbits(values, bitorder="little")
