"""DuckDB and Arrow: rows to states, states to states, states to values.

All of it runs in memory, on one thread, in whichever process calls: a worker of the farm as a rule.
What comes out is in order of window and keys, and equal inputs give equal bytes.
"""

import functools
import re
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from farm_scheduler.aggregates.arrays import as_arrow, as_numpy, is_there
from farm_scheduler.aggregates.grouping import Groups, group
from farm_scheduler.aggregates.joining import together
from farm_scheduler.aggregates.measures import Columns, Grouped, Kind, Measure, given, quoted
from farm_scheduler.aggregates.measures.wholes import Wholes
from farm_scheduler.aggregates.windows import CALENDAR_SPAN

__all__ = [
    "Lift",
    "Piece",
    "Unfit",
    "connection",
    "decode",
    "encode",
    "finish",
    "kind_of",
    "lift_rows",
    "merge_pieces",
]

KEY_TYPES: dict[Kind, str] = {
    "whole": "BIGINT", "real": "DOUBLE", "boolean": "BOOLEAN", "time": "TIMESTAMP",
    "text": "VARCHAR", "other": "VARCHAR", "null": "VARCHAR",
}  # fmt: skip
KINDS: dict[str, Kind] = {
    **dict.fromkeys(
        ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT",
         "UINTEGER", "UBIGINT", "UHUGEINT"), "whole"),
    **dict.fromkeys(("FLOAT", "DOUBLE"), "real"),
    **dict.fromkeys(("VARCHAR", "UUID", "ENUM"), "text"),
    **dict.fromkeys(("DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE", "TIMESTAMP_S",
                     "TIMESTAMP_MS", "TIMESTAMP_NS"), "time"),
    "BOOLEAN": "boolean", '"NULL"': "null", "NULL": "null",
}  # fmt: skip
# Threads for one small table cost more than they take off.
OPTIONS = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", 1), use_threads=False)
READING = pa.ipc.IpcReadOptions(use_threads=False)


_LIKE_NO_TEXT = re.compile(r"[+-]?(\d|\.\d)[\d.,:eE+/TZ -]*|true|false", re.IGNORECASE)
"""Numbers, times and truths."""


class Piece(NamedTuple):
    """States of groups, a row for each, in order of its keys.

    ``keys`` has ``w``, the start of its window, ``k0`` … , and ``n``, how many rows it has;
    ``states`` the same rows for every measure.
    """

    keys: pa.Table
    states: dict[str, pa.Table]


class Unfit(ValueError):
    """A column is of no kind that a measure can be made of."""


class Lift(NamedTuple):
    """A piece, how many rows had no time, and the first and last time, if any had one.

    ``kinds`` are those of its columns, in which nothing but NULL is ``null``.
    """

    piece: Piece
    kinds: Columns
    undated: int
    first: int | None
    last: int | None


@functools.cache
def connection() -> duckdb.DuckDBPyConnection:
    """This process's DuckDB: in memory, one thread, UTC; used by one thread at a time."""
    found = duckdb.connect(config={"threads": 1, "autoinstall_known_extensions": False})
    found.execute("SET TimeZone='UTC'")
    return found


def kind_of(duckdb_type: str) -> Kind:
    """What kind of column a DuckDB type is."""
    base = duckdb_type.partition("(")[0]
    return "real" if base == "DECIMAL" else KINDS.get(base, "other")


