"""What a worker does with the states of several nodes: one node above them, and its values."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc

from farm_scheduler.aggregates.arrays import as_arrow, as_numpy
from farm_scheduler.aggregates.engine import Piece, decode, encode, finish, merge_pieces
from farm_scheduler.aggregates.measures import Columns, Measure
from farm_scheduler.aggregates.windows import Level, Levels, chunk_span

__all__ = ["Merge", "Merged", "Sent", "merge"]


class Sent(NamedTuple):
    """A node as bytes: its keys, and states by measure."""

    keys: bytes
    states: Mapping[str, bytes]


class Merge(NamedTuple):
    """What to make: a chunk of a level out of nodes of the level below, or of the same.

    ``merged`` has states that need no merging, ``finish`` whether values are wanted.
    """

    level: Level
    chunk: str
    children: Sequence[Sent]
    names: tuple[str, ...]
    merged: Sent | None
    finish: bool


class Merged(NamedTuple):
    """What was made: states that were not there before, and values, empty unless wanted."""

    node: Sent
    values: bytes
    rows: int


def merge(levels: Levels, measures: Mapping[str, Measure], columns: Columns, work: Merge) -> Merged:
    """Merge the measures of ``names`` and finish all."""
    made = Sent(b"", {}) if work.merged is None else work.merged
    piece = None if work.merged is None else _read(work.merged, tuple(work.merged.states))
    if work.names or piece is None:
        parts = [_within(levels, work, _read(one, work.names)) for one in work.children]
        fresh = merge_pieces(parts, {name: measures[name] for name in work.names})
        states = {name: encode(table) for name, table in fresh.states.items()}
        made = Sent(encode(fresh.keys), {**made.states, **states})
        piece = Piece(fresh.keys, {**fresh.states, **(piece.states if piece else {})})
    values = b""
    if work.finish:
        values = encode(finish(piece, measures, columns))
    new = {name: made.states[name] for name in work.names}
    return Merged(Sent(made.keys, new), values, int(pc.sum(piece.keys.column("n")).as_py() or 0))


def _read(node: Sent, names: Sequence[str]) -> Piece:
    return Piece(decode(node.keys), {name: decode(node.states[name]) for name in names})


def _within(levels: Levels, work: Merge, piece: Piece) -> Piece:
    """A piece with the windows of the level to make, of which only those of the chunk are kept."""
    if work.level not in levels.below:  # it is of that chunk already
        return piece
    starts, places = np.unique(as_numpy(piece.keys.column("w")), return_inverse=True)
    starts = np.array(levels.parents(work.level, starts.tolist()), np.int64)
    since, until = chunk_span(work.chunk)
    inside = (starts >= since) & (starts < until)
    piece = Piece(piece.keys.set_column(0, "w", as_arrow(starts[places])), piece.states)
    if inside.all():
        return piece
    mask = as_arrow(inside[places])
    return Piece(
        piece.keys.filter(mask), {name: one.filter(mask) for name, one in piece.states.items()}
    )
