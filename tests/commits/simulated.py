"""The simulated farm on a real SQLite store, whose coordinator is cut off after a commit.

The simulator's checks stand for the promises: they know what was acknowledged and published, and
watch that every task ends once. Its disk is replaced by a store on files; at the cut the files are
copied as they are, and the next coordinator opens the copy.
"""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from farm.protocol.records import encode_record
from farm.store import Append, Delete, DropFunctions, PutFunction
from farm.store.sqlite import SqliteStore
from tests.sim import journal
from tests.sim.plan import Plan
from tests.sim.world import World

__all__ = ["OWNED", "PLAN", "cut_after"]

_BASE = Plan.of(29)
PLAN = replace(
    _BASE,
    durable=True,
    faults=[],
    holes=0.0,
    clients=4,
    hosts=3,
    slots=[2, 2, 2],
    tasks=24,
    owners=0,
    seconds=20.0,
    steps=20_000,
    submit_seconds=0.2,
    commit_seconds=0.001,
    work_seconds=0.2,
    max_tasks_per_worker=5,
    core={
        **_BASE.core,
        "max_tasks": 1000,
        "max_bytes": 1 << 20,
        "max_result_bytes": 1 << 20,
        "session_tasks": 100,
    },
)
"""A fixed workload of some 300 commits: retries, losses, jobs, readers, tasks that run once."""
OWNED = replace(PLAN, owners=2)
"""The same, where keys are in use, are revoked and renewed: some 700 commits."""
RESTART_SECONDS = 0.2
RESERVE_BYTES = 4096


class StoreDisk:
    """What the simulator takes for its disk; ``commits`` counts, and ``cut_at`` says where to cut.

    What is read is what the store gave back when it was opened last, and what was committed since.
    """

    durable = True

    def __init__(self, folder: Path) -> None:
        self.commits = 0
        self.cut_at = 0
        self.cut = lambda: None
        self._folder = folder
        self._lives = 0
        self._store: SqliteStore | None = None
        self.store = b""
        self.epoch = self.commit = 0
        self.records: dict[int, bytes] = {}
        self.functions: dict[bytes, tuple[str, bytes]] = {}
        self.open(1)

    def open(self, wall_ms: int) -> int:
        """Open what the last process has left behind, in the middle of whatever it did."""
        before = self._folder / f"life{self._lives}"
        self._lives += 1
        here = self._folder / f"life{self._lives}"
        here.mkdir()
        for path in sorted(before.iterdir()) if before.is_dir() else ():
            if not path.name.endswith((".lock", "-shm")):
                shutil.copy(path, here / path.name)
        self.close()
        self._store = store = SqliteStore(here / "farm.db", reserve_bytes=RESERVE_BYTES)
        opened = store.open(0, wall_ms)
        assert self.store in {b"", opened.store_id}
        assert opened.epoch > self.epoch, "an epoch was given out twice"
        assert opened.commit >= self.commit, "the store has lost commits"
        self.store, self.epoch, self.commit = opened.store_id, opened.epoch, opened.commit
        self.records = {ref: encode_record(record) for ref, record in store.records()}
        self.functions = {key: (name, data) for key, name, data in store.functions()}
        return self.epoch

    def apply(self, changes: list[Any]) -> None:
        """Commit, and perhaps be cut off before anybody hears of it."""
        assert self._store is not None
        self._store.commit([_stored(change) for change in changes])
        journal.Disk.apply(self, changes)  # type: ignore[arg-type]
        if self._store.wants_maintenance:
            self._store.maintain()
        self.commits += 1
        if self.commits == self.cut_at:
            self.cut()

    def close(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None


def _stored(change: Any) -> Any:
    match change:
        case journal.Append():
            return Append(change.ref, change.record)
        case journal.Delete():
            return Delete(change.refs)
        case journal.PutFunction():
            return PutFunction(*change)
        case _:
            return DropFunctions(change.hashes)


class StoreWorld(World):
    """A simulated farm on files."""

    def __init__(self, folder: Path, cut_at: int, plan: Plan) -> None:
        self._folder = folder
        self._cut_at = cut_at
        super().__init__(plan)

    def _new_disk(self) -> Any:
        disk = StoreDisk(self._folder)
        disk.cut_at = self._cut_at
        disk.cut = lambda: self.crash_coordinator(RESTART_SECONDS)
        return disk


def cut_after(number: int, folder: Path, plan: Plan = PLAN) -> int:
    """Run the workload, cut off after its commit of this number; how many commits it had.

    After none of them if the number is 0.
    Raises ``Violation`` if a promise was broken, ``AssertionError`` if the store broke its own.
    """
    world = StoreWorld(folder, number, plan)
    try:
        world.run()
        return world.disk.commits
    finally:
        world.disk.close()
