"""Fires as tasks of the farm: submitted with their id as the key, watched, stopped.

A fire is submitted at least once and runs at most once: its id is the idempotency key of its task,
so a scheduler that takes over may submit again what it is not sure of.
"""

import contextlib
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, NamedTuple

from farm.client.client import Client
from farm.errors import Expired, KeyConflict, PayloadError, UnknownTask, WorkerLost
from farm_scheduler.calls import call_of
from farm_scheduler.command import CommandFailed
from farm_scheduler.core import Kind, Row, Schedule

__all__ = ["KEY_SECONDS", "Ended", "Submitter"]

KEY_SECONDS = 20 * 3600.0
"""For how long a fire may be submitted again: less than the farm remembers keys, a day."""
RESULT_TTL = "2d"
"""For how long outcomes are kept for a scheduler that takes over."""
BACKFILL_PRIORITY = 10
"""By how much a backfill is less urgent."""
DETAIL_CHARS = 2000
OUTCOMES: tuple[tuple[type[BaseException], str], ...] = (
    (CancelledError, "cancelled"),
    (Expired, "expired"),
    (WorkerLost, "dead"),
    (PayloadError, ""),
    (KeyConflict, "lost"),  # it ran before its schedule was changed; how, nobody can say
    (UnknownTask, "unknown"),
)
"""What the error of a task means; all others are its own."""


class Ended(NamedTuple):
    """The task of a fire has ended; an empty outcome: it could not become one, for ``detail``."""

    fire: str
    outcome: str
    detail: str = ""
    output: str = ""


class Submitter:
    """``heard(Ended)`` is called, on another thread, when the task of a fire has ended."""

    def __init__(self, client: Client, heard: Callable[[Ended], object]) -> None:
        self._client = client
        self._heard = heard
        self._futures: dict[str, Future[Any]] = {}  # of fires that run, by fire

    def submit(self, row: Row, schedule: Schedule, now: float) -> str:
        """Submit a fire; returns its task's id.

        Raises ``Busy`` if the farm has no room now, and ``ValueError`` or ``TypeError`` for what
        can never be submitted.
        """
        call = call_of(schedule, row)
        options: dict[str, Any] = {
            "result_ttl": RESULT_TTL,
            **schedule.options,
            "idempotency_key": row.fire_id,
            "block": False,
        }
        if row.kind is Kind.BACKFILL:
            options["priority"] = min(options.get("priority", 0), 0) - BACKFILL_PRIORITY
        elif schedule.deadline is not None:
            options["expires"] = max(row.due + schedule.deadline - now, 0.001)
        view = self._client.options(**options)
        return self._watch(row.fire_id, view.submit(call.function, *call.args, **call.kwargs))

    def attach(self, row: Row) -> Future[Any]:
        """Watch a task that another scheduler has submitted."""
        future = self._client.future(row.task)
        self._watch(row.fire_id, future)
        return future

    def _watch(self, fire: str, future: Any) -> str:
        self._futures[fire] = future
        future.add_done_callback(lambda one: self._ended(fire, one))
        return str(getattr(future, "id", ""))

    def stop(self, fire: str) -> None:
        """Stop the task of a fire; takes a while, so not on the scheduler's thread."""
        future: Any = self._futures.get(fire)
        if future is not None:
            with contextlib.suppress(FutureTimeout, ConnectionError):
                future.stop()

    def _ended(self, fire: str, future: "Future[Any]") -> None:
        if self._futures.get(fire) is not future:
            return  # it was submitted again
        ended = outcome_of(fire, future)
        if ended is not None:
            self._futures.pop(fire, None)
            self._heard(ended)


def outcome_of(fire: str, future: "Future[Any]") -> Ended | None:
    """What a future that is over says of a fire; None if only its client is closed."""
    try:
        error = future.exception(0)
    except CancelledError:
        return Ended(fire, "cancelled")
    if error is None:
        value = future.result(0)
        output = value.get("output", "") if isinstance(value, dict) else ""
        return Ended(fire, "succeeded", output=output if isinstance(output, str) else "")
    if isinstance(error, ConnectionError):
        return None
    if isinstance(error, CommandFailed):
        return Ended(fire, "failed", str(error)[:DETAIL_CHARS], error.output)
    outcome = next((word for kind, word in OUTCOMES if isinstance(error, kind)), "failed")
    return Ended(fire, outcome, f"{type(error).__name__}: {error}"[:DETAIL_CHARS])
