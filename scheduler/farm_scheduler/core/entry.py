"""What the machine knows of one schedule between two events."""

from collections.abc import Iterator
from math import inf
from typing import NamedTuple

from farm_scheduler.core.kept import Kept
from farm_scheduler.core.rows import Row
from farm_scheduler.core.schedule import Schedule

__all__ = ["Entry", "Pause"]


class Pause(NamedTuple):
    """Fires due in ``[at, until)`` are skipped. ``until`` is ``inf`` until somebody resumes it."""

    at: float
    until: float
    who: str
    why: str


class Entry:
    """One schedule, and how far it has come.

    ``told``: what is known of the schedule, which is made of it when somebody asks. ``cursor``:
    every nominal time up to it has its row. ``next``: the first after it, or None.
    ``last``: the nominal time before that, if it is known.
    ``retired``: when it was no longer in its file, or None. ``running`` and ``waiting``: rows that
    are not final, oldest first; those of backfills stand apart, and are few: None while there are
    none. ``backfilled``: those wait newest first. ``at_once``: how many of them may run.
    """

    __slots__ = (
        "at_once",
        "backfilled",
        "backfilling",
        "cursor",
        "last",
        "next",
        "number",
        "pauses",
        "retired",
        "running",
        "told",
        "waiting",
        "wake",
    )

    def __init__(
        self, told: Schedule | Kept, number: int, cursor: int, following: int | None
    ) -> None:
        self.told = told
        self.number = number
        self.cursor = cursor
        self.last: int | None = None
        self.next = following
        self.wake: float | None = None
        self.retired: float | None = None
        self.pauses: tuple[Pause, ...] = ()
        self.running: list[Row] | None = None
        self.waiting: list[Row] | None = None
        self.backfilling: list[Row] | None = None
        self.backfilled: list[Row] | None = None
        self.at_once = 1

    @property
    def name(self) -> str:
        """That of the schedule."""
        return self.told.name

    @property
    def schedule(self) -> Schedule:
        """What it is about."""
        if isinstance(self.told, Kept):
            self.told = self.told.schedule()
        return self.told

    @schedule.setter
    def schedule(self, schedule: Schedule) -> None:
        self.told = schedule

    def paused(self, at: float) -> Pause | None:
        """The pause in which an instant lies."""
        for pause in self.pauses:
            if pause.at <= at < pause.until:
                return pause
        return None

    def wakes(self) -> float | None:
        """When something is to be done for it: a fire is due, or has waited too long."""
        if self.retired is not None:
            return None
        at = None if self.next is None else self.next + self.told.offset
        if self.waiting and (deadline := self.schedule.deadline) is not None:
            last = min(row.due for row in self.waiting) + deadline
            return last if at is None else min(at, last)
        return at

    def forget_pauses(self) -> None:
        """Drop those that no fire to come can be in."""
        if self.pauses:
            first = inf if self.next is None else self.next + self.told.offset
            self.pauses = tuple(one for one in self.pauses if one.until > first or one.until == inf)

    def open_rows(self) -> Iterator[Row]:
        """All that are not final."""
        for rows in (self.running, self.waiting, self.backfilling, self.backfilled):
            yield from rows or ()
