"""What becomes of fires whose time has come: skipped, one for several, or offered to run.

Each rule is a function of a schedule, times and the clock; ``Machine`` carries out what they say.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from farm_scheduler.core.entry import Pause
from farm_scheduler.core.schedule import Schedule, policy

__all__ = ["Fate", "Verdict", "decide", "expired"]


class Fate(NamedTuple):
    """``into``: the nominal time that runs in its stead. Neither that nor a reason: it may run."""

    reason: str = ""
    detail: str = ""
    into: int | None = None


RUNS = Fate()
Verdict = tuple[int, Fate]
"""A nominal time and what becomes of it."""


def decide(
    schedule: Schedule,
    times: Sequence[int],
    now: float,
    paused: Callable[[float], Pause | None],
) -> Iterator[Verdict]:
    """What becomes of nominal times that are due, ascending, before one looks what else runs."""
    missed: list[int] = []
    on_time: list[int] = []
    for nominal in times:
        due = nominal + schedule.offset
        if (fate := _hopeless(schedule, nominal, now, paused(due))) is not None:
            yield nominal, fate
        elif schedule.is_late(due, now):
            missed.append(nominal)
        else:
            on_time.append(nominal)
    yield from _missed(schedule, missed, on_time)
    yield from ((nominal, RUNS) for nominal in on_time)


def _hopeless(schedule: Schedule, nominal: int, now: float, pause: Pause | None) -> Fate | None:
    """Why a fire may not run, whatever else there is."""
    if pause is not None:
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


def _missed(schedule: Schedule, missed: Sequence[int], on_time: Sequence[int]) -> Iterator[Verdict]:
    if not missed:
        return
    way, most = policy(schedule.misfire)
    if way == "skip":
        yield from ((one, Fate("missed", "nobody decided at its time")) for one in missed)
    elif way == "latest":
        last = on_time[0] if on_time else missed[-1]
        yield from ((one, Fate(into=last)) for one in missed if one != last)
        if not on_time:
            yield last, RUNS
    else:
        gone = max(len(missed) - most, 0)
        text = f"more than {most} were missed"
        yield from ((one, Fate("missed", text)) for one in missed[:gone])
        yield from ((one, RUNS) for one in missed[gone:])