def encode(table: pa.Table) -> bytes:
    """A table as compressed Arrow IPC; equal tables give equal bytes."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=OPTIONS) as writer:
        writer.write_table(pa.table([_clean(one) for one in table.columns], schema=table.schema))
    found: bytes = sink.getvalue().to_pybytes()
    return found


def _clean(column: pa.ChunkedArray) -> pa.Array:
    """A column in one piece, with zeros where it is NULL: there may be anything in memory there."""
    whole = column.combine_chunks()
    if not whole.null_count or not _is_fixed(whole.type):
        return whole
    if whole.null_count == len(whole):
        return pa.nulls(len(whole), whole.type)
    there = whole.is_valid()
    if pa.types.is_boolean(whole.type):
        data = as_arrow(as_numpy(whole, False)).buffers()[1]
    else:
        width, start = whole.type.bit_width // 8, whole.offset
        every = np.frombuffer(whole.buffers()[1], np.uint8).reshape(-1)
        cells = every[start * width : (start + len(whole)) * width].reshape(-1, width).copy()
        cells[~is_there(whole)] = 0
        data = pa.py_buffer(cells)
    return pa.Array.from_buffers(whole.type, len(whole), [there.buffers()[1], data])


def _is_fixed(kind: pa.DataType) -> bool:
    """Whether values are in one buffer, each as long as the others."""
    return bool(pa.types.is_primitive(kind) or pa.types.is_decimal(kind))


def decode(data: bytes) -> pa.Table:
    """The table of these bytes."""
    with pa.ipc.open_stream(data, options=READING) as reader:
        return reader.read_all()


def lift_rows(  # noqa: PLR0913 - what is read, and how it is summed up
    source: str, at: str, by: Sequence[str], step: int, measures: Mapping[str, Measure],
    columns: Columns, more: Sequence[str] = (), *, sniffed: Collection[str] = (),
) -> Lift:  # fmt: skip
    """States of the windows of ``step`` microseconds of a relation, by ``measures``' names.

    ``source`` is a relation in SQL, ``at`` an expression for microseconds since 1970 in UTC; rows
    for which that is NULL, or in no calendar, are counted and left out. ``columns`` says of which
    kind its columns are. The kinds of ``more`` columns are told as well. Raises ``Unfit``, also if
    one of those that are ``sniffed`` is perhaps no text.
    """
    named = {column for measure in measures.values() for column in measure.columns} | {*more}
    terms = {name: f"k{number}" for number, name in enumerate(by)}
    taken = [f"{at} AS moment", *(_key(name, columns[name], key) for name, key in terms.items())]
    taken += [f"{quoted(name)} AS {given(name)}" for name in sorted(named)]
    every = connection().sql(f"SELECT {', '.join(taken)} FROM {source}").to_arrow_table()  # noqa: S608
    known_as = terms | {name: f"c:{name}" for name in named}
    kinds = _kinds(every, columns, known_as)
    texts = {name: known_as[name] for name in known_as if name in sniffed and kinds[name] == "text"}
    if name := _no_text(every, texts):
        raise Unfit(f"column {name!r} looks like text at first only")
    for measure in measures.values():
        if wrong := measure.fit(kinds):
            raise Unfit(wrong)
    rows = _dated(every)
    moments = as_numpy(rows.column("moment"))
    windows = pa.chunked_array([as_arrow(moments - moments % step)])
    keys = pa.table({"w": windows, **{key: rows.column(key) for key in terms.values()}})
    groups = group(keys.columns)
    counts = as_arrow(np.bincount(groups.of, minlength=groups.size))
    piece = Piece(keys.take(as_arrow(groups.rows)).append_column("n", counts), {})
    grouped = rows.drop_columns(["moment", *terms.values()])
    piece.states.update(_lifted(grouped.append_column("g", as_arrow(groups.of)), groups.size,
                                measures, kinds))  # fmt: skip
    first, last = (int(moments.min()), int(moments.max())) if len(moments) else (None, None)
    return Lift(piece, kinds, every.num_rows - rows.num_rows, first, last)


def _dated(rows: pa.Table) -> pa.Table:
    """Those of the rows that have a time which is in the calendar, as it is in every zone."""
    moments = rows.column("moment")
    if moments.null_count:
        rows = rows.filter(pc.is_valid(moments))
        moments = rows.column("moment")
    since, until = CALENDAR_SPAN
    if len(moments) and not (pc.min(moments).as_py() >= since and pc.max(moments).as_py() < until):
        inside = pc.and_(pc.greater_equal(moments, since), pc.less(moments, until))
        rows = rows.filter(inside)
    return rows


def _key(name: str, kind: Kind, known: str) -> str:
    cast = f"{quoted(name)}::{KEY_TYPES[kind]}"
    return f"{cast} + 0.0 AS {known}" if kind == "real" else f"{cast} AS {known}"  # -0 is 0


def _kinds(rows: pa.Table, columns: Columns, terms: Mapping[str, str]) -> Columns:
    """The kinds of the columns that were taken. Where types were guessed, NULL looks like text."""
    return {
        name: "null"
        if columns[name] in ("text", "other") and rows.column(term).null_count == rows.num_rows
        else columns[name]
        for name, term in terms.items()
    }


def _no_text(rows: pa.Table, texts: Mapping[str, str]) -> str:
    """A column, if there is one, of which the first text would not be taken for one."""
    for name, term in texts.items():
        column = rows.column(term)
        first = column[pc.index(pc.is_valid(column), value=True).as_py()].as_py()
        if _LIKE_NO_TEXT.fullmatch(first.strip()):
            return name
    return ""


def _query(text: str, /, **tables: pa.Table) -> pa.Table:
    """What SQL makes of tables."""
    db = connection()
    for name, table in tables.items():
        db.register(name, table)
    try:
        return db.sql(text).to_arrow_table()
    finally:
        for name in tables:
            db.unregister(name)


def _lifted(
    rows: pa.Table, count: int, measures: Mapping[str, Measure], kinds: Columns
) -> dict[str, pa.Table]:
    wholes, grouped = Wholes(rows, count, kinds), Grouped(rows, count, _query)
    terms: dict[str, Sequence[str]] = {}
    found: dict[str, pa.Table] = {}
    for name, measure in measures.items():
        if columns := measure.lift_wholes(wholes):
            found[name] = pa.table({f"s{at}": one for at, one in enumerate(columns)})
        elif plain := measure.lift_sql(kinds):
            terms[name] = plain
        else:
            found[name] = measure.lift_groups(grouped, kinds)
    return found | _together(terms, rows)


def _together(terms: Mapping[str, Sequence[str]], rows: pa.Table) -> dict[str, pa.Table]:
    """One pass for all states that are plain expressions; every group has a row."""
    flat = [
        f"{term} AS s{number}_{at}"
        for number, one in enumerate(terms.values())
        for at, term in enumerate(one)
    ]
    if not flat:
        return {}
    every = _query(f"SELECT g, {', '.join(flat)} FROM rows GROUP BY g", rows=rows)  # noqa: S608
    every = every.take(as_arrow(np.argsort(as_numpy(every.column("g")))))
    return {
        name: every.select([f"s{number}_{at}" for at in range(len(one))]).rename_columns(
            [f"s{at}" for at in range(len(one))]
        )
        for number, (name, one) in enumerate(terms.items())
        if one
    }


def merge_pieces(pieces: Sequence[Piece], measures: Mapping[str, Measure]) -> Piece:
    """One piece of several, each group once. The order of the pieces is that of their merging."""
    keys = together([one.keys for one in pieces])
    groups = group([keys.column(name) for name in keys.column_names if name != "n"])
    rows = as_arrow(groups.rows)
    states = {name: together([one.states[name] for one in pieces]) for name in measures}
    if groups.size == keys.num_rows:  # every group is there once: nothing to merge
        return Piece(keys.take(rows), {name: one.take(rows) for name, one in states.items()})
    counts = np.zeros(groups.size, np.int64)
    np.add.at(counts, groups.of, as_numpy(keys.column("n")))
    at = keys.schema.get_field_index("n")
    merged = keys.take(rows).set_column(at, "n", as_arrow(counts))
    return Piece(merged, _merged(states, groups, measures))


def _merged(
    states: Mapping[str, pa.Table], groups: Groups, measures: Mapping[str, Measure]
) -> dict[str, pa.Table]:
    """States of which several may be of one group, as one for each group."""
    g = as_arrow(groups.of)
    plain: dict[str, Sequence[str]] = {}
    columns = {"g": pa.chunked_array([g])}
    found: dict[str, pa.Table] = {}
    for number, (name, measure) in enumerate(measures.items()):
        own = [f"in{number}_{at}" for at in range(states[name].num_columns)]
        plain[name] = measure.merge_sql(own)
        if plain[name]:
            columns |= dict(zip(own, states[name].columns, strict=True))
        else:
            table = states[name].append_column("g", g)
            found[name] = measure.merge_groups(Grouped(table, groups.size, _query))
    return found | _together(plain, pa.table(columns))


def finish(piece: Piece, measures: Mapping[str, Measure], columns: Columns) -> pa.Table:
    """Values: the keys, a column for each measure and, beside those not exact, ``name ±``."""
    table = piece.keys
    terms: dict[str, str] = {}
    taken: dict[str, pa.ChunkedArray] = {}
    for number, (name, measure) in enumerate(measures.items()):
        own = [f"in{number}_{at}" for at in range(piece.states[name].num_columns)]
        if term := measure.finish_sql(own, columns):
            terms[name] = term
            taken |= dict(zip(own, piece.states[name].columns, strict=True))
    plain: dict[str, pa.Table] = {}
    if terms:  # one query for all; rows of a table in memory stay in order
        chosen = ", ".join(f"{term} AS v{number}" for number, term in enumerate(terms.values()))
        found = _query(f"SELECT {chosen} FROM states", states=pa.table(taken))  # noqa: S608
        plain = {
            name: pa.table({"v": column}) for name, column in zip(terms, found.columns, strict=True)
        }
    for name, measure in measures.items():
        values = measure.finish(plain.get(name, piece.states[name]), columns)
        table = table.append_column(f"m:{name}", values.value)
        if values.error is not None:
            table = table.append_column(f"e:{name}", values.error)
    return table
