"""DuckDB and Arrow: rows to states, states to states, states to values.

All of it runs in memory, on one thread, in whichever process calls: a worker of the farm as a rule.
What comes out is in order of window and keys, and equal inputs give equal bytes.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import duckdb
import numpy as np
import pyarrow as pa

from farm_scheduler.aggregates.joining import together
from farm_scheduler.aggregates.measures import Columns, Custom, Kind, Measure, given, quoted

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
OPTIONS = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", 1))


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
    there = whole.is_valid()
    if pa.types.is_boolean(whole.type):
        data = whole.fill_null(False).buffers()[1]
    else:
        width, start = whole.type.bit_width // 8, whole.offset
        every = np.frombuffer(whole.buffers()[1], np.uint8).reshape(-1)
        cells = every[start * width : (start + len(whole)) * width].reshape(-1, width).copy()
        cells[~there.to_numpy(zero_copy_only=False)] = 0
        data = pa.py_buffer(cells)
    return pa.Array.from_buffers(whole.type, len(whole), [there.buffers()[1], data])


def _is_fixed(kind: pa.DataType) -> bool:
    """Whether values are in one buffer, each as long as the others."""
    return bool(pa.types.is_primitive(kind) or pa.types.is_decimal(kind))


def decode(data: bytes) -> pa.Table:
    """The table of these bytes."""
    with pa.ipc.open_stream(data) as reader:
        return reader.read_all()


def lift_rows(
    source: str, at: str, by: Sequence[str], step: int, measures: Mapping[str, Measure],
    columns: Columns, more: Sequence[str] = (),
) -> Lift:  # fmt: skip
    """States of the windows of ``step`` microseconds of a relation, by ``measures``' names.

    ``source`` is a relation in SQL, ``at`` an expression for microseconds since 1970 in UTC; rows
    for which that is NULL are counted and left out. ``columns`` says of which kind its columns are.
    The kinds of ``more`` columns are told as well. Raises ``Unfit``.
    """
    db = connection()
    named = {column for measure in measures.values() for column in measure.columns}
    names = sorted({*named, *more})
    window = f"(moment - ((moment % {step}) + {step}) % {step})"
    keys = [_key(name, columns[name], f"k{number}") for number, name in enumerate(by)]
    chosen = ", ".join([f"{at} AS moment", *keys, *(f"{quoted(n)} AS {given(n)}" for n in names)])
    own = ", ".join(["w", *(f"k{number}" for number in range(len(keys)))])
    try:
        db.execute(
            f"CREATE OR REPLACE TEMP TABLE raw AS SELECT {window} AS w, * "  # noqa: S608
            f"FROM (SELECT {chosen} FROM {source})"
        )
        terms = {name: f"k{number}" for number, name in enumerate(by)}
        kinds = _kinds(db, columns, terms | {name: given(name) for name in names})
        for measure in measures.values():
            if wrong := measure.fit(kinds):
                raise Unfit(wrong)
        _group(db, own, sorted(named))
        undated, first, last = db.execute(
            "SELECT count(*) - count(moment), min(moment), max(moment) FROM raw"
        ).fetchall()[0]
        keys_table = db.sql(f"SELECT {own}, n FROM groups ORDER BY g").to_arrow_table()  # noqa: S608
        count = keys_table.num_rows
        asked = {name: one.lift_sql(kinds) for name, one in _plain(measures)}
        states = _answers(db, asked, "rows", count)
        for name, measure in measures.items():
            if isinstance(measure, Custom):
                states[name] = _lift_custom(db, measure)
    finally:
        for table in ("raw", "groups", "rows"):
            db.execute(f"DROP TABLE IF EXISTS {table}")
    return Lift(Piece(keys_table, states), kinds, undated, first, last)


def _key(name: str, kind: Kind, known: str) -> str:
    cast = f"{quoted(name)}::{KEY_TYPES[kind]}"
    return f"{cast} + 0.0 AS {known}" if kind == "real" else f"{cast} AS {known}"  # -0 is 0


def _kinds(db: duckdb.DuckDBPyConnection, columns: Columns, terms: Mapping[str, str]) -> Columns:
    """The kinds of the columns that were taken. Where types were guessed, NULL looks like text."""
    doubtful = [name for name in terms if columns[name] in ("text", "other")]
    found: Columns = {name: columns[name] for name in terms}
    if doubtful:
        counts = ", ".join(f"count({terms[name]})" for name in doubtful)
        (there,) = db.execute(f"SELECT {counts} FROM raw").fetchall()  # noqa: S608
        found.update({name: "null" for name, n in zip(doubtful, there, strict=True) if not n})
    return found


def _group(db: duckdb.DuckDBPyConnection, own: str, names: Sequence[str]) -> None:
    """Number the groups of ``raw``, and its rows by them."""
    db.execute(
        "CREATE OR REPLACE TEMP TABLE groups AS SELECT *, "  # noqa: S608
        f"row_number() OVER (ORDER BY {own}) - 1 AS g "
        f"FROM (SELECT {own}, count(*) AS n FROM raw WHERE w IS NOT NULL GROUP BY {own})"
    )
    same = " AND ".join(f"raw.{one} IS NOT DISTINCT FROM groups.{one}" for one in own.split(", "))
    taken = ", ".join(["g", *map(given, names)])
    db.execute(
        f"CREATE OR REPLACE TEMP TABLE rows AS SELECT {taken} FROM raw JOIN groups ON {same}"  # noqa: S608
    )


def _plain(measures: Mapping[str, Measure]) -> Iterator[tuple[str, Measure]]:
    return ((name, one) for name, one in measures.items() if not isinstance(one, Custom))


def _lift_custom(db: duckdb.DuckDBPyConnection, measure: Custom) -> pa.Table:
    taken = ", ".join(["g", *map(given, measure.columns)])
    rows = db.sql(f"SELECT {taken} FROM rows ORDER BY ALL").to_arrow_table()  # noqa: S608
    groups, *values = rows.columns
    table = pa.Table.from_arrays(values, names=list(measure.columns))
    return pa.table({"s0": pa.array(measure.lift_groups(table, groups.to_numpy()), pa.binary())})


def _answers(
    db: duckdb.DuckDBPyConnection, asked: Mapping[str, str | Sequence[str]], table: str, count: int
) -> dict[str, pa.Table]:
    """The states that are asked for, with a row for every group from 0."""
    found: dict[str, pa.Table] = {}
    together = {name: one for name, one in asked.items() if not isinstance(one, str)}
    if together:
        # One pass for all whose states are plain expressions.
        terms = [
            f"{term} AS s{number}_{at}"
            for number, one in enumerate(together.values())
            for at, term in enumerate(one)
        ]
        every = db.sql(
            f"SELECT {', '.join(terms)} FROM {table} GROUP BY g ORDER BY g"  # noqa: S608
        ).to_arrow_table()
        for number, (name, one) in enumerate(together.items()):
            own = every.select([f"s{number}_{at}" for at in range(len(one))])
            found[name] = own.rename_columns([f"s{at}" for at in range(len(one))])
    for name, query in asked.items():
        if isinstance(query, str):
            found[name] = db.sql(
                f"SELECT * EXCLUDE (g) FROM range({count}) AS one(g) "  # noqa: S608
                f"LEFT JOIN ({query}) USING (g) ORDER BY g"
            ).to_arrow_table()
    return found


def merge_pieces(pieces: Sequence[Piece], measures: Mapping[str, Measure]) -> Piece:
    """One piece of several, each group once. The order of the pieces is that of their merging."""
    keys = together([one.keys for one in pieces])
    own = [name for name in keys.column_names if name != "n"]
    groups, keys_table = _number(keys, own)
    states = {name: together([one.states[name] for one in pieces]) for name in measures}
    count = keys_table.num_rows
    if count == keys.num_rows:  # every group is there once: nothing to merge
        order = pa.array(np.argsort(groups.to_numpy()))
        return Piece(keys_table, {name: one.take(order) for name, one in states.items()})
    numbered = {name: one.append_column("g", groups) for name, one in states.items()}
    return Piece(keys_table, _merged(numbered, measures, count))


def _merged(
    states: Mapping[str, pa.Table], measures: Mapping[str, Measure], count: int
) -> dict[str, pa.Table]:
    """States of which several may be of one group, as one for each group."""
    db = connection()
    found: dict[str, pa.Table] = {}
    for name, measure in measures.items():
        table = states[name]
        if isinstance(measure, Custom):
            own = [table.column(one).to_pylist() for one in ("s0", "g")]
            found[name] = pa.table({"s0": pa.array(measure.merge_groups(*own), pa.binary())})
            continue
        db.register("states", table)
        try:
            found |= _answers(db, {name: measure.merge_sql()}, "states", count)
        finally:
            db.unregister("states")
    return found


def _number(keys: pa.Table, own: Sequence[str]) -> tuple[pa.Array, pa.Table]:
    """The number of each row's group, and the groups in order."""
    db = connection()
    by = ", ".join(own)
    numbered = keys.append_column("row", pa.array(np.arange(keys.num_rows)))
    db.register("keys", numbered)
    try:
        db.execute(
            f"CREATE OR REPLACE TEMP TABLE numbered AS SELECT *, "  # noqa: S608
            f"dense_rank() OVER (ORDER BY {by}) - 1 AS g FROM keys"
        )
        groups = db.sql("SELECT g FROM numbered ORDER BY row").to_arrow_table().column(0)
        table = db.sql(
            f"SELECT {by}, sum(n)::BIGINT AS n FROM numbered GROUP BY g, {by} ORDER BY g"  # noqa: S608
        ).to_arrow_table()
    finally:
        db.execute("DROP TABLE IF EXISTS numbered")
        db.unregister("keys")
    return groups, table.cast(_keys_schema(keys, table))


def _keys_schema(keys: pa.Table, found: pa.Table) -> pa.Schema:
    return pa.schema([keys.schema.field(name) for name in found.column_names])


def finish(piece: Piece, measures: Mapping[str, Measure], columns: Columns) -> pa.Table:
    """Values: the keys, a column for each measure and, beside those not exact, ``name ±``."""
    db = connection()
    numbers = pa.array(np.arange(piece.keys.num_rows))
    table = piece.keys
    for name, measure in measures.items():
        db.register("states", piece.states[name].append_column("g", numbers))
        try:
            values = measure.finish(lambda text: db.sql(text).to_arrow_table(), columns)
        finally:
            db.unregister("states")
        table = table.append_column(f"m:{name}", values.value)
        if values.error is not None:
            table = table.append_column(f"e:{name}", values.error)
    return table
