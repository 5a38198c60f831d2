"""What becomes of fires whose time has come: skipped, one for several, or offered to run.

Each rule is a function of a schedule, times and the clock; ``Machine`` carries out what they say.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import islice
from typing import NamedTuple

from farm_scheduler.core.entry import Pause
from farm_scheduler.core.schedule import Schedule, policy

__all__ = ["RUNS", "Fate", "Outlook", "Paused", "expired", "fate_of", "look_ahead"]


class Fate(NamedTuple):
    """``into``: the nominal time that runs in its stead. Neither that nor a reason: it may run."""

    reason: str = ""
    detail: str = ""
    into: int | None = None


RUNS = Fate()
Paused = Callable[[float], Pause | None]


class Outlook(NamedTuple):
    """What becomes of fires that were missed, which depends on all that are due.

    ``now``: when it was looked. ``runs``: the nominal time that runs for all of them or, by
    ``all(N)``, from which on they run; None if none does. ``flooded``: why none does, if there
    were too many to be looked at.
    """

    now: float
    runs: int | None
    flooded: str = ""


def look_ahead(schedule: Schedule, times: Sequence[int], now: float, paused: Paused) -> Outlook:
    """Look at all nominal times that are due, ascending, before anything is said of one."""

    def may_run(nominal: int) -> bool:
        return _hopeless(schedule, nominal, now, paused) is None

    def is_on_time(nominal: int) -> bool:
        return not schedule.is_late(nominal + schedule.offset, now)

    way, most = policy(schedule.misfire)
    on_time = bisect_left(times, True, key=is_on_time)
    runnable = filter(may_run, (times[at] for at in range(on_time - 1, -1, -1)))
    if way == "latest":
        first = next(filter(may_run, (times[at] for at in range(on_time, len(times)))), None)
        return Outlook(now, next(runnable, None) if first is None else first)
    if way == "all":
        return Outlook(now, min(islice(runnable, most), default=None))
    return Outlook(now, None)


def fate_of(schedule: Schedule, nominal: int, outlook: Outlook, paused: Paused) -> Fate:
    """What becomes of one of them, before one looks what else runs."""
    if (fate := _hopeless(schedule, nominal, outlook.now, paused)) is not None:
        return fate
    if not outlook.flooded and not schedule.is_late(nominal + schedule.offset, outlook.now):
        return RUNS
    way, most = policy(schedule.misfire)
    if outlook.flooded or way == "skip":
        return Fate("missed", outlook.flooded or "nobody decided at its time")
    if way == "latest":
        return RUNS if nominal == outlook.runs else Fate(into=outlook.runs)
    if outlook.runs is not None and nominal >= outlook.runs:
        return RUNS
    return Fate("missed", f"more than {most} were missed")


def _hopeless(schedule: Schedule, nominal: int, now: float, paused: Paused) -> Fate | None:
    """Why a fire may not run, whatever else there is."""
    if (pause := paused(nominal + schedule.offset)) is not None:
        who = f"by {pause.who}" if pause.who else "by somebody"
        return Fate("paused", f"{who}: {pause.why}" if pause.why else who)
    if nominal + schedule.offset <= now - schedule.window:
        return Fate("too old", f"nobody decided within the {schedule.catch_up:g} s of catch_up")
    return expired(schedule, nominal + schedule.offset, now)


def expired(schedule: Schedule, due: float, now: float) -> Fate | None:
    """The fate of a fire that was due so long ago that it may not begin any more."""
    if schedule.deadline is None or now < due + schedule.deadline:
        return None
    return Fate("deadline", f"it had not begun {schedule.deadline:g} s after it was due")
