"""What schedulers keep: a SQLite file with schedules, the ledger, and orders that wait.

One scheduler at a time writes entries and rows, the one that holds the lock beside the file;
commands read, and write orders. Every turn of a scheduler is one transaction, committed before
anything that it decided is done.
"""

import json
import logging
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from math import inf
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec

from farm.errors import ConfigError, KeyConflict, StoreError, StoreUnreadable
from farm_scheduler.collection import no_collection
from farm_scheduler.core import Backfill, Entry, Kept, Pause, Row, Schedule
from farm_scheduler.files import Problem
from farm_scheduler.formats import VERSION, open_format

__all__ = ["State"]

logger = logging.getLogger("farm.scheduler")

BUSY_SECONDS = 10.0
ANSWERED_SECONDS = 3600.0
"""How long the answer to an order is kept; of one with a key it is a day."""
KEY_SECONDS = 86_400.0
ORDERS_MAX = 10_000
"""Orders that wait for a scheduler; of more, none is taken."""
FORGET_MAX = 10_000
"""Rows that are dropped at a time."""
Order = tuple[int, float, str, dict[str, Any]]
COLUMNS = Row.__struct_fields__
NAMES = ", ".join(f'"{name}"' for name in COLUMNS)
PUT_ROW = (
    f"INSERT OR REPLACE INTO ledger ({NAMES}, forget) "  # noqa: S608 - names of our own columns
    f"VALUES ({', '.join('?' * (len(COLUMNS) + 1))})"
)
PUT_ENTRY = "INSERT OR REPLACE INTO schedules VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


