"""The routes of the gateway: what can be asked, and what is answered."""

from typing import Annotated, Any

from litestar import Controller, MediaType, Request, Response, delete, get, post
from litestar.datastructures import ResponseHeader
from litestar.openapi import ResponseSpec
from litestar.params import HeaderParameter, PathParameter, QueryParameter
from litestar.response import Stream

from farm.errors import FarmError
from farm.gateway import schemas as s
from farm.gateway.describing import Key, problems
from farm.gateway.gateway import Gateway
from farm.gateway.guard import caller_of
from farm.gateway.metrics import CONTENT_TYPE
from farm.gateway.problems import Problem, busy
from farm.gateway.seat import Seat
from farm.gateway.submitting import Asker
from farm.model import seconds

__all__ = ["ROUTES"]

TASK = {"id": "The id of a task"}


LOCATION = ResponseHeader(
    name="Location", description="Where it can be read", documentation_only=True
)
WRITES = (408, 409, 413, 415, 422, 503)
Id = Annotated[str, PathParameter(description="An id, as a 202 has it")]
QueueName = Annotated[str, PathParameter(description="A queue: `GET /v1/queues`")]
Wait = Annotated[
    float,
    QueryParameter(ge=0, description="Seconds to wait for the end; the gateway has a bound for it"),
]
Grace = Annotated[
    str | None,
    QueryParameter(
        description="End also what runs, after it had so long to clean up: seconds, or `5s`",
        pattern=r"^[0-9]{1,9}(\.[0-9]{1,9})?(ms|s|m|min|h|d)?$",
    ),
]
Queue = Annotated[
    str,
    QueryParameter(
        max_length=200,
        description="The queue, as `options.queue` in the body; said here, a full one refuses the"
        " request before its body is read",
    ),
]


class Tasks(Controller):
    """Calls of functions."""

    path = "/v1/tasks"
    tags = ["tasks"]  # noqa: RUF012 - as the framework has it

    @post(
        status_code=202,
        responses=problems(*WRITES, 429),
        response_headers=[LOCATION],
        summary="Run a function",
    )
    async def submit(
        self,
        request: Request[Any, Any, Any],
        data: s.TaskRequest,
        seat: "Seat",
        queue: Queue = "",
        idempotency_key: Key = "",
    ) -> Response[s.TaskAccepted]:
        """Run a registered function; 202 when the farm has the task, and will not lose it."""
        asker = Asker(caller_of(request.scope), queue, idempotency_key)
        task = await seat.submitting.task(data, asker)
        url = f"/v1/tasks/{task}"
        return Response(s.TaskAccepted(task, url), headers={"location": url})

    @get("/{task_id:str}", responses=problems(404, 410, 422, 503), summary="Read a task")
    async def read(
        self, task_id: Id, gateway: "Gateway", seat: "Seat", wait: Wait = 0.0
    ) -> s.TaskView:
        """A task as it stands; with `wait`, when it is over or after so many seconds."""
        async with gateway.waiting(wait) as allowed:
            return await seat.reading.task(task_id, allowed)

    @delete(
        "/{task_id:str}",
        status_code=200,
        responses=problems(404, 415, 422, 503),
        summary="Cancel a task",
    )
    async def cancel(self, task_id: Id, seat: "Seat", grace: Grace = None) -> s.Cancelled:
        """Cancel a task that no worker has begun; with `grace`, end also one that runs."""
        return await seat.reading.cancel_task(task_id, _grace(grace))


class Jobs(Controller):
    """Many calls of one function."""

    path = "/v1/jobs"
    tags = ["jobs"]  # noqa: RUF012 - as the framework has it

    @post(
        status_code=202,
        responses=problems(*WRITES, 429),
        response_headers=[LOCATION],
        summary="Run a function many times",
    )
    async def submit(
        self,
        request: Request[Any, Any, Any],
        data: s.JobRequest,
        seat: "Seat",
        queue: Queue = "",
        idempotency_key: Key = "",
    ) -> Response[s.JobAccepted]:
        """Run a function for each item; 202 when the farm has all of its tasks."""
        asker = Asker(caller_of(request.scope), queue, idempotency_key)
        job, count = await seat.submitting.job(data, asker)
        url = f"/v1/jobs/{job}"
        return Response(s.JobAccepted(job, url, count), headers={"location": url})

    @get("/{job_id:str}", responses=problems(404, 422, 503), summary="Read a job")
    async def read(
        self, job_id: Id, gateway: "Gateway", seat: "Seat", wait: Wait = 0.0
    ) -> s.JobView:
        """A job as it stands; with `wait`, when it is over or after so many seconds."""
        async with gateway.waiting(wait) as allowed:
            return await seat.reading.job(job_id, allowed)

    @get("/{job_id:str}/tasks", responses=problems(404, 422, 503), summary="List a job's tasks")
    async def tasks(
        self,
        job_id: Id,
        seat: "Seat",
        start: Annotated[int, QueryParameter(ge=0, le=1 << 53, description="The first index")] = 0,
        limit: Annotated[int, QueryParameter(ge=1, le=10_000, description="How many")] = 1000,
    ) -> list[s.JobTask]:
        """The tasks of a job, in its order."""
        return await seat.reading.job_tasks(job_id, start, limit)

    @get(
        "/{job_id:str}/events",
        responses={
            **problems(404, 422, 503),
            204: ResponseSpec(None, description="All has been told"),
        },
        media_type="text/event-stream",
        summary="Follow a job",
    )
    async def events(
        self,
        job_id: Id,
        gateway: "Gateway",
        seat: "Seat",
        last_event_id: Annotated[
            str,
            HeaderParameter(
                name="Last-Event-ID", description="Go on after this one", pattern=r"^[0-9]{0,18}$"
            ),
        ] = "",
    ) -> Response[Any]:
        """Follow a job by server-sent events.

        `task` for each task that is over, in the job's order, `progress`
        when counts change, `end` as the last. Resumable by `Last-Event-ID`.
        """
        told = int(last_event_id or 0)
        view = await seat.reading.job(job_id)
        if view.over and last_event_id and told >= view.total:
            return Response(None, status_code=204)
        gateway.check_waits()
        return Stream(
            gateway.stream(seat, view, told),
            media_type="text/event-stream",
            headers={"cache-control": "no-store"},
        )

    @delete(
        "/{job_id:str}",
        status_code=200,
        responses=problems(404, 415, 422, 503),
        summary="Cancel a job",
    )
    async def cancel(self, job_id: Id, seat: "Seat", grace: Grace = None) -> s.Cancelled:
        """Cancel the tasks of a job that no worker has begun; with `grace`, all of them."""
        return await seat.reading.cancel_job(job_id, _grace(grace))


