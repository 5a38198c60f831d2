"""The words of the farm as types: states, endings, task ids, durations and task options."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Annotated, Any, BinaryIO, NamedTuple, TypedDict

import msgspec

from farm.errors import ConfigError, PayloadError

__all__ = [
    "BLOB_BYTES",
    "DEFAULT_ADDRESS",
    "DEFAULT_QUEUE",
    "MOMENT_END",
    "QUEUE_NAME",
    "SPAN_MAX",
    "Blob",
    "Ending",
    "Options",
    "Payload",
    "State",
    "TaskId",
    "Token",
    "byte_count",
    "is_final",
    "job_id",
    "parse_job_id",
    "seconds",
]


class State(IntEnum):
    """Where a task, or one item of a packed task, is in its life; see ``farm.core.states``."""

    SCHEDULED = 0
    QUEUED = 1
    LEASED = 2
    SUCCEEDED = 3
    FAILED = 4
    CANCELLED = 5
    EXPIRED = 6
    DEAD = 7

    @property
    def is_final(self) -> bool:
        """Whether no further transition can happen."""
        return self >= State.SUCCEEDED


class Ending(IntEnum):
    """How an attempt, or a whole task, ended; what travels in reports and results."""

    OK = 0
    EXCEPTION = 1
    LOST = 2
    TIME_LIMIT = 3
    MEMORY_LIMIT = 4
    CANCELLED = 5
    EXPIRED = 6
    UNKNOWN = 7
    DELIVERED = 8
    BROKEN = 9
    """The host could not start a worker for it: the initializer failed again and again."""


class Token(NamedTuple):
    """The fencing token of an attempt; a later attempt of a task compares greater."""

    epoch: int
    attempt: int


class TaskId(NamedTuple):
    """A task's name: the session that made it (16 bytes) and its counter there."""

    session: bytes
    counter: int

    def __str__(self) -> str:
        return f"{self.session.hex()}-{self.counter}"

    @classmethod
    def parse(cls, text: str) -> "TaskId":
        """Read an id as ``str()`` writes it; raises ``ValueError`` naming the text."""
        match = re.fullmatch(r"([0-9a-f]{32})-(\d{1,18})", text.strip())
        if not match:
            raise ValueError(
                f"{text!r} is not a task id; one looks like {'0' * 31 + '1'}-42: 32 hexadecimal "
                "digits, a dash and a number"
            )
        return cls(bytes.fromhex(match[1]), int(match[2]))


def job_id(session: bytes, number: int) -> str:
    """The id of a session's job as people see it."""
    return f"{session.hex()}-j{number}"


def parse_job_id(text: str) -> tuple[bytes, int] | None:
    """The session and number of a job id, or None if the text is not one (then it is a name)."""
    match = re.fullmatch(r"([0-9a-f]{32})-j(\d{1,18})", text.strip())
    return (bytes.fromhex(match[1]), int(match[2])) if match else None


Duration = float | int | str | timedelta
"""Seconds, a ``timedelta``, or text such as ``"30s"``, ``"1.5h"``, ``"250ms"``, ``"7d"``."""

SPAN_MAX = 1e12
"""The longest time that is reckoned with, in seconds: 31,000 years."""
MOMENT_END = 253_402_300_800.0
"""The year 10000, in seconds since 1970: whatever is to happen at a time happens before it."""
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(value: Duration, what: str = "duration") -> float:
    """A duration in seconds; raises ``ConfigError`` naming ``what`` if it is none, or negative.

    Or longer than ``SPAN_MAX``, which nobody could be told of.
    """
    if isinstance(value, timedelta):
        result = value.total_seconds()
    elif isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*)\s*", value.lower())
        if not match or (match[2] or "s") not in _UNITS:
            raise ConfigError(f"{what} is {value!r}; write seconds, or 250ms, 30s, 5m, 2h, 7d")
        result = float(match[1]) * _UNITS[match[2] or "s"]
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        result = float(value)
    else:
        raise ConfigError(f"{what} is {value!r}; give seconds, a timedelta, or text such as '30s'")
    if not 0 <= result <= SPAN_MAX:
        raise ConfigError(
            f"{what} is {value!r}; it must be a time of 0 s or more, and of {SPAN_MAX:g} s at most"
        )
    return result


