"""The bodies of requests and answers: what the OpenAPI document shows."""

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

__all__ = [
    "Cancelled",
    "ErrorView",
    "FireView",
    "Function",
    "Health",
    "JobAccepted",
    "JobRequest",
    "JobTask",
    "JobView",
    "Ordered",
    "PauseRequest",
    "PauseView",
    "ProgressView",
    "ScheduleView",
    "TaskAccepted",
    "TaskRequest",
    "TaskView",
]

Name = Annotated[
    str,
    Meta(min_length=1, max_length=200, description="A registered function: `GET /v1/functions`"),
]
Options = Annotated[
    dict[str, Any],
    Meta(
        description="As `client.options(...)` takes them: `priority`, `retries`, `time_limit`,"
        " `queue`, `delay`, `expires`, `result_ttl` and others; durations are seconds, or text"
        " such as `30s`"
    ),
]
Arguments = Annotated[list[Any], Meta(description="By position")]
Named = Annotated[dict[str, Any], Meta(description="By name")]


class TaskRequest(msgspec.Struct, forbid_unknown_fields=True):
    """A call to be made on the farm."""

    function: Name
    args: Arguments = []
    kwargs: Named = {}
    options: Options = {}


class Call(msgspec.Struct, forbid_unknown_fields=True):
    """The arguments of one task of a job."""

    args: Arguments = []
    kwargs: Named = {}


class JobRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Calls of one function, a task each: one for each of ``items``, or of ``arguments``."""

    function: Name
    items: Annotated[list[Any], Meta(description="The one argument of each task")] | UnsetType = (
        UNSET
    )
    arguments: Annotated[list[Call], Meta(description="All of them")] | UnsetType = UNSET
    options: Options = {}
    name: Annotated[str, Meta(min_length=1, max_length=200)] | None = None


class TaskAccepted(msgspec.Struct):
    """The task is with the farm, which will not lose it."""

    id: str
    url: str
    """Where it can be read: as the header ``Location``."""


class JobAccepted(msgspec.Struct):
    """The job is with the farm, all of it."""

    id: str
    url: str
    tasks: int


class ProgressView(msgspec.Struct):
    """How far a running task said it is."""

    done: float
    total: float
    note: str


class ErrorView(msgspec.Struct, omit_defaults=True):
    """Why a task has no result."""

    message: str
    type: str = ""
    """Of the exception, if there was one."""
    cause: str = ""
    """``exception``, ``time_limit``, ``memory_limit``, a signal, and others."""
    traceback: str = ""
    host: str = ""
    attempt: int = 0
    seconds: float = 0.0


class TaskView(msgspec.Struct, omit_defaults=True):
    """A task as it stands."""

    id: str
    state: str
    """``scheduled``, ``queued``, ``running``; or ``succeeded``, ``failed``, ``cancelled``,
    ``expired``, ``dead``."""
    over: bool
    function: str = ""
    job: str = ""
    host: str = ""
    attempt: int = 0
    age_seconds: float = 0.0
    running_seconds: float = 0.0
    progress: ProgressView | None = None
    result: Any = UNSET
    """What the function returned, if the task succeeded."""
    error: ErrorView | None = None


class JobView(msgspec.Struct):
    """A job as it stands."""

    id: str
    name: str
    state: str
    """``open``, ``sealed``, or ``abandoned`` before all of it was there."""
    over: bool
    total: int
    open: int
    """Tasks that are not over."""
    counts: dict[str, int]
    """Tasks by state; ``delivered`` are those that are over and of which nothing is kept."""
    age_seconds: float


class JobTask(msgspec.Struct):
    """A task of a job: its place there, from 0, and how it stands."""

    index: int
    id: str
    state: str


class Cancelled(msgspec.Struct):
    """What a cancel has come to, in tasks."""

    cancelled: int
    """They will not run any more."""
    stopping: int
    """They run, and are being ended."""


class Function(msgspec.Struct):
    """A function that can be run."""

    name: str
    summary: str
    parameters: list[dict[str, Any]]
    """Each with ``name``, ``required``, and a JSON Schema where its annotation says so."""


class Health(msgspec.Struct):
    """How it is."""

    status: str


class FireView(msgspec.Struct, omit_defaults=True):
    """A nominal time of a schedule, and what became of it. Times are in the schedule's zone."""

    fire_id: str
    schedule: str
    nominal: str
    state: str
    """``waiting``, ``running``; or ``ran``, ``coalesced``, ``skipped``."""
    kind: str = "time"
    """``time``, ``manual`` or ``backfill``."""
    reason: str = ""
    """Why it was skipped, in a word."""
    detail: str = ""
    """The same in full, or how the run failed."""
    into: str = ""
    """The fire that ran in its stead."""
    task: str = ""
    outcome: str = ""
    output: str = ""
    """The end of what a command wrote."""
    due: str | None = None
    since: str | None = None
    """Where its interval begins, which ends at its nominal time."""
    begun: str | None = None
    ended: str | None = None
    until: str | None = None
    """This row stands for all nominal times from its own to before this one."""


class PauseView(msgspec.Struct):
    """A span of time in which nothing fires."""

    since: str
    until: str | None
    who: str
    why: str


class ScheduleView(msgspec.Struct, omit_defaults=True):
    """A schedule as it stands."""

    name: str
    state: str
    """``works``, ``paused``, ``over``; ``retired``: in no file any more; ``stopped``: its entry is
    wrong, and ``problem`` says what."""
    file: str = ""
    cron: str = ""
    tz: str = ""
    problem: str = ""
    next: str | None = None
    last: FireView | None = None
    pauses: list[PauseView] = []
    options: dict[str, Any] = {}
    """All others; of one schedule, not in a list."""
    next_times: list[str] = []
    """The same."""


class PauseRequest(msgspec.Struct, forbid_unknown_fields=True):
    """For how long a schedule is paused, and what people should know of it."""

    until: Annotated[
        datetime | None, Meta(description="Go on by itself then; never, if it is not said")
    ] = None
    why: Annotated[str, Meta(max_length=1000)] = ""
    who: Annotated[str, Meta(max_length=200)] = ""
    """Default: the address of the caller."""


class BackfillRequest(
    msgspec.Struct, forbid_unknown_fields=True, rename={"begin": "from", "end": "to"}
):
    """Which nominal times of the past are to run."""

    begin: Annotated[datetime, Meta(description="Nominal times from here")]
    end: Annotated[datetime, Meta(description="Nominal times before this, and before now")]
    at_once: Annotated[int, Meta(ge=1, le=1000, description="Fires at a time")] = 1
    again: Annotated[bool, Meta(description="Also those of which a run succeeded")] = False
    dry_run: Annotated[bool, Meta(description="Only say what would run")] = False


class Ordered(msgspec.Struct, omit_defaults=True):
    """What the scheduler did."""

    name: str
    done: bool
    """Or no scheduler has answered yet: the next one will do it; or it was a dry run."""
    until: str | None = None
    was_paused: bool | None = None
    fire_id: str = ""
    state: str = ""
    reason: str = ""
    fires: int | None = None
    """Of a backfill: how many nominal times run."""
    left_out: int | None = None
    """And how many do not, for they ran well, or are under way."""
    times: list[str] = []
    """Of a dry run: the first thousand that would run, the newest first."""
