"""Kinds of columns, apart from what needs Arrow: who only lists versions loads nothing more."""

from typing import Literal

__all__ = ["Columns", "Kind"]

Kind = Literal["whole", "real", "boolean", "text", "time", "other", "null"]
"""What is in a column; ``null``: nothing but NULL, which goes with every other kind."""
Columns = dict[str, Kind]
"""Which kind each column is of, by name."""