_SIZES = {"": 1, "b": 1} | {
    f"{prefix}{ending}": base**power
    for power, prefix in enumerate("kmgt", 1)
    for base, ending in ((1000, "b"), (1024, "ib"))
}


def byte_count(value: int | str, what: str = "size") -> int:
    """Bytes, or text such as ``"512MB"`` or ``"4GiB"``; raises ``ConfigError`` naming ``what``."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", value.lower())
        if match and match[2] in _SIZES:
            return int(float(match[1]) * _SIZES[match[2]])
    elif isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise ConfigError(f"{what} is {value!r}; write a number of bytes, or 512MB, 512MiB, 4GiB")


def is_final(names: Iterable[str], retry_on: Sequence[str], never_on: Sequence[str]) -> bool:
    """Whether an attempt that failed must not be followed by another, whatever retries are left.

    ``names`` are those of the exception's type and its bases. What is in ``never_on`` is never
    tried again; if there is a ``retry_on``, nothing else is.
    """
    found = set(names)
    return not found.isdisjoint(never_on) or bool(retry_on and found.isdisjoint(retry_on))


Exceptions = type[BaseException] | str | Sequence[type[BaseException] | str]
"""An exception type, or its name as ``"module.Name"``, or several of them."""


class Options(TypedDict, total=False):
    """What ``client.options(...)`` takes; durations are seconds, ``timedelta`` or ``"30s"``."""

    priority: int
    retries: int
    backoff: Duration
    retry_on: Exceptions
    never_on: Exceptions
    max_losses: int
    time_limit: Duration | None
    soft_time_limit: Duration | None
    memory_limit: int | str | None
    durable: bool
    name: str | None
    result_ttl: Duration | None
    expires: Duration | None
    delay: Duration | None
    eta: datetime | None
    queue: str | None
    concurrency_key: str | None
    unique: str | Callable[..., str] | None
    idempotency_key: str | Callable[..., str] | None
    resources: Mapping[str, float | str] | None
    labels: Sequence[str] | None
    block: bool


DEFAULT_ADDRESS = "tcp://127.0.0.1:7070"
"""Where ``farm up`` and ``farm coordinator`` listen and clients look, unless told otherwise."""
DEFAULT_QUEUE = "default"
"""The queue of tasks that name none; it always exists."""
QUEUE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
"""What a queue may be called."""

BLOB_BYTES = 1 << 17
"""A payload of at least this size may be a blob; measured in docs/decisions/0035."""


class Blob(msgspec.Struct, array_like=True, gc=False):
    """A payload in a file of the coordinator's blob folder, named from there; see ``farm.blobs``.

    It stands where the bytes would, and is as long.
    """

    name: str
    size: Annotated[int, msgspec.Meta(ge=BLOB_BYTES, le=1 << 40)]

    def __len__(self) -> int:
        return self.size

    def open(self) -> BinaryIO:
        """The file; raises ``PayloadError`` if it cannot be read here."""
        raise PayloadError(
            f"the {self.size:,} bytes of a payload are missing: there is no file {self.name} in "
            "the farm's blob folder"
        )


Payload = bytes | Blob
"""An argument list or result: its pickle, or the file that has it."""

Answer = dict[str, Any] | list[Any] | str | int | float | bool | None
"""What a query returns: plain data, as JSON has it."""


def lendable(max_lent: int, depth: int) -> int:
    """How many of a host's slots may be lent for a task of this depth to begin.

    More for each task above it that may wait for it, so that what is waited for always finds one.
    """
    return min(max_lent, max_lent // 4 + depth)


def deepest_wait(max_lent: int) -> int:
    """A task of this depth must not wait for others: one more for them there may not be."""
    return max_lent - max_lent // 4
