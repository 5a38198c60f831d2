"""Schedules over HTTP: what a scheduler keeps, and orders to it.

The gateway does not import the scheduler: whoever starts it hands over a ``Desk``, which reads the
state file of the schedulers, and so has to be on their machine.
"""

import asyncio
import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

import msgspec

from farm.errors import ConfigError, FarmError, KeyConflict, StoreError, UnknownTask
from farm.gateway.problems import Problem, busy
from farm.gateway.schemas import BackfillRequest, FireView, Ordered, PauseRequest, ScheduleView

__all__ = ["Desk", "Schedules"]

NOBODY = (
    "this gateway does not know of schedules: run it where their scheduler is, and name what that "
    "keeps with --schedules FILE"
)
LOOK_SECONDS = (0.01, 0.2)
"""How often an answer to an order is looked for: at first, and at last."""
TOLD = ("was_paused", "fire_id", "state", "reason", "until", "fires", "left_out")
"""What a caller is told of what was answered."""
T = TypeVar("T")


class Desk(Protocol):
    """What is asked of the schedulers; see ``farm_scheduler.desk``. Methods may block."""

    def schedules(self, *, after: str, limit: int, retired: bool) -> list[dict[str, Any]]:
        """Schedules by name, after one."""

    def schedule(self, name: str) -> dict[str, Any]:
        """One schedule."""

    def history(
        self, name: str, *, begin: float | None, end: float | None, limit: int
    ) -> list[dict[str, Any]]:
        """What became of its nominal times."""

    def plan(self, name: str, *, begin: int, end: int, again: bool) -> dict[str, Any]:
        """What a backfill would run; ``ValueError`` if that is too much."""

    def order(self, what: str, key: str = "", **arguments: Any) -> int:
        """Give an order: its number."""

    def answer(self, number: int) -> dict[str, Any] | None:
        """What was said to it."""

    def decides(self) -> bool:
        """Whether anybody will answer soon."""


class Schedules:
    """Answers what is asked of schedules; methods raise ``Problem``."""

    def __init__(self, desk: Desk | None, stopping: asyncio.Event) -> None:
        self._desk = desk
        self._stopping = stopping

    async def all(self, after: str, limit: int, *, retired: bool) -> list[ScheduleView]:
        """Some of them, by name."""
        found = await self._ask(
            lambda desk: desk.schedules(after=after, limit=limit, retired=retired)
        )
        return msgspec.convert(found, list[ScheduleView])

    async def read(self, name: str) -> ScheduleView:
        """One of them."""
        return msgspec.convert(await self._ask(lambda desk: desk.schedule(name)), ScheduleView)

    async def history(
        self, name: str, begin: datetime | None, end: datetime | None, limit: int
    ) -> list[FireView]:
        """What became of its nominal times."""
        span = {"begin": _seconds(begin), "end": _seconds(end)}
        found = await self._ask(lambda desk: desk.history(name, limit=limit, **span))
        return msgspec.convert(found, list[FireView])

    async def pause(self, name: str, data: PauseRequest, caller: str, wait: float) -> Ordered:
        """Skip what is due from now on."""
        until = _seconds(data.until)
        if until is not None and until <= datetime.now(UTC).timestamp():
            raise Problem(422, f"until is {data.until}, which is over", field="until")
        told = {"until": until, "who": data.who or caller, "why": data.why}
        return await self._order(wait, "pause", {"name": name, **told})

    async def resume(self, name: str, wait: float) -> Ordered:
        """Go on."""
        return await self._order(wait, "resume", {"name": name})

    async def run(self, name: str, key: str, wait: float) -> Ordered:
        """A fire by hand."""
        return await self._order(wait, "run", {"name": name}, key)

    async def backfill(self, name: str, data: BackfillRequest, key: str, wait: float) -> Ordered:
        """Run times of the past, or only say which."""
        begin, end = (math.ceil(_instant(one)) for one in (data.begin, data.end))
        if begin >= end:
            raise Problem(
                422, f"from is {data.begin}, which is not before to, {data.end}", field="to"
            )
        told: dict[str, Any] = {"begin": begin, "end": end, "again": data.again}
        if not data.dry_run:
            told["at_once"] = data.at_once
            return await self._order(wait, "backfill", {"name": name, **told}, key)
        try:
            plan = await self._ask(lambda desk: desk.plan(name, **told))
        except ValueError as error:
            raise Problem(422, str(error), field="from") from None
        return Ordered(name, done=False, **plan)

    async def _order(
        self, wait: float, what: str, arguments: dict[str, Any], key: str = ""
    ) -> Ordered:
        """Give an order, and wait for the answer while there is somebody to give it."""
        number = await self._ask(lambda desk: desk.order(what, key, **arguments))
        loop = asyncio.get_running_loop()
        until, pause = loop.time() + wait, LOOK_SECONDS[0]
        while True:
            answer = await self._ask(lambda desk: desk.answer(number))
            over = loop.time() >= until or self._stopping.is_set()
            if answer is not None or over or not await self._ask(lambda desk: desk.decides()):
                break
            await asyncio.sleep(pause)
            pause = min(2 * pause, LOOK_SECONDS[1])
        if answer is None:
            return Ordered(arguments["name"], done=False)
        if "error" in answer:
            raise Problem(409, answer["error"])
        told = {key: answer[key] for key in TOLD if answer.get(key) is not None}
        if "until" in told:
            told["until"] = datetime.fromtimestamp(told["until"], UTC).isoformat()
        return Ordered(answer["name"], done=True, **told)

    async def _ask(self, ask: Callable[[Desk], T]) -> T:
        """Ask the desk, beside the event loop."""
        if self._desk is None:
            raise Problem(404, NOBODY)
        try:
            return await asyncio.to_thread(ask, self._desk)
        except UnknownTask as error:
            raise Problem(404, str(error)) from None
        except KeyConflict as error:
            raise Problem(409, str(error)) from None
        except (StoreError, ConfigError) as error:
            raise busy(str(error), 10.0) from None
        except FarmError as error:
            raise Problem(404, str(error)) from None


def _seconds(at: datetime | None) -> float | None:
    """Since 1970, if it is said at all."""
    return None if at is None else _instant(at)


def _instant(at: datetime) -> float:
    """Since 1970; a time without an offset is in UTC."""
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
