"""What a worker does with a partition: reads it, and makes states of its rows.

The file is hashed before and looked at again after it was read, so that states belong to exactly
the bytes of the fingerprint; one that changed meanwhile is read again.
"""

import difflib
import re
import time
from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple

from farm.errors import ConfigError
from farm_scheduler.aggregates.arrays import as_numpy
from farm_scheduler.aggregates.engine import (
    Lift,
    Piece,
    Unfit,
    connection,
    encode,
    kind_of,
    lift_rows,
)
from farm_scheduler.aggregates.measures import Columns, Measure, quoted
from farm_scheduler.aggregates.sources import Opened, Partition, PartitionError, Source, reason_of
from farm_scheduler.aggregates.windows import Level, chunk_of, chunk_span

__all__ = ["Failed", "Leaf", "LeafChunk", "Recipe", "lift"]

TRIES = 5
PAUSE_SECONDS = 0.2


class Recipe(NamedTuple):
    """How partitions of one aggregate are lifted."""

    source: Source
    by: tuple[str, ...]
    every: Level
    measures: Mapping[str, Measure]


class LeafChunk(NamedTuple):
    """What a partition has of one chunk: encoded keys, encoded states, and how many rows."""

    keys: bytes
    states: dict[str, bytes]
    rows: int


class Leaf(NamedTuple):
    """A partition that was lifted."""

    partition: Partition
    fingerprint: str
    kinds: Columns
    undated: int
    last: int | None
    chunks: dict[str, LeafChunk]
    seconds: float


class Failed(NamedTuple):
    """A partition that was not, and why."""

    partition: Partition
    message: str


def lift(recipe: Recipe, wanted: tuple[Partition, tuple[str, ...]]) -> Leaf | Failed:
    """Lift the measures of these names of a partition. What is wrong with it is no exception."""
    partition, names = wanted
    began = time.process_time()
    measures = {name: recipe.measures[name] for name in names}
    try:
        partition, fingerprint, found = _lift_settled(recipe, partition, measures)
    except (PartitionError, ConfigError) as error:
        return Failed(partition, str(error))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the user's own code: the others go on
        return Failed(partition, f"{partition.name}: {type(error).__name__}: {error}")
    chunks = _split(found.piece, recipe.every)
    spent = time.process_time() - began
    return Leaf(partition, fingerprint, found.kinds, found.undated, found.last, chunks, spent)


def _lift_settled(
    recipe: Recipe, partition: Partition, measures: Mapping[str, Measure]
) -> tuple[Partition, str, Lift]:
    """Lift a partition that is afterwards as it was before."""
    for _ in range(TRIES):
        fingerprint = recipe.source.fingerprint(partition)
        found = _lift(recipe, partition, measures, careful=False)
        now = recipe.source.again(partition)
        if now is None:
            raise PartitionError(f"{partition.name} was removed while it was read")
        if now.mark == partition.mark:
            return partition, fingerprint, found
        partition = now
        time.sleep(PAUSE_SECONDS)
    raise PartitionError(
        f"{partition.name} changed each time that it was read; write it under another name and "
        "rename it when it is whole"
    )


def _lift(
    recipe: Recipe, partition: Partition, measures: Mapping[str, Measure], *, careful: bool
) -> Lift:
    source, db = recipe.source, connection()
    named = {column for measure in recipe.measures.values() for column in measure.columns}
    words = {
        *named,
        *recipe.by,
        *re.findall(r"\w+", f"{source.time} {getattr(source, 'where', '')}"),
    }
    opened = source.open(partition, db, wanted=words, careful=careful)
    try:
        try:
            _check_columns(recipe, partition, opened)
            kinds = {name: kind_of(kind) for name, kind in opened.columns.items()}
            at, step = _moment(source, partition, opened), recipe.every.step
            return lift_rows(
                opened.relation, at, recipe.by, step, measures, kinds, sorted(named),
                sniffed=opened.sniffed,
            )  # fmt: skip
        except (PartitionError, Unfit, db_error()) as error:
            if opened.guessed:  # wrongly, perhaps
                return _lift(recipe, partition, measures, careful=True)
            if isinstance(error, PartitionError):
                raise
            if isinstance(error, Unfit):
                raise PartitionError(f"{partition.name}: {error}") from error
            raise PartitionError(f"{partition.name} cannot be read: {reason_of(error)}") from error
    finally:
        opened.close()


