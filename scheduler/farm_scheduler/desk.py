"""Where people ask about schedules, and give orders: through the state file of their schedulers.

The command line and the HTTP gateway stand here; both must be on the machine of the schedulers.
What is answered is plain data, with times as ISO writes them, in the zone of the schedule.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from difflib import get_close_matches
from math import inf
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from farm.errors import UnknownTask
from farm_scheduler.core import Entry, Row
from farm_scheduler.cron import zone
from farm_scheduler.files import Problem
from farm_scheduler.state import State
from farm_scheduler.turns import holder, poke
from farm_scheduler.wishes import plan_backfill

__all__ = ["SHOWN", "Desk", "unknown"]

SHOWN = (
    *("run", "args", "kwargs", "command", "dst", "misfire", "overlap", "catch_up", "late_after"),
    *("jitter", "deadline", "keep", "on_failure", "on_late", "options"),
)
"""Options that are shown of one schedule, besides those of a list."""
NEXT_TIMES = 5
TIMES_SHOWN = 1000
"""Of those that a backfill would run."""
T = TypeVar("T")


class Desk:
    """One state file; any thread may ask. Methods raise ``StoreError`` where it cannot be read.

    They raise ``UnknownTask`` for a schedule that is none, naming the nearest.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def schedules(self, *, after: str, limit: int, retired: bool) -> list[dict[str, Any]]:
        """Schedules by name, after one; entries that are stopped are among them."""

        def ask(state: State) -> list[dict[str, Any]]:
            stopped = {one.name: one for one in state.problems()}
            found = {
                entry.schedule.name: _described(
                    state, entry, file, stopped.get(entry.schedule.name)
                )
                for entry, file in state.entries(after=after, limit=limit, retired=retired)
            }
            more = {name: _stopped(one) for name, one in stopped.items() if name > after}
            merged = sorted({**more, **found}.items())
            return [one for _, one in merged[:limit]]

        return self._ask(ask)

    def schedule(self, name: str) -> dict[str, Any]:
        """One schedule, with its options and next times."""

        def ask(state: State) -> dict[str, Any]:
            problem = next((one for one in state.problems() if one.name == name), None)
            found = state.entry(name)
            if found is None:
                if problem is None:
                    raise unknown(state, name)
                return _stopped(problem)
            entry, file = found
            schedule = entry.schedule
            view = _described(state, entry, file, problem)
            view["options"] = {one: getattr(schedule, one) for one in SHOWN}
            times: list[str] = []
            at = entry.next if view["next"] else None
            while at is not None and len(times) < NEXT_TIMES:
                times.append(_iso(at, schedule.tz))
                at = schedule.timing.next(at)
            view["next_times"] = times
            return view

        return self._ask(ask)

    def history(
        self, name: str, *, begin: float | None, end: float | None, limit: int
    ) -> list[dict[str, Any]]:
        """The newest rows of a schedule between two times, the oldest of them first."""

        def ask(state: State) -> list[dict[str, Any]]:
            found = state.entry(name)
            if found is None:
                raise unknown(state, name)
            condition = "schedule = ? AND nominal >= ? AND nominal < ?"
            span = (-inf if begin is None else begin, inf if end is None else end)
            rows = state.rows(condition, name, *span, limit=limit, newest=True)
            return [_fire(row, found[0].schedule.tz) for row in rows][::-1]

        return self._ask(ask)

    def plan(self, name: str, *, begin: int, end: int, again: bool) -> dict[str, Any]:
        """What a backfill of ``[begin, end)`` would run; ``ValueError`` if that is too much."""

        def ask(state: State) -> dict[str, Any]:
            found = state.entry(name)
            if found is None:
                raise unknown(state, name)
            schedule = found[0].schedule
            plan = plan_backfill(state, schedule, begin, min(end, int(time.time())), again=again)
            return {
                "fires": len(plan.times),
                "left_out": len(plan.done),
                "times": [_iso(at, schedule.tz) for at in plan.times[:TIMES_SHOWN]],
            }

        return self._ask(ask)

    def order(self, what: str, key: str = "", **arguments: Any) -> int:
        """Ask the scheduler for something, and wake it; ``answer`` has what it says.

        Of orders with one ``key`` there is one. Raises ``KeyConflict`` if the other differs.
        """

        def ask(state: State) -> int:
            name = arguments["name"]
            if state.entry(name) is None:
                raise unknown(state, name)
            return state.order(time.time(), what, arguments, key)

        number = self._ask(ask)
        poke(self.path)
        return number

    def answer(self, number: int) -> dict[str, Any] | None:
        """What the scheduler said to an order; None while it has said nothing."""
        found: dict[str, Any] | None = self._ask(lambda state: state.answer(number))
        return found

    def decides(self) -> bool:
        """Whether there is a scheduler now; without one orders wait."""
        return holder(self.path) != 0

    def _ask(self, ask: Callable[[State], T]) -> T:
        state = State(self.path, must_exist=True)
        try:
            return ask(state)
        finally:
            state.close()


def unknown(state: State, name: str) -> UnknownTask:
    """There is no schedule of that name, or it is stopped; the nearest is named."""
    for problem in state.problems():
        if problem.name == name:
            said = problem.message.removeprefix(f"schedule {name!r}: ")
            return UnknownTask(f"{name!r} is stopped: {said}")
    near = get_close_matches(name, state.names(), 1)
    hint = f"did you mean {near[0]!r}?" if near else "`farm schedules list` has them"
    return UnknownTask(f"there is no schedule {name!r}; {hint}")


def _stopped(problem: Problem) -> dict[str, Any]:
    return {
        "name": problem.name,
        "file": problem.file,
        "state": "stopped",
        "problem": problem.message,
    }


def _described(state: State, entry: Entry, file: str, problem: Problem | None) -> dict[str, Any]:
    schedule = entry.schedule
    last = next(state.rows("schedule = ?", schedule.name, limit=1, newest=True), None)
    following = None if entry.next is None or entry.retired is not None else entry.next
    pauses = [
        {
            "since": _iso(one.at, schedule.tz),
            "until": None if one.until == inf else _iso(one.until, schedule.tz),
            "who": one.who,
            "why": one.why,
        }
        for one in entry.pauses
    ]
    return {
        "name": schedule.name,
        "cron": schedule.cron,
        "tz": schedule.tz,
        "file": file,
        **_standing(entry, problem),
        "next": None if following is None else _iso(following, schedule.tz),
        "last": None if last is None else _fire(last, schedule.tz),
        "pauses": pauses,
    }


def _standing(entry: Entry, problem: Problem | None) -> dict[str, str]:
    said = {} if problem is None else {"problem": problem.message}
    if entry.retired is not None:
        if problem is None:
            return {"state": "retired"}
        return {"state": "stopped", "file": problem.file, **said}
    if entry.paused(time.time()) is not None:
        return {"state": "paused", **said}
    return {
        "state": "over" if entry.next is None else "works",
        **said,
    }  # another entry has its name


def _fire(row: Row, tz: str) -> dict[str, Any]:
    found = msgspec.structs.asdict(row)
    for name in ("nominal", "due", "since", "begun", "ended", "until"):
        if found[name] is not None:
            found[name] = _iso(found[name], tz)
    return found


def _iso(at: float, tz: str) -> str:
    return datetime.fromtimestamp(at, UTC).astimezone(zone(tz)).isoformat()
