"""Broken rules of blobs: who needs them, and for how long."""

from __future__ import annotations

from typing import get_args

from farm.core import ledger
from farm.core.admission import Admission
from farm.core.blobs import blob_names
from farm.core.dead import DeadTasks
from farm.core.endings import Endings
from farm.core.ledger import Ledger
from farm.core.loading import Loading
from farm.core.reports import Reports
from farm.core.retention import Retention, _is_scattered
from farm.protocol.records import Arguments, Buried, Record
from farm.store.blob_files import BlobFiles
from tests.sim.bites import CUTS, RESTARTS, bite

SHARED = {
    "blobs": 1.0,
    "core": {
        "max_bytes": 1 << 29,
        "session_bytes": 1 << 29,
        "payload_bytes_max": 1 << 20,
        "prune_seconds": 0.01,
    },
}
MANY_DEAD = {
    "deaths": True,
    "durable": True,
    "stops": False,
    "commit_seconds": 0.005,
    "tasks": 40,
    "steps": 4_000,
}


@bite(
    "a blob of arguments is kept until the outcome is committed",
    "blob released early",
    "blob released twice",
    **SHARED,
)
def _(patch):
    finish = Endings.finish

    def too_soon(self, batch, lo, hi, *rest, **more):
        blobs = batch.blobs_of(lo, hi)
        finish(self, batch, lo, hi, *rest, **more)
        self._ledger.release(blobs)

    patch.setattr(Endings, "finish", too_soon)


@bite(
    "what waits to be written is acknowledged when it is committed",
    "lost",
    "acknowledged before commit",
    "invariants",
    **SHARED,
)
def _(patch):
    write = Ledger.write

    def at_once(self, draft):
        write(self, draft)
        if self.drafts:
            draft.written()

    patch.setattr(Ledger, "write", at_once)


@bite(
    "what tells of a task is written after it",
    *("invariants", "journal", "left behind", "stuck"),
    **SHARED,
)
def _(patch):
    patch.setattr(ledger, "PASSING", frozenset(get_args(Record)))


@bite("a blob of arguments is kept for the next attempt", "blob released early", **SHARED)
def _(patch):
    end_attempts = Endings._end_attempts

    def used_up(self, batch, lo, hi, *rest, **how):
        self._ledger.release(batch.blobs_of(lo, hi))
        end_attempts(self, batch, lo, hi, *rest, **how)

    patch.setattr(Endings, "_end_attempts", used_up)


@bite("a blob of a result is kept as long as its record", "blob released early", **SHARED)
def _(patch):
    prune = Retention._prune

    def before_the_record(self, rows, now):
        for row in rows:
            if all(self._is_over(batch, now) for batch in row.batches):
                for batch in row.batches:
                    for outcome in batch.outcomes:
                        self._ledger.release(outcome.blobs)
                        outcome.blobs = []
        prune(self, rows, now)

    patch.setattr(Retention, "_prune", before_the_record)


@bite("a blob of a result is let go with its record", "left behind", **SHARED)
def _(patch):
    forget = Retention._forget

    def keep(self, batch):
        forget(self, batch)
        self._blobs = []

    patch.setattr(Retention, "_forget", keep)


@bite(
    "a blob that arrives once more is let go, and not the first",
    "left behind",
    **SHARED,
    faults=CUTS,
)
def _(patch):
    patch.setattr(Admission, "_release_rest", lambda *_: None)


@bite("a blob of a result that does not count is let go", "left behind", **SHARED)
def _(patch):
    on_report = Reports.on_report

    def careless(self, host, message, now):
        release, self._ledger.release = self._ledger.release, lambda blobs: None
        try:
            on_report(self, host, message, now)
        finally:
            self._ledger.release = release

    patch.setattr(Reports, "on_report", careless)


@bite(
    "after a restart the blobs of results are known",
    "blob lost",
    **SHARED,
    faults=RESTARTS,
)
def _(patch):
    restore = Loading.restore

    def forget(self, ref, record):
        restore(self, ref, record)
        for entry in getattr(record, "entries", ()):
            if getattr(entry, "size", 0) and blob_names([entry]):
                entry.payloads = []

    patch.setattr(Loading, "restore", forget)


@bite("a dead task keeps the blobs of its call", "blob released early", "invariants", **SHARED)
def _(patch):
    patch.setattr(Ledger, "share", lambda _self, _blobs: None)


@bite("the blobs of a dead task go with it", "left behind", "invariants", **SHARED)
def _(patch):
    drop = DeadTasks.drop

    def keep(self, task):
        if task in self._all:
            self._all[task].blobs.clear()
        return drop(self, task)

    patch.setattr(DeadTasks, "drop", keep)


@bite(
    "after a restart it is known who shares a blob",
    "blob released early",
    "blob released twice",
    "left behind",
    "invariants",
    blobs=1.0,
    core={**SHARED["core"], "dead_tasks": 1000, "evidence_bytes": 1 << 30},
    **MANY_DEAD,
    faults=RESTARTS,
)
def _(patch):
    apply = Loading.apply

    def forget(self, *times):
        apply(self, *times)
        self._ledger.shared.clear()

    patch.setattr(Loading, "apply", forget)


@bite(
    "a backup has the blobs of dead tasks",
    "blob lost",
    **SHARED,
    durable=True,
    faults=["restore store", "kill worker", "kill worker"],
    fault_seconds=0.5,
)
def _(patch):
    add = BlobFiles.add

    def forget(self, ref, record):
        if not isinstance(record, Buried | Arguments):
            add(self, ref, record)

    patch.setattr(BlobFiles, "add", forget)


@bite(
    "what is over is not said anew while a reader is told of it",
    "pruned early",
    blobs=1.0,
    core=SHARED["core"] | {"max_result_bytes": 2000},
)
def _(patch):
    patch.setattr(Retention, "_can_rewrite", lambda _self, row, _now: not _is_scattered(row))