class State:
    """The file. Raises ``StoreError`` where it cannot be used; one thread at a time."""

    def __init__(self, path: Path, *, must_exist: bool = False) -> None:
        self.path = path
        if must_exist and not path.exists():
            raise StoreUnreadable(
                f"there is no {path}: no scheduler has run here; start one with `farm scheduler`, "
                "or name another file with --state"
            )
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._open_format(may_change=not must_exist)
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"{path}: {error}") from error

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def _open_format(self, *, may_change: bool) -> None:
        was = open_format(self._db, self.path, may_change=may_change)
        if was not in {0, VERSION}:
            logger.info("%s was in format %d, and is in format %d now", self.path, was, VERSION)

    # ------------------------------------------------------------ for the scheduler

    def own(self) -> None:
        """To be called by who has its turn now: the format is this one's, whoever was before."""
        self._open_format(may_change=True)

    def changes(self, after: int = -1) -> tuple[list[tuple[Entry, str]], int]:
        """Entries that were kept after a turn, by default all, with the files that they are from.

        And the turn to ask with the next time: what was kept meanwhile may be told twice.
        """
        (turn,) = self._db.execute("SELECT coalesce(max(turn), 0) FROM schedules").fetchone()
        if turn == after:
            return [], turn
        with no_collection():  # all of it stays
            if after < 0:
                return list(self._entries("ORDER BY name")), turn
            return list(self._entries("WHERE turn > ? ORDER BY name", after)), turn

    def open_rows(self) -> list[Row]:
        """Rows that are not final."""
        return list(self.rows("state IN ('waiting', 'running')"))

    def backfills(self) -> list[Backfill]:
        """Those of which not all nominal times have rows."""
        query = "SELECT number, schedule, mark, slice, times FROM backfills ORDER BY number, slice"
        found: list[Backfill] = []
        for (number, name, mark), rows in groupby(self._db.execute(query), key=lambda one: one[:3]):
            left = {at: msgspec.msgpack.decode(times) for *_, at, times in rows}
            taken = min(left)
            slices = [*[()] * taken, *left.values()]
            found.append(Backfill(number, name, mark, slices, taken))
            found[-1].kept = True
        return found

    def planned(self, schedule: str, begin: int, end: int) -> set[int]:
        """Nominal times of a schedule in ``[begin, end)`` that backfills will run."""
        query = "SELECT times FROM backfills WHERE schedule = ?"
        return {
            at
            for (times,) in self._db.execute(query, (schedule,))
            for at in msgspec.msgpack.decode(times)
            if begin <= at < end
        }

    def backfilling(self) -> dict[str, int]:
        """How many nominal times backfills have left, of each schedule that has some."""
        query = (
            "SELECT schedule, count(*) FROM ledger WHERE state IN ('waiting', 'running') "
            "AND kind = 'backfill' GROUP BY schedule"
        )
        found = dict(self._db.execute(query))
        for name, times in self._db.execute("SELECT schedule, times FROM backfills"):
            found[name] = found.get(name, 0) + len(msgspec.msgpack.decode(times))
        return found

    def done(self, schedule: str, begin: int, end: int) -> set[int]:
        """Nominal times in ``[begin, end)`` of which a run succeeded, or is under way."""
        query = (
            "SELECT nominal FROM ledger WHERE schedule = ? AND nominal >= ? AND nominal < ? "
            "AND kind != 'manual' "
            "AND (outcome = 'succeeded' OR state IN ('waiting', 'running'))"
        )
        return {nominal for (nominal,) in self._db.execute(query, (schedule, begin, end))}

    def _entries(self, where: str, *values: Any) -> Iterator[tuple[Entry, str]]:
        query = "SELECT spec, file, cursor, next, last, pauses, retired, at_once FROM schedules "
        for spec, file, cursor, following, last, pauses, *rest in self._db.execute(
            query + where, values
        ):
            entry = Entry(Kept.of(spec), 0, cursor, following)
            entry.last, (entry.retired, entry.at_once) = last, rest
            if pauses:
                entry.pauses = _pauses(pauses)
            yield entry, file

    def commit(
        self,
        rows: Iterable[Row],
        entries: Iterable[tuple[Entry, str]],
        keep: dict[str, float],
        answers: Iterable[tuple[int, Any]] = (),
        backfills: Sequence[Backfill] = (),
    ) -> None:
        """One turn, all or nothing. ``keep``: for how long rows of a schedule are kept."""
        ordered = sorted(rows, key=attrgetter("fire_id"))  # each page of the table is met once
        with self._transaction():
            self._db.executemany(PUT_ROW, (_values(row, keep) for row in ordered))
            query = "SELECT coalesce(max(turn), 0) + 1 FROM schedules"
            (turn,) = self._db.execute(query).fetchone()
            self._db.executemany(PUT_ENTRY, (_entry(*one, turn) for one in entries))
            self._db.executemany(
                "UPDATE orders SET answer = ? WHERE id = ?",
                ((json.dumps(answer), number) for number, answer in answers),
            )
            for one in backfills:
                self._put_backfill(one)
        for one in backfills:
            one.kept = True

    def _put_backfill(self, one: Backfill) -> None:
        """The slices that are not taken; these never change."""
        if one.kept:
            query = "DELETE FROM backfills WHERE number = ? AND slice < ?"
            self._db.execute(query, (one.number, one.taken))
        else:
            self._db.executemany(
                "INSERT INTO backfills VALUES (?, ?, ?, ?, ?)",
                (
                    (one.number, at, one.schedule, one.mark, msgspec.msgpack.encode(list(times)))
                    for at, times in enumerate(one.slices)
                    if at >= one.taken
                ),
            )

    def put_files(self, hashes: dict[str, str], problems: Sequence[Problem]) -> None:
        """Which files the entries are from now on from, and what is wrong with others."""
        with self._transaction():
            self._db.execute("DELETE FROM files")
            self._db.execute("DELETE FROM problems")
            self._db.executemany(
                "INSERT INTO files VALUES (?, ?, ?)",
                ((path, text, at) for at, (path, text) in enumerate(hashes.items())),
            )
            self._db.executemany("INSERT INTO problems VALUES (?, ?, ?)", problems)

    def files(self) -> dict[str, str]:
        """The hashes of those files."""
        return dict(self._db.execute("SELECT path, hash FROM files ORDER BY position"))

    def meta(self, key: str, value: str | None = None) -> str:
        """A remark; put there, if a value is given. Returns what it was."""
        found = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        if value is not None:
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))
        return found[0] if found else ""

    def forget(self, now: float, most: int = FORGET_MAX) -> int:
        """Drop rows that were kept long enough, but not too many; and schedules that have none.

        These are retired. The one of the newest turn stays: no turn's number comes again.
        """
        with self._transaction():
            done = self._db.execute(
                "DELETE FROM ledger WHERE fire_id IN "
                "(SELECT fire_id FROM ledger WHERE forget < ? LIMIT ?)",
                (now, most),
            ).rowcount
            self._db.execute(
                "DELETE FROM schedules WHERE retired IS NOT NULL "
                "AND turn < (SELECT max(turn) FROM schedules) AND NOT EXISTS "
                "(SELECT 1 FROM ledger WHERE ledger.schedule = schedules.name)"
            )
            self._db.execute(
                "DELETE FROM orders WHERE answer IS NOT NULL AND "
                "at < CASE WHEN key IS NULL THEN ? ELSE ? END",
                (now - ANSWERED_SECONDS, now - KEY_SECONDS),
            )
        return done

    def waiting_orders(self) -> list[Order]:
        """Orders without an answer, the oldest first: number, when, what, arguments."""
        query = "SELECT id, at, what, arguments FROM orders WHERE answer IS NULL ORDER BY id"
        return [
            (number, at, what, json.loads(text))
            for number, at, what, text in self._db.execute(query)
        ]

    # ------------------------------------------------------------ for people

    def order(self, at: float, what: str, arguments: dict[str, Any], key: str = "") -> int:
        """Ask the scheduler for something; ``answer`` has what it said.

        With a ``key`` that another order of the last day has, it is that one. Raises
        ``KeyConflict`` if the other asked for something else, ``ConfigError`` if too many wait.
        """
        asked = what, json.dumps(arguments)
        with self._transaction():
            if key:
                query = "SELECT id, what, arguments FROM orders WHERE key = ?"
                for number, *same in self._db.execute(query, (key,)):
                    if (*same,) != asked:
                        raise KeyConflict("another order has this key, and asks for something else")
                    return int(number)
            (waiting,) = self._db.execute(
                "SELECT count(*) FROM orders WHERE answer IS NULL"
            ).fetchone()
            if waiting >= ORDERS_MAX:
                raise ConfigError(
                    f"{waiting} orders wait already: start a scheduler, which does them"
                )
            cursor = self._db.execute(
                "INSERT INTO orders (at, what, arguments, key) VALUES (?, ?, ?, ?)",
                (at, *asked, key or None),
            )
        return int(cursor.lastrowid or 0)

    def answer(self, number: int) -> Any:
        """What became of an order; None while nobody has looked at it."""
        query = "SELECT answer FROM orders WHERE id = ?"
        found = self._db.execute(query, (number,)).fetchone()
        return json.loads(found[0]) if found and found[0] is not None else None

    def entries(
        self, *, after: str = "", limit: int = -1, retired: bool = True
    ) -> Iterator[tuple[Entry, str]]:
        """Schedules by name, with their files: some, after a name, retired ones too or not."""
        condition = "" if retired else "AND retired IS NULL "
        return self._entries(f"WHERE name > ? {condition}ORDER BY name LIMIT ?", after, limit)

    def entry(self, name: str) -> tuple[Entry, str] | None:
        """One schedule, and its file."""
        return next(self._entries("WHERE name = ?", name), None)

    def names(self) -> list[str]:
        """Of all schedules."""
        return [name for (name,) in self._db.execute("SELECT name FROM schedules ORDER BY name")]

    def problems(self) -> list[Problem]:
        """Entries that are stopped, and why."""
        return [Problem(*one) for one in self._db.execute("SELECT * FROM problems")]

    def rows(
        self, where: str, *values: Any, limit: int = -1, newest: bool = False
    ) -> Iterator[Row]:
        """Rows of the ledger that meet a condition, by nominal time."""
        order = "DESC" if newest else "ASC"
        query = (
            f"SELECT {NAMES} FROM ledger WHERE {where} "  # noqa: S608 - conditions are ours
            f"ORDER BY nominal {order}, due {order} LIMIT ?"
        )
        for found in self._db.execute(query, (*values, limit)):
            yield msgspec.convert(dict(zip(COLUMNS, found, strict=True)), Row)

    def _transaction(self) -> "_Transaction":
        return _Transaction(self._db)


