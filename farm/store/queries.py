"""The SQL of the store, kept in files: the schema, and statements by name."""

import re
from functools import cache
from pathlib import Path

__all__ = ["load_queries", "load_schema"]

_FOLDER = Path(__file__).with_name("sql")


def load_schema() -> str:
    """The statements that make an empty store."""
    return (_FOLDER / "schema.sql").read_text("utf-8")


@cache
def load_queries() -> dict[str, str]:
    """Every statement of ``sql/sqlite.sql`` by the name in the comment above it."""
    text = (_FOLDER / "sqlite.sql").read_text("utf-8")
    text = re.sub(r"^--(?! name:).*\n", "", text, flags=re.MULTILINE)
    parts = re.split(r"^-- name: (\w+)$", text, flags=re.MULTILINE)[1:]
    return {
        name: sql.strip().rstrip(";") for name, sql in zip(parts[::2], parts[1::2], strict=True)
    }
