"""Makes the golden state of a scheduler, in the newest format, with something of each kind.

    python -m tests.golden.make_schedules

A released version's files are never made again; a new format gets a new file beside the old.
"""

import sqlite3
from math import inf
from pathlib import Path

from farm_scheduler.core import Backfill, Entry, Kind, Pause, Row, Schedule, State
from farm_scheduler.files import Problem
from farm_scheduler.formats import VERSION
from farm_scheduler.state import State as StateFile

FOLDER = Path(__file__).parent
NOON = 1_772_884_800

NIGHT = Schedule(
    "night",
    cron="30 2 * * *",
    tz="America/New_York",
    run="reports:make",
    args=["sales", 3],
    kwargs={"full": True},
    dst="both",
    misfire="all(5)",
    overlap="cancel",
    catch_up="2d",
    late_after="5m",
    jitter="30s",
    deadline="2h",
    keep="400d",
    on_failure=["/usr/local/bin/page", "ops"],
    on_late="https://example.org/late",
    options={"queue": "reports", "retries": 2},
)
PLAIN = Schedule("plain", cron="@every 90s", command=["true"])
GONE = Schedule("gone", cron="H H * * *", command=["true"])


def entries():
    """Each with the file that it is from."""
    night = Entry(NIGHT, 0, NOON, NOON + 54_000)
    night.last, night.at_once = NOON - 86_400, 3
    night.pauses = (Pause(NOON, NOON + 60.5, "ada", "testing"), Pause(NOON + 90, inf, "", ""))
    plain = Entry(PLAIN, 0, NOON + 1, NOON + 90)
    gone = Entry(GONE, 0, NOON, None)
    gone.retired = NOON + 0.5
    return [(gone, ""), (night, "schedules.toml"), (plain, "jobs.py")]


def rows():
    """One in each state, and of each kind."""
    said = [
        {"state": State.RAN, "outcome": "succeeded", "task": "t-1", "begun": 1.5, "output": "é\n"},
        {"state": State.RAN, "outcome": "failed", "detail": "it raised", "kind": Kind.MANUAL},
        {"state": State.COALESCED, "into": "fire0", "since": NOON - 86_400},
        {"state": State.SKIPPED, "reason": "too old", "until": NOON + 7200},
        {"state": State.RUNNING, "task": "t-2", "begun": NOON + 3.25, "kind": Kind.BACKFILL},
        {"state": State.WAITING},
    ]
    made = [
        Row(fire_id=f"fire{n}", schedule="night", nominal=NOON + n, due=NOON + n + 0.25, **one)
        for n, one in enumerate(said)
    ]
    for row in made:
        row.ended = NOON + 60.0 if row.state.is_final else None
    return made


BACKFILL = {"number": 1, "schedule": "night", "mark": "backfill 1", "taken": 1}
SLICES = [[], [NOON - 172_800, NOON - 259_200], [NOON - 345_600]]
"""Of which the first is taken."""
PROBLEMS = [Problem("bad", "schedules.toml", "it is bad")]
FILES = {"schedules.toml": "00ff", "jobs.py": ""}
ZONES = "2026a"
WAITING = (NOON + 5.0, "pause", {"name": "night", "until": None, "who": "ada", "why": "so"})
ANSWERED = {"name": "night", "was_paused": True}


def make(path):
    """Write it all to a file."""
    state = StateFile(path)
    done = state.order(NOON + 4.0, "resume", {"name": "night"})
    state.order(*WAITING)
    backfill = Backfill(**BACKFILL, slices=SLICES)
    state.commit(rows(), entries(), {"night": 86_400.0}, [(done, ANSWERED)], [backfill])
    state.put_files(FILES, PROBLEMS)
    state.meta("zones", ZONES)
    state.close()
    with sqlite3.connect(path) as db:  # one file, without what a write-ahead log leaves beside it
        db.execute("PRAGMA journal_mode=DELETE")
    db.close()


if __name__ == "__main__":
    target = FOLDER / f"schedules_v{VERSION}.db"
    if target.exists():
        raise SystemExit(f"{target.name} is there, and a format that was released stays as it is")
    make(target)
