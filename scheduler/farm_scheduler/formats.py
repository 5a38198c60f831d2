"""The format of the state file, by version, and how a file of an older one becomes one of this.

Only the scheduler that has its turn changes the format, in one transaction, before it reads
anything; commands and the gateway refuse a file that is not of their version, by name. A version
that was released is never changed: a new column, and a new or another field of ``Schedule``, is a
new version, with a step in ``STEPS`` and a golden file in ``tests/golden``.
"""

import sqlite3
from collections.abc import Mapping
from pathlib import Path

from farm.errors import StoreUnreadable

__all__ = ["SPEC", "STEPS", "VERSION", "open_format"]

VERSION = 4
SPEC = (
    *("name", "cron", "tz", "run", "args", "kwargs", "command", "dst", "misfire", "overlap"),
    *("catch_up", "late_after", "jitter", "deadline", "keep", "on_failure", "on_late", "options"),
    *("plain", "offset"),
)
"""What ``schedules.spec`` has, in this order."""

TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE schedules (
    name TEXT PRIMARY KEY, spec BLOB NOT NULL, file TEXT NOT NULL, cursor INTEGER NOT NULL,
    next INTEGER, last INTEGER, pauses TEXT NOT NULL, retired REAL, at_once INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE ledger (
    fire_id TEXT PRIMARY KEY, schedule TEXT NOT NULL, nominal INTEGER NOT NULL,
    kind TEXT NOT NULL, state TEXT NOT NULL, due REAL NOT NULL, since INTEGER,
    reason TEXT NOT NULL, "into" TEXT NOT NULL, task TEXT NOT NULL, outcome TEXT NOT NULL,
    detail TEXT NOT NULL, begun REAL, ended REAL, until INTEGER, output TEXT NOT NULL,
    forget REAL
) WITHOUT ROWID;
CREATE INDEX ledger_by_time ON ledger (schedule, nominal);
CREATE INDEX ledger_open ON ledger (fire_id) WHERE state IN ('waiting', 'running');
CREATE INDEX ledger_forget ON ledger (forget) WHERE forget IS NOT NULL;
CREATE TABLE problems (name TEXT NOT NULL, file TEXT NOT NULL, message TEXT NOT NULL);
CREATE TABLE files (
    path TEXT PRIMARY KEY, hash TEXT NOT NULL, position INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE orders (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, what TEXT NOT NULL,
    arguments TEXT NOT NULL, answer TEXT
);
"""
"""As version 1 had them; the steps make of them what they are now."""

STEPS: Mapping[int, str] = {
    # Orders that are safe to give again: of those with one key there is one.
    2: """
ALTER TABLE orders ADD COLUMN key TEXT;
CREATE UNIQUE INDEX orders_by_key ON orders (key) WHERE key IS NOT NULL;
""",
    # Who stands by reads what was kept after a turn; rare things are found without a scan.
    3: """
ALTER TABLE schedules ADD COLUMN turn INTEGER NOT NULL DEFAULT 0;
CREATE INDEX schedules_by_turn ON schedules (turn);
CREATE INDEX schedules_retired ON schedules (name) WHERE retired IS NOT NULL;
CREATE INDEX orders_waiting ON orders (id) WHERE answer IS NULL;
""",
    # Nominal times of backfills that have no rows yet, as lists of MessagePack, newest first.
    4: """
CREATE TABLE backfills (
    number INTEGER NOT NULL, slice INTEGER NOT NULL, schedule TEXT NOT NULL, mark TEXT NOT NULL,
    times BLOB NOT NULL, PRIMARY KEY (number, slice)
) WITHOUT ROWID;
CREATE INDEX backfills_by_schedule ON backfills (schedule);
""",
}
"""What makes a file of the version before one of this version."""


def open_format(db: sqlite3.Connection, path: Path, *, may_change: bool) -> int:
    """Make a file one of this version, if it is to be changed at all; returns what it was.

    0 is a file that is new. Raises ``StoreUnreadable`` naming the file that cannot be read.
    """
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version == VERSION:
        return VERSION
    if version > VERSION:
        raise StoreUnreadable(
            f"{path} was written by a newer farm, in format {version}; this one knows formats up "
            f"to {VERSION}: install the newer one, or name another file with --state"
        )
    if not version and db.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone():
        raise StoreUnreadable(
            f"{path} is a database, and not one of a scheduler; name another file with --state"
        )
    if not version and not may_change:
        raise StoreUnreadable(f"{path} is empty: its scheduler is starting; try again")
    if not may_change:
        raise StoreUnreadable(
            f"{path} was written by an older farm, in format {version}; start `farm scheduler` of "
            f"this version on it, which makes it format {VERSION}"
        )
    steps = [STEPS[step] for step in range(max(version, 1) + 1, VERSION + 1)]
    script = "".join([*([] if version else [TABLES]), *steps])
    db.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version={VERSION}; COMMIT;")
    return int(version)
