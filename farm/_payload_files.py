"""Pickling large values right into the files that will carry them."""

from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol

from farm._payload_captures import ATOMS
from farm.errors import PayloadError
from farm.model import Payload

__all__ = ["PAYLOAD_BYTES_MAX", "Files", "Writing", "check_size", "has_any", "stream"]

PAYLOAD_BYTES_MAX = 64 << 20
"""The largest payload; the protocol's limit of the same name."""


class Writing(Protocol):
    """A payload that is being written, see ``farm.blobs.Writer``."""

    def write(self, data: Any) -> int:
        """More of it."""

    def finish(self) -> Payload:
        """The whole."""

    def drop(self) -> None:
        """It is not wanted after all."""


class Files(Protocol):
    """Where large payloads are kept, see ``farm.blobs.Blobs``."""

    least: int
    """Payloads of at least this size are."""

    def begin(self, hint: int) -> Writing:
        """Write a payload of about ``hint`` bytes."""

    def keep(self, data: bytes) -> Payload:
        """A payload that is in memory already."""


class _Scanner:
    """A file that sees whether a pickle names something that is to travel by value."""

    def __init__(self, file: Writing, names: Callable[[bytes], bool]) -> None:
        self.found = False
        self._file = file
        self._names = names

    def write(self, data: Any) -> int:
        # What is no bytes is the inside of a buffer, and names nothing.
        if type(data) is bytes and self._names(data):
            self.found = True
        return self._file.write(data)


def has_any(data: bytes, names: Collection[str]) -> bool:
    """Whether a pickle has one of these names in it."""
    return bool(names) and any(data.find(name.encode()) >= 0 for name in names)


def stream(
    dump: Callable[[Any], None],
    parts: Sequence[Any],
    writing: Writing,
    names: Callable[[bytes], bool],
) -> Payload | None:
    """A plain pickle of ``parts``; None if it has none, or something is to travel by value.

    ``dump(file)`` pickles; ``names`` says whether pickled bytes may name such a thing.
    """
    try:
        if ATOMS.issuperset(map(type, parts)):  # they name nothing
            dump(writing)
            return writing.finish()
        scanner = _Scanner(writing, names)
        dump(scanner)
        if not scanner.found:
            return writing.finish()
    except Exception:  # noqa: BLE001, S110 -- the caller pickles it otherwise, or hears why not
        pass
    except BaseException:
        writing.drop()
        raise
    writing.drop()
    return None


def check_size(size: int, what: str, limit: int = PAYLOAD_BYTES_MAX) -> None:
    """Raise ``PayloadError`` if a payload of ``size`` bytes is too large to travel inline."""
    if size > limit:
        raise PayloadError(
            f"{what} is {size / 2**20:,.1f} MiB when pickled, and at most {limit / 2**20:g} MiB "
            "can be sent; send a path or a key instead and read it in the task, or split it"
        )
