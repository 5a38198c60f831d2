"""A table of a database, by ranges of its time: SQLite, or PostgreSQL with psycopg."""

import hashlib
import json
import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pyarrow as pa

from farm.errors import ConfigError
from farm.imports import for_the_farm
from farm.model import Duration, seconds
from farm_scheduler.aggregates.measures import quoted
from farm_scheduler.aggregates.sources.base import Opened, Partition, PartitionError, reason_of
from farm_scheduler.aggregates.sources.tables import opened_table

__all__ = ["SqlTable"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
RANGES_MAX = 100_000


class Rows(NamedTuple):
    """Names of columns, and rows in an order of their own."""

    names: list[str]
    rows: list[Sequence[Any]]


@dataclass(frozen=True)
class SqlTable:
    """The rows of a table, or view, in partitions of ``step`` by its column ``time``.

    ``url`` is ``sqlite:///relative.db``, ``sqlite:////absolute.db`` or ``postgresql://…``, which
    needs psycopg. ``time`` has times, dates, ISO text, or numbers of seconds since 1970; an index
    on it makes ranges cheap. Rows without a time are a partition of their own. ``columns`` are
    those that are read, all unless given. ``where`` is a condition in the database's SQL.

    A run asks for the fingerprint of every range, which reads its rows: a change of any is seen,
    be it an update or a deletion. ``version_column`` names one that grows with every change
    (``updated_at``); a range is then told by its count and greatest version, without being read.
    """

    url: str
    table: str
    time: str
    step: Duration = "1d"
    zone: str = "UTC"
    columns: tuple[str, ...] = ()
    where: str = ""
    version_column: str = ""

    def __post_init__(self) -> None:
        if not for_the_farm():  # whose aggregates look whether their source is right
            self.check()

    def check(self) -> None:
        """Raise ``ConfigError`` if there is no such kind of database, or step."""
        self._connect  # noqa: B018 - whether the URL is of a kind that is known
        if seconds(self.step, "step") < 1:
            raise ConfigError(f"{self}: step must be a second or more")

    @property
    def remark(self) -> str:
        """What looking for changes costs, where it costs much."""
        if self.version_column:
            return ""
        return f"all rows of {self.table} are read to find changes (version_column= spares that)"

    def identity(self) -> list[Any]:
        """What is read, not where."""
        return ["table", self.table, self.time, self.zone, list(self.columns), self.where]

    # ------------------------------------------------------------ the database

    @property
    def _connect(self) -> "Callable[[], Any]":
        if self.url.startswith("sqlite:///"):
            return self._sqlite
        if self.url.startswith(("postgresql://", "postgres://")):
            return self._postgres
        raise ConfigError(
            f"SqlTable: {self.url.partition(':')[0]!r} is no database that is known; write "
            "sqlite:///path.db or postgresql://host/name"
        )

    @property
    def _is_sqlite(self) -> bool:
        return self.url.startswith("sqlite")

    def _sqlite(self) -> Any:
        path = Path(self.url.removeprefix("sqlite:///")).absolute()
        if not path.is_file():
            raise ConfigError(f"SqlTable: there is no file {path}")
        return sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)

    def _postgres(self) -> Any:
        try:
            psycopg: Any = import_module("psycopg")
        except ImportError:
            raise ConfigError(
                "SqlTable: PostgreSQL needs psycopg; pip install 'psycopg[binary]'"
            ) from None
        return psycopg.connect(self.url)

    @contextmanager
    def _cursor(self) -> Iterator[Any]:
        """One consistent view of the table, read only."""
        with closing(self._connect()) as connection:
            if self._is_sqlite:
                connection.execute("BEGIN")
            else:
                connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield connection.cursor()

    @property
    def _from(self) -> str:
        name = ".".join(map(quoted, self.table.split(".")))
        where = self.where if self._is_sqlite else self.where.replace("%", "%%")
        return f"{name} WHERE ({where or '1 = 1'})"

    # ------------------------------------------------------------ ranges

    def partitions(self) -> list[Partition]:
        """A range of time for each step in which there are rows."""
        column = quoted(self.time)
        try:
            with self._cursor() as cursor:
                least, most, count, dated = cursor.execute(
                    f"SELECT min({column}), max({column}), count(*), count({column}) "  # noqa: S608
                    f"FROM {self._from}",
                    (),
                ).fetchone()
                names = list(self._ranges(least, most)) if dated else []
                if dated < count:
                    names.append(f"{self.table} without {self.time}")
                found = [Partition(name, self._mark(cursor, name, least), {}) for name in names]
        except ConfigError:
            raise
        except Exception as error:  # whatever the database says
            raise ConfigError(f"SqlTable({self.table!r}): {reason_of(error)}") from error
        found = [one for one in found if not one.mark.startswith("0:")]
        if not found:
            said = f" where {self.where}" if self.where else ""
            raise ConfigError(f"SqlTable({self.table!r}) has no rows{said}")
        if sum(int(one.mark.partition(":")[0]) for one in found) != count:
            raise ConfigError(
                f"SqlTable({self.table!r}): {self.time} has times of several forms, or of "
                "several zones, which do not sort as text; make them alike, as in a view"
            )
        return sorted(found)

    def _ranges(self, least: Any, most: Any) -> Iterator[str]:
        step = round(seconds(self.step))
        at, last = (int(_seconds(one) // step) * step for one in (least, most))
        if (last - at) // step >= RANGES_MAX:
            raise ConfigError(
                f"SqlTable({self.table!r}): from {least} to {most} there are more than "
                f"{RANGES_MAX} ranges of step={self.step!r}; make it longer"
            )
        for start in range(at, last + 1, step):
            begin = EPOCH + timedelta(seconds=start)
            yield f"{self.table} {begin:%Y-%m-%dT%H:%M:%SZ}"

    def _inside(self, cursor: Any, name: str, sample: Any) -> tuple[str, list[Any]]:
        """The condition of a range, in the kind of value that the column has."""
        column = quoted(self.time)
        if name.endswith(f" without {self.time}"):
            return f"{column} IS NULL", []
        if sample is None:
            query = f"SELECT min({column}) FROM {self._from}"  # noqa: S608
            (sample,) = cursor.execute(query, ()).fetchone()
        begin = datetime.fromisoformat(name.rpartition(" ")[2])
        end = begin + timedelta(seconds=round(seconds(self.step)))
        mark = "?" if self._is_sqlite else "%s"
        inside = f"{column} >= {mark} AND {column} < {mark}"
        return inside, [_like(sample, one) for one in (begin, end)]

    def _mark(self, cursor: Any, name: str, sample: Any = None) -> str:
        """Count and greatest version of a range, or a hash of its rows."""
        inside, values = self._inside(cursor, name, sample)
        if self.version_column:
            greatest = f"max({quoted(self.version_column)})"
            query = f"SELECT count(*), {greatest} FROM {self._from} AND {inside}"  # noqa: S608
            return "{}:{}".format(*cursor.execute(query, values).fetchone())
        found = hashlib.blake2b(digest_size=16)
        rows = self._rows(cursor, name, sample).rows
        for row in rows:
            found.update(_line(row) + b"\n")
        return f"{len(rows)}:{found.hexdigest()}"

    def _rows(self, cursor: Any, name: str, sample: Any = None) -> Rows:
        inside, values = self._inside(cursor, name, sample)
        chosen = ", ".join(map(quoted, self.columns)) or "*"
        query = f"SELECT {chosen} FROM {self._from} AND {inside}"  # noqa: S608
        rows = cursor.execute(query, values).fetchall()
        return Rows([one[0] for one in cursor.description], sorted(rows, key=_line))

    # ------------------------------------------------------------ reading

    def is_settled(self, partition: Partition, now: float) -> bool:
        """A mark is of the rows themselves, or of their versions."""
        return True

    def fingerprint(self, partition: Partition) -> str:
        """Of the range and its mark."""
        text = f"{partition.name}\0{partition.mark}".encode()
        return hashlib.blake2b(text, digest_size=16).hexdigest()

    def again(self, partition: Partition) -> Partition | None:
        """The range as it is now."""
        try:
            with self._cursor() as cursor:
                mark = self._mark(cursor, partition.name)
        except Exception as error:  # whatever the database says
            raise PartitionError(f"{partition.name} cannot be read: {reason_of(error)}") from error
        return None if mark.startswith("0:") else partition._replace(mark=mark)

    def open(
        self, partition: Partition, db: Any, *, wanted: Collection[str], careful: bool
    ) -> Opened:
        """The rows of the range."""
        try:
            with self._cursor() as cursor:
                names, rows = self._rows(cursor, partition.name)
            columns = [[row[at] for row in rows] for at in range(len(names))]
            arrays = [pa.array(one) for one in columns]
            table = pa.Table.from_arrays(arrays, names=names)
            return opened_table(db, table, wanted)
        except Exception as error:  # the database, or Arrow of a column of several types
            raise PartitionError(f"{partition.name} cannot be read: {reason_of(error)}") from error


def _seconds(value: Any) -> float:
    """A time of whatever kind in seconds since 1970."""
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC).timestamp()
    if isinstance(value, str):
        return _seconds(datetime.fromisoformat(value))
    return float(value)


def _like(sample: Any, moment: datetime) -> Any:
    """A moment as the values of a column are, so that it compares with them."""
    if isinstance(sample, datetime):
        return moment if sample.tzinfo else moment.replace(tzinfo=None)
    if isinstance(sample, date):
        return moment.date()
    if isinstance(sample, str):
        if moment.hour == moment.minute == moment.second == 0:
            return f"{moment:%Y-%m-%d}"  # before all texts of that day, those of dates as well
        joint = sample[10:11] or "T"
        return moment.strftime(f"%Y-%m-%d{joint}%H:%M:%S")
    return int(moment.timestamp())


def _line(row: Sequence[Any]) -> bytes:
    """A row as text, the same each time."""
    return json.dumps(list(row), default=str).encode()
