"""Everything of a store that is not in its SQLite file: what backup, check and restore must mind.

The file of large rows is one (``farm.store.large``): its rows are named by the journal's own. Any
folder whose files are named by records is another; it is listed here, once, and then copied,
checked and restored with the rest. The folder of blobs is (``farm.store.blob_files``).
"""

from collections.abc import Callable, Container
from typing import NamedTuple, Protocol

from farm.protocol.records import Record
from farm.store.blob_files import BlobFiles

__all__ = ["SIDE_FILES", "SIDE_FOLDERS", "NamedFiles", "SideFolder", "side_suffixes"]

SIDE_FILES = ("-large", "-wal", "-shm")
"""Beside the store, by suffix; the last two are SQLite's, of a store that was not closed."""


class NamedFiles(Protocol):
    """Which files of a folder the records of a store need."""

    def add(self, ref: int, record: Record) -> None:
        """A record of the store."""

    def needed(self, refs: Container[int]) -> dict[str, tuple[int, int]]:
        """The files that are needed when these records are there: ``(ref, size)`` by name.

        Other records that were added are forgotten. ``ref`` is of a record that names the file.
        """


class SideFolder(NamedTuple):
    """A folder beside the store, ``<store><suffix>``, with files that records name.

    A file is whole when a record that names it is committed. As long as records need it, it has
    its name, under which it is never changed; under no other will it have that name again.
    """

    suffix: str
    files: Callable[[], NamedFiles]


SIDE_FOLDERS: tuple[SideFolder, ...] = (SideFolder("-blobs/kept", BlobFiles),)
"""All of them."""


def side_suffixes() -> tuple[str, ...]:
    """The suffixes of everything that belongs to a store beside its own file."""
    return (*SIDE_FILES, *(folder.suffix for folder in SIDE_FOLDERS))