class _Transaction:
    """``with``: all of it, or nothing."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._db.execute("COMMIT" if kind is None else "ROLLBACK")


def _spec(told: Schedule | Kept) -> bytes:
    return told.spec if isinstance(told, Kept) else msgspec.msgpack.encode(told.state())


def _values(row: Row, keep: dict[str, float]) -> tuple[Any, ...]:
    values = [getattr(row, name) for name in COLUMNS]
    forget = None if row.ended is None else row.ended + keep.get(row.schedule, 0.0)
    return (*map(_plain, values), forget)


def _plain(value: Any) -> Any:
    """Text as it may be kept: SQLite takes no lone surrogates."""
    if type(value) is str or not isinstance(value, str):
        return value.encode("utf-8", "replace").decode() if type(value) is str else value
    return str(value)


def _entry(entry: Entry, file: str, turn: int) -> tuple[Any, ...]:
    pauses = [[one.at, None if one.until == inf else one.until, *one[2:]] for one in entry.pauses]
    return (
        entry.name,
        _spec(entry.told),
        file,
        entry.cursor,
        entry.next,
        entry.last,
        json.dumps(pauses) if pauses else "",
        entry.retired,
        entry.at_once,
        turn,
    )


def _pauses(text: str) -> tuple[Pause, ...]:
    return tuple(
        Pause(at, inf if until is None else until, who, why)
        for at, until, who, why in json.loads(text)
    )
