"""What people ask of a scheduler: pause, resume, run, backfill; checked and carried out."""

from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Any, NamedTuple

from farm_scheduler.core import Machine, Pause, Schedule
from farm_scheduler.state import State

__all__ = ["BACKFILL_MAX", "Plan", "Wishes", "plan_backfill"]

BACKFILL_MAX = 100_000
"""Nominal times in one backfill."""


class Plan(NamedTuple):
    """``times`` are to run, newest first; ``done`` are left out, for they ran well already."""

    times: list[int]
    done: list[int]


def plan_backfill(
    state: State, schedule: Schedule, begin: int, end: int, *, again: bool = False
) -> Plan:
    """What a backfill of ``[begin, end)`` runs.

    Without ``again`` only times of which no run succeeded or is under way. Raises ``ValueError`` if
    there are too many.
    """
    times: list[int] = []
    at = schedule.timing.next(begin - 1)
    while at is not None and at < end:
        times.append(at)
        if len(times) > BACKFILL_MAX:
            raise ValueError(f"more than {BACKFILL_MAX} nominal times; backfill a shorter range")
        at = schedule.timing.next(at)
    done: set[int] = set()
    if not again:
        condition = (
            "schedule = ? AND nominal >= ? AND nominal < ? AND kind != 'manual' AND "
            "(outcome = 'succeeded' OR state IN ('waiting', 'running'))"
        )
        done = {row.nominal for row in state.rows(condition, schedule.name, begin, end)}
    times.reverse()
    return Plan([one for one in times if one not in done], [one for one in times if one in done])


class Wishes:
    """Carries out orders; each returns what is answered, and raises ``ValueError`` if it cannot."""

    def __init__(self, machine: Machine, state: State) -> None:
        self._machine = machine
        self._state = state
        self._known: Mapping[str, Callable[..., dict[str, Any]]] = {
            "pause": self.pause,
            "resume": self.resume,
            "run": self.run,
            "backfill": self.backfill,
        }

    def fulfil(
        self, number: int, at: float, what: str, arguments: Mapping[str, Any], now: float
    ) -> dict[str, Any]:
        """One order, given at a time and carried out now: the answer."""
        try:
            wish = self._wish(what, arguments.get("name", ""))
            return wish(number=number, at=at, now=now, **arguments)
        except (ValueError, TypeError) as error:
            return {"error": str(error)}

    def _wish(self, what: str, name: str) -> Callable[..., dict[str, Any]]:
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
        """Skip what is due from when it was ordered."""
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
    ) -> dict[str, Any]:  # fmt: skip
        """Run times of the past."""
        schedule = self._machine.entries[name].schedule
        plan = plan_backfill(self._state, schedule, begin, min(end, int(now)), again=again)
        times: Sequence[int] = plan.times
        self._machine.backfill(name, times, f"backfill {number} {at!r}", now, at_once=at_once)
        return {"name": name, "fires": len(times), "left_out": len(plan.done)}
