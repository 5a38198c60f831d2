"""Stores: where the journal of a farm lives.

``open_store`` picks one by its address; ``Store`` says what each of them promises, and one suite
of tests (``tests/conformance``) holds them to it.
"""

import re
from pathlib import Path

from farm.errors import ConfigError
from farm.store.base import (
    Append,
    Delete,
    DropFunctions,
    Opened,
    PutFunction,
    Store,
    StoreFailed,
    StoreFull,
    StoreStalled,
)
from farm.store.memory import MemoryStore

__all__ = [
    "Append",
    "Delete",
    "DropFunctions",
    "Opened",
    "PutFunction",
    "Store",
    "StoreFailed",
    "StoreFull",
    "StoreStalled",
    "open_store",
]


def open_store(address: str | Path) -> Store:
    """The store at ``"memory:"`` or at a path, not opened yet.

    Raises ``ConfigError`` for an empty address or an unknown kind of URL.
    """
    text = str(address)
    if text == "memory:":
        return MemoryStore()
    if not text or re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", text):
        raise ConfigError(f"the store is {text!r}; write a path of a file, or memory:")
    from farm.store.sqlite import SqliteStore  # noqa: PLC0415 - not for one in memory

    return SqliteStore(Path(text).expanduser())
