"""Submissions that are accepted and not written yet.

A *fresh* one is of this turn, and is written when hosts have been given what they have room for:
they can begin meanwhile.

One may wait longer, for it may end before the disk has time. Arguments in a file must be on the
disk before the record that names them is, unless the outcome of their task is committed with it:
then nobody will ever read them. So while the journal is busy a submission with such arguments
waits, until a task of it ends, the journal has nothing else to do, or its time is over.

It is acknowledged when it is committed, as any other. Outcomes of other tasks, and what says
nothing of open ones, may be written before it; all else is written after it.
"""

from collections.abc import Callable, Iterable
from itertools import takewhile
from typing import NamedTuple

from farm.core.batch import Batch
from farm.core.blobs import blob_names
from farm.core.sessions import Session
from farm.protocol.parts import Group
from farm.protocol.records import (
    Begun,
    ClockRead,
    Delivered,
    Finished,
    Remembered,
    SessionMark,
    Submitted,
)
from farm.ranges import RangeSet

__all__ = ["PASSING", "Draft", "Drafts"]

NEVER = float("inf")
IDLE_BYTES = 8 << 20
"""What a journal without work is given at a time: an outcome may come, and would wait for it."""
PASSING = frozenset({Begun, ClockRead, Delivered, Finished, Remembered, SessionMark, Submitted})
"""Records that may come before a submission of which they say nothing."""


class Draft(NamedTuple):
    """What was accepted with one message, and when; ``written`` is called when it is."""

    session: Session
    taken: list[tuple[Batch, Group]]
    at: float
    written: Callable[[], None]


class Drafts:
    """Drafts in the order in which they were accepted; admission bounds them."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._waiting: dict[Batch, Draft] = {}
        self.fresh: list[Draft] = []
        """Those of this turn."""

    def __bool__(self) -> bool:
        return bool(self.fresh or self._waiting)

    def __contains__(self, batch: object) -> bool:
        return batch in self._waiting or any(
            batch is own for draft in self.fresh for own, _ in draft.taken
        )

    @property
    def due(self) -> float:
        """When the oldest that waits has waited long enough."""
        for draft in self._waiting.values():
            return draft.at + self._seconds
        return NEVER

    def add(self, draft: Draft) -> bool:
        """Let a submission wait until hosts have what they have room for; whether it may."""
        at = draft.at
        for batch, _ in draft.taken:
            if not _may_wait(batch, at):
                return False
        self.fresh.append(draft)
        return True

    def take_fresh(self, *, idle: bool) -> list[Draft]:
        """Those of this turn, but for what waits longer: where the disk is not ``idle``."""
        fresh, self.fresh = self.fresh, []
        if idle or not self._seconds:
            return fresh
        found: list[Draft] = []
        for draft in fresh:
            if blob_names(group for _, group in draft.taken):
                self._waiting.update(dict.fromkeys([batch for batch, _ in draft.taken], draft))
            else:
                found.append(draft)
        return found

    def take(self, batches: Iterable[Batch]) -> list[Draft]:
        """The drafts that have these batches; they wait no more."""
        named = list(batches)
        found = self._remove([self._waiting[one] for one in named if one in self._waiting])
        if self.fresh:
            fresh, self.fresh, names = self.fresh, [], set(named)
            for draft in fresh:
                others = names.isdisjoint([batch for batch, _ in draft.taken])
                (self.fresh if others else found).append(draft)
        return found

    def take_all(self) -> list[Draft]:
        """All of them."""
        fresh, self.fresh = self.fresh, []
        return self._remove(list(self._waiting.values())) + fresh

    def take_due(self, now: float) -> list[Draft]:
        """Those that have waited long enough."""
        drafts, seconds = self._waiting.values(), self._seconds
        return self._remove(list(takewhile(lambda one: now >= one.at + seconds, drafts)))

    def take_oldest(self) -> list[Draft]:
        """As many of those that wait as the disk may have in one go."""
        found: list[Draft] = []
        size = 0
        for batch, draft in self._waiting.items():
            size += batch.size
            if found and size > IDLE_BYTES:
                break
            found.append(draft)
        return self._remove(found)

    def left_out(self, session: Session) -> RangeSet:
        """What a session has had accepted, but for what is not written."""
        if not self:
            return session.accepted
        accepted = RangeSet(session.accepted)
        for draft in (*self._waiting.values(), *self.fresh):
            if draft.session is session:
                for batch, _ in draft.taken:
                    accepted.remove(batch.first, batch.stop)
        return accepted

    def _remove(self, found: list[Draft]) -> list[Draft]:
        drafts = {id(draft): draft for draft in found}
        for draft in drafts.values():
            for batch, _ in draft.taken:
                del self._waiting[batch]
        return list(drafts.values())


def _may_wait(batch: Batch, now: float) -> bool:
    """Whether it may run at once, and nothing but its end is to come of it.

    A task that has submitted it ends only when it is acknowledged.
    """
    return (
        not batch.keys
        and batch.same is None
        and batch.template.parent is None
        and batch.template.expires is None
        and not batch.runs_once
        and batch.starts_at <= now
    )
