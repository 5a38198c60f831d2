"""The routes about schedules."""

from datetime import datetime
from typing import Annotated, Any

from litestar import Controller, Request, Response, get, post
from litestar.openapi import ResponseSpec
from litestar.params import PathParameter, QueryParameter

from farm.gateway import schemas as s
from farm.gateway.describing import Key, problems
from farm.gateway.gateway import Gateway
from farm.gateway.guard import caller_of

__all__ = ["SCHEDULE_ROUTES"]

ANSWER_SECONDS = 10.0
"""How long a scheduler may take to answer an order."""
Name = Annotated[str, PathParameter(description="A schedule: `GET /v1/schedules`")]
ORDERED = {
    202: ResponseSpec(
        s.Ordered,
        description="No scheduler has answered yet; the next one will do it",
        generate_examples=False,
    ),
    **problems(403, 404, 408, 409, 413, 415, 422, 503),
}


class Schedules(Controller):
    """What runs when, what became of it, and whether it should."""

    path = "/v1/schedules"
    tags = ["schedules"]  # noqa: RUF012 - as the framework has it

    @get(responses=problems(404, 422, 503), summary="List the schedules")
    async def all(
        self,
        gateway: Gateway,
        after: Annotated[
            str, QueryParameter(max_length=200, description="Those after this name")
        ] = "",
        limit: Annotated[int, QueryParameter(ge=1, le=10_000, description="How many")] = 1000,
        retired: Annotated[
            bool, QueryParameter(description="Also those that are in no file any more")
        ] = False,
    ) -> list[s.ScheduleView]:
        """Schedules by name: when each fires next, how the last fire ended, which are stopped."""
        return await gateway.schedules.all(after, limit, retired=retired)

    @get("/{name:str}", responses=problems(404, 422, 503), summary="Read a schedule")
    async def read(self, name: Name, gateway: Gateway) -> s.ScheduleView:
        """A schedule, with its options and next times."""
        return await gateway.schedules.read(name)

    @get("/{name:str}/history", responses=problems(404, 422, 503), summary="What became of it")
    async def history(
        self,
        name: Name,
        gateway: Gateway,
        begin: Annotated[
            datetime | None, QueryParameter(name="from", description="Nominal times from here")
        ] = None,
        end: Annotated[
            datetime | None, QueryParameter(name="to", description="Nominal times before this")
        ] = None,
        limit: Annotated[
            int, QueryParameter(ge=1, le=10_000, description="How many, the newest")
        ] = 100,
    ) -> list[s.FireView]:
        """Nominal times, by time, each with its one row: ran, coalesced, or skipped and why."""
        return await gateway.schedules.history(name, begin, end, limit)

    @post("/{name:str}/pause", status_code=200, responses=ORDERED, summary="Pause a schedule")
    async def pause(
        self,
        request: Request[Any, Any, Any],
        name: Name,
        gateway: Gateway,
        data: s.PauseRequest | None = None,
    ) -> Response[s.Ordered]:
        """Skip what is due from now on; what runs runs on."""
        caller = f"{caller_of(request.scope)} over HTTP"
        async with gateway.waiting(ANSWER_SECONDS) as wait:
            told = data or s.PauseRequest()
            return _answered(await gateway.schedules.pause(name, told, caller, wait))

    @post("/{name:str}/resume", status_code=200, responses=ORDERED, summary="Resume a schedule")
    async def resume(self, name: Name, gateway: Gateway) -> Response[s.Ordered]:
        """Go on with a schedule that was paused; what was skipped stays skipped."""
        async with gateway.waiting(ANSWER_SECONDS) as wait:
            return _answered(await gateway.schedules.resume(name, wait))

    @post("/{name:str}/run", status_code=200, responses=ORDERED, summary="Run a schedule now")
    async def run(
        self,
        request: Request[Any, Any, Any],
        name: Name,
        gateway: Gateway,
        idempotency_key: Key = "",
    ) -> Response[s.Ordered]:
        """A fire by hand, be the schedule paused; its overlap policy counts."""
        key = _own_key(request, idempotency_key)
        async with gateway.waiting(ANSWER_SECONDS) as wait:
            return _answered(await gateway.schedules.run(name, key, wait))

    @post("/{name:str}/backfill", status_code=200, responses=ORDERED, summary="Run past times")
    async def backfill(
        self,
        request: Request[Any, Any, Any],
        name: Name,
        gateway: Gateway,
        data: s.BackfillRequest,
        idempotency_key: Key = "",
    ) -> Response[s.Ordered]:
        """Nominal times of the past, newest first, at low priority; what ran well is left out."""
        key = _own_key(request, idempotency_key)
        async with gateway.waiting(ANSWER_SECONDS) as wait:
            ordered = await gateway.schedules.backfill(name, data, key, wait)
        return _answered(ordered, dry=data.dry_run)


def _own_key(request: Request[Any, Any, Any], key: str) -> str:
    """A key of this caller's, which is no other caller's."""
    return key and f"{caller_of(request.scope)} {key}"


def _answered(ordered: s.Ordered, *, dry: bool = False) -> Response[s.Ordered]:
    return Response(ordered, status_code=200 if ordered.done or dry else 202)


SCHEDULE_ROUTES: list[Any] = [Schedules]
"""For the application."""
