"""Tasks and jobs of any client, read by id; reading consumes nothing, and cancels nothing."""

import asyncio
from typing import Any

import msgspec

from farm.client.relay import Failed, Outcome, Relay
from farm.gateway.problems import Problem, busy, busy_if_away
from farm.gateway.schemas import (
    Cancelled,
    ErrorView,
    JobTask,
    JobView,
    ProgressView,
    TaskView,
)
from farm.json_payload import json_text
from farm.model import Blob, Ending, TaskId, parse_job_id

__all__ = ["Reading"]

OUTCOME_SECONDS = 10.0
"""How long the outcome of a task that is over may take to arrive."""
JOB_LOOK_SECONDS = (0.1, 2.0)
"""How often a job that is waited for is looked at: at first, and at last."""
FINAL = frozenset({"succeeded", "failed", "cancelled", "expired", "dead", "delivered"})
STATES = {"leased": "running"}
ENDED = {
    Ending.OK: "succeeded",
    Ending.CANCELLED: "cancelled",
    Ending.EXPIRED: "expired",
    Ending.LOST: "dead",
}
NOT_JSON = (
    "its result is an object of Python, for it was not submitted over HTTP; read it there: "
    "farm.Client().future(id).result()"
)


class Reading:
    """Answers what is asked of tasks and jobs. ``stopping`` ends every wait."""

    def __init__(self, relay: Relay, stopping: asyncio.Event) -> None:
        self._relay = relay
        self.stopping = stopping

    # ------------------------------------------------------------ tasks

    async def task(self, text: str, wait: float) -> TaskView:
        """A task as it stands, or as it ended within ``wait`` seconds; raises ``Problem``."""
        task = _task_id(text)
        row = await self._row(task)
        if row is not None and row["state"] not in FINAL:
            if wait <= 0:
                return _open_view(text, row, None)
            future = self._relay.future(task)
            if not await self._ended(future, wait):
                row = await self._row(task)
                if row is not None and row["state"] not in FINAL:
                    return _open_view(text, row, future.progress)
        future = self._relay.future(task)
        with busy_if_away():
            if not await self._relay.ended(future, OUTCOME_SECONDS):
                raise ConnectionError(f"the outcome of task {text} does not arrive")
        if (error := self._relay.refusal(future)) is not None:
            raise busy(str(error))
        return await _ended_view(text, row or {}, self._relay.outcome(future))

    async def _row(self, task: TaskId) -> dict[str, Any] | None:
        """What the farm knows of a task; None if it has no more than perhaps its outcome."""
        try:
            with busy_if_away():
                found: dict[str, Any] = await self._relay.query("task", id=str(task))
        except Problem as problem:
            if problem.status == 404:  # noqa: PLR2004 - its outcome says why
                return None
            raise
        return found

    async def _ended(self, future: Any, wait: float) -> bool:
        """Wait for the end of a task, or of this gateway."""
        ended = asyncio.ensure_future(self._relay.ended(future, wait))
        stopping = asyncio.ensure_future(self.stopping.wait())
        try:
            await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
            return ended.done() and ended.result()
        finally:
            ended.cancel()
            stopping.cancel()

    async def cancel_task(self, text: str, grace: float | None) -> Cancelled:
        """Cancel a task, or with a grace stop it; raises ``Problem``."""
        task = _task_id(text)
        if await self._row(task) is None:
            raise Problem(404, f"the farm has no task {text}, or it is over for long")
        return await self._cancel([(*task, 1)], grace)

    async def _cancel(self, runs: list[Any], grace: float | None) -> Cancelled:
        with busy_if_away():
            reply = await self._relay.cancel([tuple(run) for run in runs], grace)
        done = sum(run[2] for run in (*reply.cancelled, *reply.stopped))
        return Cancelled(done, sum(run[2] for run in reply.stopping))

    # ------------------------------------------------------------ jobs

    async def job(self, text: str, wait: float = 0.0) -> JobView:
        """A job as it stands, or when it is over within ``wait`` seconds; raises ``Problem``."""
        until = asyncio.get_running_loop().time() + wait
        pause, longest = JOB_LOOK_SECONDS
        while True:
            view = _job_view(await self._job_row(text))
            left = until - asyncio.get_running_loop().time()
            if view.over or left <= 0 or await self.pause(min(pause, left)):
                return view
            pause = min(2 * pause, longest)

    async def pause(self, seconds: float) -> bool:
        """Wait so long, or until this gateway ends; whether it does."""
        try:
            async with asyncio.timeout(seconds):
                await self.stopping.wait()
        except TimeoutError:
            return False
        return True

    async def job_tasks(self, text: str, start: int, limit: int) -> list[JobTask]:
        """Tasks of a job in their order, from index ``start`` on; raises ``Problem``."""
        _check_job_id(text)
        with busy_if_away():
            rows = await self._relay.query("job_tasks", id=text, start=start, limit=limit)
        tasks: list[JobTask] = []
        for row in rows:
            first, state = TaskId.parse(row["id"]), STATES.get(row["state"], row["state"])
            tasks += [
                JobTask(row["index"] + at, str(first._replace(counter=first.counter + at)), state)
                for at in range(row["count"])
            ]
        return tasks

    async def cancel_job(self, text: str, grace: float | None) -> Cancelled:
        """Cancel the tasks of a job, or with a grace stop them; raises ``Problem``."""
        return await self._cancel((await self._job_row(text))["runs"], grace)

    async def _job_row(self, text: str) -> dict[str, Any]:
        _check_job_id(text)
        with busy_if_away():
            found: dict[str, Any] = await self._relay.query("job", id=text)
        return found


