"""Rows that come late: how many, and how those that come too late are set aside.

A partition replaces what it was before, so what is late is told by counting: rows of a group of a
closed window that the partition did not have the last time it was published.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from farm_scheduler.aggregates.arrays import as_arrow, as_numpy
from farm_scheduler.aggregates.engine import decode, encode
from farm_scheduler.aggregates.joining import together
from farm_scheduler.aggregates.manifest import Late

__all__ = ["Spliced", "count_late", "splice"]


class Spliced(NamedTuple):
    """A chunk of a partition with the windows before a time as they were before."""

    keys: bytes
    states: dict[str, bytes]
    rows: int


def count_late(old: bytes | None, new: bytes | None, closed: int, frozen: int | None) -> Late:
    """Compare a chunk of a partition, as encoded keys, with what it was.

    Windows that began before ``closed`` are closed; those before ``frozen`` take nothing any more.
    Both in microseconds since 1970.
    """
    before, after = _counts(old, closed), _counts(new, closed)
    found = Late()
    for group in before.keys() | after.keys():
        more = after.get(group, 0) - before.get(group, 0)
        if frozen is not None and group[0] < frozen:
            found.quarantined += abs(more)
        elif more > 0:
            found.folded += more
        else:
            found.removed -= more
    return found


def _counts(data: bytes | None, closed: int) -> dict[tuple[Any, ...], int]:
    if data is None:
        return {}
    keys = decode(data)
    keys = keys.filter(as_arrow(as_numpy(keys.column("w")) < closed))
    columns = [_equal(keys.column(name)) for name in keys.column_names if name != "n"]
    return dict(zip(zip(*columns, strict=True), keys.column("n").to_pylist(), strict=True))


def _equal(column: pa.ChunkedArray) -> list[Any]:
    """Keys of groups; NaN is one, and equals itself where it is the same object."""
    found: list[Any] = column.to_pylist()
    return [math.nan if one != one else one for one in found]  # noqa: PLR0124


def splice(
    old: tuple[bytes, Mapping[str, bytes]] | None,
    new: tuple[bytes, Mapping[str, bytes]] | None,
    frozen: int,
) -> Spliced:
    """Take windows before ``frozen`` from what was, the others from what is; one may be absent."""
    sides = [(one, after) for one, after in ((old, False), (new, True)) if one is not None]
    names = list(sides[-1][0][1])
    keys: list[pa.Table] = []
    states: dict[str, list[pa.Table]] = {name: [] for name in names}
    for (side_keys, side_states), after in sides:
        table = decode(side_keys)
        early = as_numpy(table.column("w")) < frozen
        mask = as_arrow(~early if after else early)
        keys.append(table.filter(mask))
        for name in names:
            states[name].append(decode(side_states[name]).filter(mask))
    whole = together(keys)
    joined = {name: encode(together(some)) for name, some in states.items()}
    return Spliced(encode(whole), joined, int(pc.sum(whole.column("n")).as_py() or 0))
