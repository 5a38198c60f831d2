"""Everything of a store that is not in its SQLite file: what backup, check and restore must mind.

The file of large rows is one (``farm.store.large``): its rows are named by the journal's own. Any
folder whose files are named by records is another; it is listed here, once, and then copied,
checked and restored with the rest.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from farm.protocol.records import Record

__all__ = ["SIDE_FILES", "SIDE_FOLDERS", "SideFolder", "side_suffixes"]

SIDE_FILES = ("-large", "-wal", "-shm")
"""Beside the store, by suffix; the last two are SQLite's, of a store that was not closed."""


class SideFolder(NamedTuple):
    """A folder beside the store, ``<store><suffix>``, with files that records name.

    ``files`` gives the path inside the folder and the size of each file that a record names. A
    file is whole when such a record is committed, and does not change as long as there is one.
    """

    suffix: str
    files: Callable[[Record], Iterator[tuple[str, int]]]


SIDE_FOLDERS: tuple[SideFolder, ...] = ()
"""All of them."""


def side_suffixes() -> tuple[str, ...]:
    """The suffixes of everything that belongs to a store beside its own file."""
    return (*SIDE_FILES, *(folder.suffix for folder in SIDE_FOLDERS))
