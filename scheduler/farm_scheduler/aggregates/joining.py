"""Tables of one meaning, whose types may differ, as one."""

from collections.abc import Sequence

import pyarrow as pa

__all__ = ["together"]


def together(tables: Sequence[pa.Table]) -> pa.Table:
    """One table of several, of the wider type where they differ; nothing but NULL has any type."""
    first = tables[0].schema
    if not all(one.schema.equals(first) for one in tables):
        tables = [_untyped(one) for one in tables]
    return pa.concat_tables(tables, promote_options="permissive")


def _untyped(table: pa.Table) -> pa.Table:
    for at, name in enumerate(table.column_names):
        if table.column(at).null_count == table.num_rows:
            table = table.set_column(at, name, pa.nulls(table.num_rows))
    return table