def _task_id(text: str) -> TaskId:
    try:
        return TaskId.parse(text)
    except ValueError as error:
        raise Problem(404, str(error)) from None


def _check_job_id(text: str) -> None:
    if parse_job_id(text) is None:
        raise Problem(404, f"{text!r} is no job's id: it is what POST /v1/jobs answers")


def _job_view(row: dict[str, Any]) -> JobView:
    counts: dict[str, int] = {}
    for state, count in row["counts"].items():
        name = STATES.get(state, state)
        counts[name] = counts.get(name, 0) + count
    known = {name: row[name] for name in ("id", "name", "state", "over", "total", "open")}
    return JobView(**known, counts=counts, age_seconds=row["age_seconds"])


def _open_view(text: str, row: dict[str, Any], progress: Any) -> TaskView:
    """A task that is not over."""
    return TaskView(
        id=text,
        state=STATES.get(row["state"], row["state"]),
        over=False,
        progress=ProgressView(*progress) if progress else None,
        **_facts(row),
    )


def _facts(row: dict[str, Any]) -> dict[str, Any]:
    names = ("function", "job", "host", "attempt", "age_seconds", "running_seconds")
    return {name: row[name] for name in names if name in row}


async def _ended_view(text: str, row: dict[str, Any], outcome: Outcome | None) -> TaskView:
    """A task that is over."""
    if isinstance(outcome, Failed):
        failure = outcome.failure
        said = failure.message if failure is not None else ""
        if outcome.ending is Ending.UNKNOWN:
            raise Problem(
                404, said or f"the farm has no task {text}, or keeps its result no longer"
            )
        if outcome.ending is Ending.DELIVERED:
            raise Problem(410, f"the result of task {text} went to its client, and is not kept")
        error = ErrorView(said or f"it ended as {outcome.ending.name.lower()}")
        if failure is not None:
            error.type, error.cause = failure.type_name, failure.cause
            error.traceback, error.host = failure.traceback, failure.host
            error.attempt, error.seconds = failure.attempt, failure.seconds
        state = ENDED.get(outcome.ending, "failed")
        return TaskView(id=text, state=state, over=True, error=error, **_facts(row))
    if outcome is None:
        return TaskView(id=text, state="cancelled", over=True, **_facts(row))
    view = TaskView(id=text, state="succeeded", over=True, **_facts(row))
    payload = outcome if isinstance(outcome, bytes) else None
    if isinstance(outcome, Blob):
        payload = await asyncio.to_thread(_read, outcome)
    found = None if payload is None else json_text(payload)
    if found is None:
        view.error = ErrorView(NOT_JSON)
    else:
        view.result = msgspec.Raw(found)
    return view


def _read(blob: Blob) -> bytes:
    with blob.open() as file:
        return file.read()
