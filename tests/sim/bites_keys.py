"""Broken rules of keys: who has one, for how long, with which body, and what is kept for it."""

from __future__ import annotations

from farm.core.duplicates import Duplicates
from farm.core.keys import Keys, Run
from farm.core.retention import Retention
from farm.core.rows import Rows
from tests.sim.bites import MUCH_MEMORY, RESTARTS, bite

KEYED = {
    "hosts": 1,
    "slots": [2],
    "clients": 3,
    "durable": True,
    "work_seconds": 0.2,
    "submit_seconds": 0.2,
    "tasks": 30,
    "steps": 4_000,
    "deaths": False,
    "faults": [],
    "holes": 0.0,
    "blobs": 0.0,
    "task_keys": 3,
    "core": {
        "max_tasks": 1000,
        "max_bytes": 1 << 20,
        "max_result_bytes": 1 << 30,
        "session_tasks": 100,
        "max_keys": 1000,
        "key_ttl": 60.0,
        **MUCH_MEMORY,
    },
}
SHORT = {**KEYED, "core": {**KEYED["core"], "key_ttl": 1.0}}
RESTARTED = {**KEYED, "faults": RESTARTS, "fault_seconds": 0.5}
DYING = {**KEYED, "faults": [*RESTARTS, "crash client"], "fault_seconds": 0.5}
WITH_BLOBS = {**SHORT, "blobs": 1.0, "faults": ["crash client"], "clients": 3}
WITH_BLOBS["core"] = {**SHORT["core"], "max_bytes": 1 << 29, "payload_bytes_max": 1 << 20}
WITH_BLOBS["core"] |= {"session_bytes": 1 << 29}
FEW = {**KEYED, "core": {**KEYED["core"], "max_keys": 2}}


@bite("a key that is held makes no second task", "one task a key", "invariants", **KEYED)
def _(patch):
    def always_new(self, owner, group, at):
        return Run(at + 1)

    patch.setattr(Keys, "run_at", always_new)


@bite("a restart knows who has which key", "one task a key", "pruned early", **RESTARTED)
def _(patch):
    patch.setattr(Keys, "restore", lambda _self, _batches, _now: None)


@bite("another body is no duplicate", "wrong duplicate", **KEYED)
def _(patch):
    run_at = Keys.run_at

    def any_body(self, owner, group, at):
        run = run_at(self, owner, group, at)
        return run._replace(problem=False)

    patch.setattr(Keys, "run_at", any_body)


@bite("a unique key is free when its task ends", "wrong duplicate", "invariants", **KEYED)
def _(patch):
    patch.setattr(Keys, "ended", lambda _self, _batch, _lo, _hi: None)


@bite("an idempotency key is free after its time", "wrong duplicate", **SHORT)
def _(patch):
    patch.setattr(Keys, "free_at", lambda _self, batch: batch.at + 100.0)


@bite("an idempotency key is not free before its time", "one task a key", "pruned early", **KEYED)
def _(patch):
    sweep = Keys.sweep
    patch.setattr(Keys, "sweep", lambda self, now: sweep(self, now + 59.0))


@bite("an outcome is kept as long as its key", "pruned early", "crashed", "invariants", **KEYED)
def _(patch):
    is_past = Retention._is_past

    def forgetful(self, batch, now):
        held, batch.held = batch.held, 0
        try:
            return is_past(self, batch, now)
        finally:
            batch.held = held

    patch.setattr(Retention, "_is_past", forgetful)


@bite("the record of an outcome is kept for duplicates", "pruned early", "invariants", **KEYED)
def _(patch):
    mention = Rows.mention

    def of_first(self, row, ref):
        if not any(batch.same for batch in row.batches):
            mention(self, row, ref)

    patch.setattr(Rows, "mention", of_first)


@bite("a duplicate ends with the first", "stuck", "pruned early", "invariants", **KEYED)
def _(patch):
    patch.setattr(Duplicates, "published", lambda _self, _batch, _outcome, _now: None)


@bite("a duplicate is known as one after a restart", "stuck", "endings", "invariants", **RESTARTED)
def _(patch):
    patch.setattr(Duplicates, "_watch", lambda _self, _batch, _firsts: None)


@bite("no more keys are held than may", "invariants", **FEW)
def _(patch):
    patch.setattr(Keys, "room", lambda _self: 1000)


@bite(
    "a duplicate keeps the blobs of its result",
    "invariants",
    "blob released early",
    "blob released twice",
    **WITH_BLOBS,
)
def _(patch):
    settle = Duplicates._settle

    def careless(self, run, first, now):
        share, self._ledger.share = self._ledger.share, lambda _blobs: None
        try:
            settle(self, run, first, now)
        finally:
            self._ledger.share = share

    patch.setattr(Duplicates, "_settle", careless)
