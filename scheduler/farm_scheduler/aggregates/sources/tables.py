"""Rows in memory as a relation of DuckDB."""

from collections.abc import Collection
from functools import partial
from typing import Any

import pyarrow as pa

from farm_scheduler.aggregates.measures import quoted
from farm_scheduler.aggregates.sources.base import Opened

__all__ = ["opened_table"]

NAME = "farm_rows"


def opened_table(db: Any, table: pa.Table, wanted: Collection[str]) -> Opened:
    """A table that can be queried until it is closed. One without rows has all that is wanted."""
    if not table.num_rows:
        columns = dict.fromkeys([*table.column_names, *wanted], '"NULL"')
        nothing = ", ".join(f"NULL AS {quoted(name)}" for name in columns)
        return Opened(f"(SELECT {nothing} WHERE false)", columns, _nothing)
    db.register(NAME, table)
    found = db.execute(f"DESCRIBE {NAME}").fetchall()
    columns = {name: kind for name, kind, *_ in found}
    return Opened(NAME, columns, partial(db.unregister, NAME))


def _nothing() -> None:
    """There is nothing to let go of."""