class Farm(Controller):
    """The farm itself."""

    path = "/v1"
    tags = ["farm"]  # noqa: RUF012 - as the framework has it

    @get("/functions", responses=problems(), summary="List the functions")
    async def functions(self, seat: "Seat") -> list[s.Function]:
        """The functions that can be run, and their parameters."""
        return [
            s.Function(name, summary, signature.describe())
            for name, summary, signature in seat.submitting.functions()
        ]

    @get("/status", responses=problems(503), summary="How the farm is")
    async def status(self, seat: "Seat") -> dict[str, Any]:
        """As `farm status --json` says it."""
        return await seat.ask("status")  # type: ignore[no-any-return]

    @get("/hosts", responses=problems(503), summary="List the hosts")
    async def hosts(self, seat: "Seat") -> list[dict[str, Any]]:
        """As `farm hosts --json` says it."""
        return await seat.ask("hosts")  # type: ignore[no-any-return]

    @get("/queues", responses=problems(503), summary="List the queues")
    async def queues(self, seat: "Seat") -> list[dict[str, Any]]:
        """As `farm queues --json` says it."""
        return await seat.ask("queues")  # type: ignore[no-any-return]

    @post(
        "/queues/{name:str}/pause",
        status_code=200,
        responses=problems(403, 404, 408, 413, 415, 503),
        summary="Pause a queue",
    )
    async def pause(self, name: QueueName, seat: "Seat") -> dict[str, Any]:
        """Start nothing more of it; what runs runs on."""
        return await seat.ask("pause_queue", name=name)  # type: ignore[no-any-return]

    @post(
        "/queues/{name:str}/resume",
        status_code=200,
        responses=problems(403, 404, 408, 413, 415, 503),
        summary="Resume a queue",
    )
    async def resume(self, name: QueueName, seat: "Seat") -> dict[str, Any]:
        """Start tasks of it again."""
        return await seat.ask("resume_queue", name=name)  # type: ignore[no-any-return]

    @post(
        "/queues/{name:str}/purge",
        status_code=200,
        responses=problems(403, 404, 408, 413, 415, 503),
        summary="Purge a queue",
    )
    async def purge(self, name: QueueName, seat: "Seat") -> dict[str, Any]:
        """Cancel what waits in it; what runs runs on."""
        return await seat.ask("purge_queue", name=name)  # type: ignore[no-any-return]


@get("/health/live", tags=["health"], responses=problems(), summary="Whether it runs")
async def live() -> s.Health:
    """Whether this process answers."""
    return s.Health("ok")


@get("/health/ready", tags=["health"], responses=problems(503), summary="Whether it can be used")
async def ready(gateway: "Gateway") -> s.Health:
    """Whether the farm can be reached from here."""
    if not gateway.relay.connected:
        raise busy(f"the farm cannot be reached now: {gateway.relay.trouble}")
    return s.Health("ok")


@get(
    "/metrics",
    tags=["health"],
    media_type=MediaType.TEXT,
    responses=problems(503),
    summary="Numbers for Prometheus",
)
async def metrics(gateway: "Gateway") -> Response[bytes]:
    """The farm's numbers and the gateway's own."""
    return Response(await gateway.scrape(), media_type=CONTENT_TYPE)


ROUTES: list[Any] = [Tasks, Jobs, Farm, live, ready, metrics]
"""For the application."""


def _grace(text: str | None) -> float | None:
    try:
        return None if text is None else seconds(text, "grace")
    except FarmError as error:
        raise Problem(422, str(error), field="grace") from None
