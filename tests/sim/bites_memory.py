"""Broken rules of what is in the coordinator's memory, and what in the store alone."""

from __future__ import annotations

from farm.core import residence
from farm.core.delivery import Deliveries
from farm.core.following import Following
from farm.core.queues import Queues
from farm.core.residence import Residence
from tests.sim.bites import bite

LITTLE = {
    "hosts": 1,
    "slots": [1],
    "clients": 2,
    "durable": True,
    "work_seconds": 0.2,
    "submit_seconds": 0.2,
    "tasks": 40,
    "faults": [],
    "holes": 0.0,
    "blobs": 0.0,
    "commit_seconds": 0.05,
    "core": {
        "max_tasks": 1000,
        "max_bytes": 1 << 20,
        "max_result_bytes": 1 << 30,
        "session_tasks": 100,
        "session_bytes": 1 << 20,
        "resident_payload_bytes": 60,
    },
}
FAR = {
    **LITTLE,
    "core": {**LITTLE["core"], "resident_payload_bytes": 1 << 20, "far_seconds": 0.3},
}
SLOW_READERS = {
    **LITTLE,
    "slots": [4],
    "work_seconds": 0.0005,
    "window_bytes": 1,
    "delay": 0.02,
    "core": {**LITTLE["core"], "resident_result_bytes": 100, "session_result_bytes": 1 << 20},
}
FOLLOWERS = {
    **SLOW_READERS,
    "core": {**LITTLE["core"], "session_outcomes": 8, "session_max_tasks": 0},
}


@bite("payloads over the budget leave memory", "invariants", **LITTLE)
def _(patch):
    patch.setattr(Residence, "settle", lambda _self: None)


@bite("what is not committed stays in memory", "invariants", **LITTLE)
def _(patch):
    enter = Residence.enter

    def too_early(self, batch):
        enter(self, batch)
        if batch.pinned and batch.durable:
            batch.pinned = False
            self.pinned_bytes -= batch.inline
            if batch.row is not None:
                self._fresh.pop()
            self._order[batch] = None

    patch.setattr(Residence, "enter", too_early)
    patch.setattr(Residence, "may_drop", lambda self, batch: batch not in self.near)


@bite("what is in no journal stays in memory", "invariants", **LITTLE)
def _(patch):
    enter = Residence.enter

    def all_alike(self, batch):
        enter(self, batch)
        if batch.pinned and not batch.durable:
            self._fresh.append(batch)

    patch.setattr(Residence, "enter", all_alike)
    patch.setattr(Residence, "may_drop", lambda self, batch: batch not in self.near)


@bite("tasks get the payloads back that are theirs", "payload", **LITTLE)
def _(patch):
    fill = residence.fill

    def shifted(batch, group):
        fill(batch, group)
        if not batch.packed:
            batch.payloads = batch.payloads[1:] + batch.payloads[:1]

    patch.setattr(residence, "fill", shifted)


@bite("who waits for payloads goes on when they are here", "stuck", "invariants", **LITTLE)
def _(patch):
    patch.setattr(Queues, "arrived", lambda _self, _batch: None)


@bite("no more is near its turn than a window", "invariants", **LITTLE)
def _(patch):
    look_ahead = Residence.look_ahead

    def never_less(self, given, upcoming):
        before = dict(self.near)
        look_ahead(self, given, upcoming)
        self.near |= {batch: None for batch in before if batch.open}

    patch.setattr(Residence, "look_ahead", never_less)


@bite("what waits for slow readers has a bound in all", "invariants", **SLOW_READERS)
def _(patch):
    patch.setattr(Deliveries, "_is_too_much", lambda _self, _session, _outcome: False)


@bite("what waits for a reader of others' tasks has a bound", "invariants", **FOLLOWERS)
def _(patch):
    def all_at_once(self):
        for session in list(self._ledger.paged):
            while session.pages.absent:
                run = session.pages.absent.popleft()
                self._each(session, run, self._follow_batch, self._missing)
            while session.pages:
                for run in session.pages.take(1000):
                    self._each(session, run, self._deliver_again, self._missing)
            del self._ledger.paged[session]

    patch.setattr(Following, "_turn_pages", all_at_once)


@bite("who has taken a page is given the next one", "stuck", **FOLLOWERS)
def _(patch):
    turn_pages, turned = Following._turn_pages, set()

    def once(self):
        for session in self._ledger.paged.keys() - turned:
            turned.add(session)
            turn_pages(self)

    patch.setattr(Following, "_turn_pages", once)


@bite("what starts much later leaves memory", "invariants", **FAR)
def _(patch):
    patch.setattr(Residence, "is_far", lambda _self, _batch: False)


@bite("what starts soon is read whatever was far", "stuck", **FAR)
def _(patch):
    patch.setattr(Residence, "foresee", lambda _self, _batch: None)
    call = Residence.call

    def forgetful(self, batch):
        was_far = batch in self._far
        found = call(self, batch)
        if was_far:
            self._far.add(batch)
        return found

    patch.setattr(Residence, "call", forgetful)
    patch.setattr(Residence, "look_ahead", lambda _self, _given, _upcoming: None)