def db_error() -> type[Exception]:
    """What DuckDB raises."""
    import duckdb  # noqa: PLC0415 - for its name only

    return duckdb.Error


def _check_columns(recipe: Recipe, partition: Partition, opened: Opened) -> None:
    needs = [(f"by={list(recipe.by)}", name) for name in recipe.by]
    needs += [(str(m), column) for m in recipe.measures.values() for column in m.columns]
    for what, column in needs:
        if column not in opened.columns:
            near = difflib.get_close_matches(column, opened.columns, 1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise PartitionError(
                f"{partition.name} has no column {column!r}, which {what} needs{hint} It has "
                + ", ".join(sorted(opened.columns))
            )


def _moment(source: Source, partition: Partition, opened: Opened) -> str:
    """SQL for microseconds since 1970 of a row's time, NULL where that cannot be read."""
    time_sql = quoted(source.time) if source.time in opened.columns else f"({source.time})"
    kind = opened.columns.get(source.time) or _type_of(time_sql, source, partition, opened)
    if kind == "TIMESTAMP WITH TIME ZONE":
        return f"epoch_us({time_sql})"
    if kind_of(kind) in ("whole", "real"):
        return f"try_cast(round({time_sql}::DOUBLE * 1000000) AS BIGINT)"
    naive = f"try_cast({time_sql} AS TIMESTAMP)"
    local = _in_zone(naive, source.zone)
    if kind_of(kind) != "text":
        return local
    return (
        f"CASE WHEN regexp_matches({time_sql}, '\\d([Zz]|[+-]\\d\\d(:?\\d\\d)?)$') AND "
        f"contains({time_sql}, ':') THEN epoch_us(try_cast({time_sql} AS TIMESTAMPTZ)) "
        f"ELSE {local} END"
    )


def _type_of(term: str, source: Source, partition: Partition, opened: Opened) -> str:
    query = f"SELECT {term} FROM {opened.relation}"  # noqa: S608
    try:
        ((_, kind, *_),) = connection().execute(f"DESCRIBE {query}").fetchall()
    except db_error() as error:
        has = ", ".join(sorted(opened.columns))
        raise PartitionError(
            f"{partition.name}: time={source.time!r} is neither a column nor SQL: "
            f"{reason_of(error)}. It has {has}"
        ) from error
    return str(kind)


def _in_zone(naive: str, zone: str) -> str:
    if zone == "UTC":
        return f"epoch_us({naive})"
    if match := re.fullmatch(r"([+-])(\d\d):(\d\d)", zone):
        minutes = (int(match[2]) * 60 + int(match[3])) * (1 if match[1] == "+" else -1)
        return f"(epoch_us({naive}) - {minutes * 60_000_000})"
    return f"epoch_us(timezone('{zone}', {naive}))"


def _split(piece: Piece, every: Level) -> dict[str, LeafChunk]:
    """A piece by chunk; its rows are in order of window, so a chunk is a slice."""
    starts = as_numpy(piece.keys.column("w"))
    counts = as_numpy(piece.keys.column("n"))
    found: dict[str, LeafChunk] = {}
    if not len(starts):
        return found
    begins = [0]
    while begins[-1] < len(starts):
        until = chunk_span(chunk_of(every, int(starts[begins[-1]])))[1]
        begins.append(int(starts.searchsorted(until)))
    for begin, end in pairwise(begins):
        size = end - begin
        states = {name: encode(one.slice(begin, size)) for name, one in piece.states.items()}
        rows = int(counts[begin:end].sum())
        chunk = chunk_of(every, int(starts[begin]))
        found[chunk] = LeafChunk(encode(piece.keys.slice(begin, size)), states, rows)
    return found
