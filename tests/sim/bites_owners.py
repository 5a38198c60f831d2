"""Broken rules of keys in use: whose tasks are, who may know of them, what revocation ends."""

from __future__ import annotations

from farm.core import jobs, keys, queries
from farm.core.connections import Connections
from farm.core.loading import Loading
from farm.core.rights import Rights
from farm.core.sessions import Session
from tests.sim.bites import MUCH_MEMORY, RESTARTS, bite

OWNED = {
    "owners": 2,
    "revoke_seconds": 0.0,
    "hosts": 2,
    "slots": [2, 2],
    "clients": 2,
    "durable": True,
    "work_seconds": 0.2,
    "submit_seconds": 0.2,
    "tasks": 30,
    "steps": 4_000,
    "deaths": False,
    "faults": [],
    "holes": 0.0,
    "blobs": 0.0,
    "core": {
        "max_tasks": 1000,
        "max_bytes": 1 << 20,
        "max_result_bytes": 1 << 30,
        "session_tasks": 100,
        **MUCH_MEMORY,
    },
}
RESTARTED = {**OWNED, "faults": RESTARTS, "fault_seconds": 0.5}
REVOKED = {**OWNED, "revoke_seconds": 0.5}
KEYED = {**OWNED, "task_keys": 3, "core": {**OWNED["core"], "max_keys": 1000, "key_ttl": 60.0}}
NESTED = {**OWNED, "nested": 0.6, "tasks": 8}


@bite("a session sees only what belongs to its name", "another's task", **OWNED)
def _(patch):
    patch.setattr(Session, "sees", lambda _self, _batch: True)


@bite("a stranger cancels nothing", "another's task", "endings", **OWNED)
def _(patch):
    patch.setattr(Rights, "visible", lambda _self, _session, tasks: tasks)


@bite("a stranger finds no job", "another's task", **OWNED)
def _(patch):
    def find(self, text, _who):
        named = self._by_name.get((text, ""))
        return self.all.get(text) or (named[-1] if named else None)

    patch.setattr(jobs.Jobs, "find", find)


@bite("a stranger has no list of jobs", "another's task", **OWNED)
def _(patch):
    patch.setattr(jobs.Jobs, "seen", lambda self, _who: iter(self.all.values()))


@bite("only an admin orders queues", "order of a stranger", **OWNED)
def _(patch):
    patch.setattr(queries, "ORDERS", {})


@bite(
    "a session belongs to the key that opened it",
    *("session stolen", "not asked for", "another's task"),
    **OWNED,
)
def _(patch):
    client = Rights.client

    def anybody(self, identity, behalf):
        who = client(self, identity, behalf)
        return None if who is None else who._replace(name="")

    patch.setattr(Rights, "client", anybody)


@bite("a restart knows whose a session is", "rejected", "wrong owner", **RESTARTED)
def _(patch):
    restore = Loading._restore_session

    def nobodys(self, ref, record, now):
        restore(self, ref, record, now)
        self._session(record.session, now).owner = ""

    patch.setattr(Loading, "_restore_session", nobodys)


@bite("what a task submits belongs to whom it belongs", "wrong owner", **NESTED)
def _(patch):
    patch.setattr(Rights, "owner_of", lambda _self, session, _group: session.owner)


@bite("the same key of two owners is two", "wrong duplicate", "invariants", **KEYED)
def _(patch):
    patch.setattr(keys, "_name", lambda _owner, key: ("", key.unique, key.text))


@bite("a revoked host's tasks go elsewhere", "revoked", **REVOKED)
def _(patch):
    patch.setattr(Connections, "on_revoked", lambda _self, _keys, _now: None)
