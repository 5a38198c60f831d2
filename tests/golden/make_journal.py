"""Makes the golden journal: a store as version 1 wrote it, with every kind of record.

    python -m tests.golden.make_journal

A released version's files are never made again; a new format gets new files and new expectations
beside the old.
"""

import sqlite3
import tempfile
from pathlib import Path

from farm.model import Ending
from farm.protocol.parts import Failure, Group, Result, Template
from farm.protocol.records import (
    AttemptEnd,
    AttemptsEnded,
    Delivered,
    Finished,
    HostJoined,
    JobOpened,
    JobSealed,
    Record,
    Recovered,
    SessionMark,
    Submitted,
)
from farm.store import Append, Delete, PutFunction
from farm.store.sqlite import SqliteStore

FOLDER = Path(__file__).parent
NAMES = ("journal_v1.db", "journal_v1.db-large")

STORE_ID = bytes(range(16, 32))
EPOCH = 1_700_000_000_000
COMMIT = 14  # refs 13 and 14 were deleted
SESSION = bytes(range(16))
HASH = bytes(range(100, 116))
FUNCTIONS = [(HASH, "module.function", b"\x80\x05pickled")]
FAILURE = Failure("signal", "killed", "host-1", -9, "", 2)
TEMPLATE = Template(
    priority=5, retries=2, backoff=0.5, max_losses=1, time_limit=60.0, result_ttl=3600.0, delay=2.0
)

RECORDS: dict[int, Record] = {
    1: SessionMark(SESSION, b"s" * 16, 1000.0, [(1, 40), (100, 2)], 3),
    2: HostJoined("host-1", b"h" * 16),
    3: JobOpened(1000.5, SESSION, 1, "nightly"),
    4: Submitted(SESSION, 1001.0, [Group(1, 3, HASH, [b"a", b"", b"ccc"], 4)]),
    5: Submitted(
        SESSION,
        1001.5,
        [
            Group(4, 30, HASH, [b"packed"], 6, packed=True, start=10, job=1, template=TEMPLATE),
            Group(34, 1, HASH, [b"x"], 1, template=Template(durable=True, expires=9.5)),
        ],
        fence=EPOCH,
    ),
    6: Submitted(SESSION, 1002.0, [Group(35, 1, HASH, [b"large " * 30_000], 180_000)]),
    7: JobSealed(SESSION, 1, 30),
    8: AttemptsEnded(
        1003.0,
        [
            AttemptEnd(SESSION, 1, 1, 2, 1, 0, due=1010.25, failure=FAILURE),
            AttemptEnd(SESSION, 2, 2, 3, 0, 2, fence=EPOCH),
        ],
    ),
    9: Finished(1004.0, [Result(SESSION, 4, 30, Ending.OK, [b"values"], 6, True, None, 0.25)]),
    10: Finished(
        1005.0,
        [
            Result(SESSION, 1, 1, Ending.LOST, [], failure=FAILURE),
            Result(SESSION, 2, 2, Ending.EXCEPTION, [b"error", b"other"], 10),
        ],
    ),
    11: Delivered(1006.0, [(SESSION, 1, 1)]),
    12: Recovered(EPOCH, [(SESSION, 34, 1), (SESSION, 35, 1)]),
}


def make(folder: Path) -> None:
    """Write the golden files into a folder."""
    path = folder / NAMES[0]
    store = SqliteStore(path)
    store.open(1, 1)
    store.close()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("UPDATE meta SET store_id = ?", (STORE_ID,))
    connection.close()
    store = SqliteStore(path)
    store.open(EPOCH, 0)
    store.commit([PutFunction(*function) for function in FUNCTIONS])
    store.commit([Append(ref, record) for ref, record in RECORDS.items()])
    store.commit([Append(13, RECORDS[11]), Append(14, RECORDS[11])])
    store.commit([Delete([13, 14])])
    store.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder))
        for name in NAMES:
            (FOLDER / name).write_bytes((Path(folder) / name).read_bytes())
