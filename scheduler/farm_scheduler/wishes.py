"""What people ask of a scheduler: pause, resume, run, backfill; checked and carried out."""

from array import array
from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Any, NamedTuple

from farm_scheduler.clock import utc_text
from farm_scheduler.core import Machine, Pause, Schedule
from farm_scheduler.cron import CALENDAR_END
from farm_scheduler.state import State

__all__ = ["BACKFILL_MAX", "Plan", "Planning", "Wishes", "plan_backfill"]

BACKFILL_MAX = 100_000
"""Nominal times in one backfill."""
LOOK_TIMES = 100
"""Nominal times that are looked at in one turn of a scheduler, so that what is due is not late."""
Answer = dict[str, Any] | None


class Plan(NamedTuple):
    """``times`` are to run, newest first; ``done`` are left out, for they ran well already."""

    times: Sequence[int]
    done: Sequence[int]


class Planning:
    """What a backfill of ``[begin, end)`` runs, found out some nominal times at a time.

    Without ``again`` only times of which no run succeeded or is under way.
    """

    def __init__(
        self, state: State, schedule: Schedule, begin: int, end: int, *, again: bool
    ) -> None:
        self.schedule = schedule
        self._state = state
        self._end = end
        self._again = again
        self._at = schedule.timing.next(begin - 1)
        self._planned = set[int]() if again else state.planned(schedule.name, begin, end)
        self._times, self._done = array("q"), array("q")

    def look(self) -> bool:
        """Look at some more; whether that was all. Raises ``ValueError`` if there are too many."""
        some: list[int] = []
        while self._at is not None and self._at < self._end and len(some) < LOOK_TIMES:
            some.append(self._at)
            self._at = self.schedule.timing.next(self._at)
        done: set[int] = set()
        if some and not self._again:
            done = self._state.done(self.schedule.name, some[0], some[-1] + 1)
        for at in some:
            (self._done if at in done or at in self._planned else self._times).append(at)
        if len(self._times) + len(self._done) > BACKFILL_MAX:
            raise ValueError(
                f"there are more than {BACKFILL_MAX} nominal times until {utc_text(some[-1])}; "
                "backfill a shorter range, and then the next"
            )
        return self._at is None or self._at >= self._end

    def plan(self) -> Plan:
        """What was found so far."""
        return Plan(self._times[::-1], self._done[::-1])


def plan_backfill(
    state: State, schedule: Schedule, begin: int, end: int, *, again: bool = False
) -> Plan:
    """What a backfill of ``[begin, end)`` runs; raises ``ValueError`` if there are too many."""
    planning = Planning(state, schedule, begin, end, again=again)
    while not planning.look():
        pass
    return planning.plan()


class Wishes:
    """Carries out orders; each returns what is answered, and raises ``ValueError`` if it cannot.

    None is no answer yet: there is more to be done, in the turns that follow.
    """

    def __init__(self, machine: Machine, state: State) -> None:
        self._machine = machine
        self._state = state
        self._planning: tuple[int, Planning] | None = None
        self._asked: dict[int, str] = {}  # backfills that are not planned yet, by order
        self._ended = set[int]()  # of those
        self._known: Mapping[str, Callable[..., Answer]] = {
            "pause": self.pause,
            "resume": self.resume,
            "run": self.run,
            "backfill": self.backfill,
            "end backfill": self.end_backfill,
        }

    def fulfil(
        self, number: int, at: float, what: str, arguments: Mapping[str, Any], now: float
    ) -> Answer:
        """One order, given at a time and carried out now: the answer."""
        try:
            wish = self._wish(what, arguments.get("name", ""))
            answer = wish(number=number, at=at, now=now, **arguments)
        except (ValueError, TypeError) as error:
            if self._planning is not None and self._planning[0] == number:
                self._planning = None
            answer = {"error": str(error)}
        if answer is not None:
            self._asked.pop(number, None)
            self._ended.discard(number)
        return answer

    @property
    def is_planning(self) -> bool:
        """Whether there is more to be done at once."""
        return self._planning is not None

    def _wish(self, what: str, name: str) -> Callable[..., Answer]:
        if what not in self._known:
            raise ValueError(f"nobody knows how to {what}; this scheduler may be an older one")
        entry = self._machine.entries.get(name)
        if entry is None or entry.retired is not None:
            raise ValueError(f"there is no schedule {name!r}; `farm schedules list` has them")
        return self._known[what]

    def pause(
        self, *, name: str, number: int, at: float, now: float,
        until: float | None, who: str, why: str,
    ) -> dict[str, Any]:  # fmt: skip
        """Skip what is due from when it was ordered; for ever, if nothing fires after ``until``."""
        until = None if until is None or until >= CALENDAR_END else until
        self._machine.pause(name, Pause(at, inf if until is None else until, who, why))
        return {"name": name, "until": until}

    def resume(self, *, name: str, number: int, at: float, now: float) -> dict[str, Any]:
        """Go on, from when it was ordered."""
        return {"name": name, "was_paused": self._machine.resume(name, at)}

    def run(self, *, name: str, number: int, at: float, now: float) -> dict[str, Any]:
        """A fire by hand."""
        row = self._machine.run(name, int(at), f"run {number} {at!r}", now)
        return {"name": name, "fire_id": row.fire_id, "state": str(row.state), "reason": row.reason}

    def backfill(  # noqa: PLR0913 - the same
        self, *, name: str, number: int, at: float, now: float,
        begin: int, end: int, at_once: int, again: bool,
    ) -> Answer:  # fmt: skip
        """Run times of the past; which, is found out over many turns, one order after the other."""
        self._asked[number] = name
        if number in self._ended:
            raise ValueError(f"this backfill of {name} was ended before it had begun")
        schedule = self._machine.entries[name].schedule
        if self._planning is not None and self._planning[0] != number:
            return None
        if self._planning is None or self._planning[1].schedule is not schedule:
            planning = Planning(self._state, schedule, begin, min(end, int(now)), again=again)
            self._planning = number, planning
        if not self._planning[1].look():
            return None
        plan, self._planning = self._planning[1].plan(), None
        mark = f"backfill {number} {at!r}"
        self._machine.backfill(name, plan.times, mark, now, at_once=at_once, number=number)
        return {"name": name, "fires": len(plan.times), "left_out": len(plan.done)}

    def end_backfill(
        self, *, name: str, number: int, at: float, now: float, who: str
    ) -> Answer:  # fmt: skip
        """End backfills of a schedule, those first that are not planned yet: these are told so."""
        waiting = {one for one, whose in self._asked.items() if whose == name and one < number}
        if waiting:
            self._ended |= waiting
            return None
        left = self._machine.end_backfills(name, f"by {who}" if who else "by somebody", now)
        return {"name": name, "left": left}
