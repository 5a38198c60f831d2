"""The bodies of requests and answers: what the OpenAPI document shows."""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

__all__ = [
    "Cancelled",
    "ErrorView",
    "Function",
    "Health",
    "JobAccepted",
    "JobRequest",
    "JobTask",
    "JobView",
    "ProgressView",
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
