"""What a source is: partitions that can be listed cheaply, told apart, and read.

A source is pickled and sent to workers, which read it; only listing, and fingerprints of what may
have changed, are done where the aggregate is planned.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple, Protocol

from farm.errors import ConfigError, FarmError

__all__ = ["Opened", "Partition", "PartitionError", "Source", "check_source", "reason_of"]


class PartitionError(FarmError):
    """A partition cannot be read; the others are published without it."""


class Partition(NamedTuple):
    """A slice of a source.

    ``mark`` is cheap to get and changes when the slice may have changed; ``values`` are columns
    that all its rows have, as from the name of a file.
    """

    name: str
    mark: str
    values: Mapping[str, str]


class Opened(NamedTuple):
    """A partition ready to be queried: a relation in DuckDB's SQL, and columns by DuckDB type.

    ``close`` lets go of what was made for it. ``guessed``: types, and which columns there are, are
    as the first rows have it; ``sniffed`` of these are texts, or were nothing in the first rows.
    """

    relation: str
    columns: dict[str, str]
    close: Callable[[], object]
    guessed: bool = False
    sniffed: frozenset[str] = frozenset()


class Source(Protocol):
    """See the module. Reading raises ``PartitionError``, naming the partition."""

    @property
    def time(self) -> str:
        """The column, or SQL expression, that says when a row happened."""

    @property
    def zone(self) -> str:
        """The zone of times that do not say their own."""

    def identity(self) -> list[Any]:
        """What sets what it reads apart, as plain data; not where it is read from."""

    def partitions(self) -> list[Partition]:
        """All partitions, by name. Raises ``ConfigError`` if there cannot be any."""

    def is_settled(self, partition: Partition, now: float) -> bool:
        """Whether an equal mark means equal content; not so for what changed just now."""

    def fingerprint(self, partition: Partition) -> str:
        """A hash of the content; changes if and only if that does."""

    def again(self, partition: Partition) -> Partition | None:
        """The partition as it is now; None if it is gone."""

    def open(
        self, partition: Partition, db: Any, *, wanted: Collection[str], careful: bool
    ) -> Opened:
        """Make a partition readable for this DuckDB connection.

        Columns that are not ``wanted`` may be left out. ``careful``: guess nothing from a sample;
        asked for where reading failed.
        """


def check_source(source: object) -> None:
    """Raise ``ConfigError`` if it is none, or says itself that it makes no sense."""
    if isinstance(source, type) or not hasattr(source, "partitions"):
        raise ConfigError(
            f"source is {source!r}; write for instance Files('edits/*.json', time='time')"
        )
    if hasattr(source, "check"):
        source.check()


def reason_of(error: Exception) -> str:
    """What an error says, without the lines that follow a remedy for somebody else."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror  # the file is named already
    said = str(error).strip().split("\n\n")[0].splitlines()
    lines = [line for line in said if not line.startswith("Original Line")]
    return " ".join(lines[:2]) or type(error).__name__
