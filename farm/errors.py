"""Every error a user of the farm can meet.

    FarmError
    ├── PayloadError            an argument, function or result cannot travel
    ├── TaskError               the task raised something that cannot be rebuilt here
    ├── WorkerLost              the worker process died under the task (also a BrokenExecutor)
    ├── TimeLimitExceeded       the task ran past its ``time_limit`` (not a TimeoutError)
    │   └── SoftTimeLimitExceeded   raised inside the task at its ``soft_time_limit``
    ├── TaskStopped             raised inside a task that is being stopped, to let it clean up
    ├── MemoryLimitExceeded     the task used more than its ``memory_limit``
    ├── KeyConflict             the idempotency key belongs to another call
    ├── Busy                    there is no room now; ``retry_after`` says when there may be
    ├── Expired                 the task was not started before its ``expires``
    ├── UnknownTask             the farm has no task, or job, of that id
    │   └── Delivered           it had, but the result was delivered and dropped
    ├── UnknownFunction         no function is registered under that name (also a LookupError)
    ├── ArgumentError           arguments do not fit a registered function (also a TypeError)
    ├── ConfigError             a setting is wrong (also a ValueError)
    ├── ProtocolError           a peer said something that the protocol does not allow
    ├── ServiceFailed           a process of a local farm cannot start, or dies again and again
    └── StoreError              the store refuses to serve, or cannot go on
        ├── StoreLocked         another coordinator has it open
        └── StoreUnreadable     no store, a damaged one, or one of a newer version

An exception raised by the task itself arrives as what it was: its type, arguments, notes and
chain, with the remote traceback as the last link of its ``__cause__``.
"""

from concurrent.futures import BrokenExecutor

__all__ = [
    "ArgumentError",
    "Busy",
    "ConfigError",
    "Delivered",
    "Expired",
    "FarmError",
    "KeyConflict",
    "MemoryLimitExceeded",
    "PayloadError",
    "ProtocolError",
    "ServiceFailed",
    "SoftTimeLimitExceeded",
    "StoreError",
    "StoreLocked",
    "StoreUnreadable",
    "TaskError",
    "TaskStopped",
    "TimeLimitExceeded",
    "UnknownFunction",
    "UnknownTask",
    "WorkerLost",
]


class FarmError(Exception):
    """Something went wrong in the farm."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or (type(self).__doc__ or "").strip().splitlines()[0])


class PayloadError(FarmError):
    """A function, argument or result cannot travel between processes."""


class TaskError(FarmError):
    """The task failed with an exception that cannot be rebuilt here.

    ``type_name`` is the qualified name of the original type, ``traceback`` its formatted text.
    """

    def __init__(self, message: str = "", type_name: str = "", traceback: str = "") -> None:
        super().__init__(message)
        self.type_name = type_name
        self.traceback = traceback

    def __reduce__(self) -> tuple[type["TaskError"], tuple[str, str, str]]:
        return type(self), (str(self), self.type_name, self.traceback)


class WorkerLost(FarmError, BrokenExecutor):
    """The worker process died while it ran the task; the client goes on working."""


class TimeLimitExceeded(FarmError):
    """The task ran longer than its time limit and was ended."""


class SoftTimeLimitExceeded(TimeLimitExceeded):
    """The task has run for its soft time limit; raised inside it, so that it can clean up."""


class TaskStopped(FarmError):
    """Somebody stopped the task; raised inside it, so that it can clean up."""


class MemoryLimitExceeded(FarmError):
    """The task used more memory than its limit and was ended."""


class KeyConflict(FarmError):
    """The idempotency key belongs to a task with another function or other arguments."""


class Busy(FarmError):
    """The farm has no room for the task now; try again after ``retry_after`` seconds."""

    def __init__(self, message: str = "", retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[type["Busy"], tuple[str, float]]:
        return type(self), (str(self), self.retry_after)


class Expired(FarmError):
    """The task was not started before it expired."""


class UnknownTask(FarmError):
    """The farm knows no task or job of that id."""


class Delivered(UnknownTask):
    """The result was delivered to its owner and is no longer kept."""


class UnknownFunction(FarmError, LookupError):
    """No function is registered under that name here."""


class ArgumentError(FarmError, TypeError):
    """An argument does not fit the function; ``field`` says which, as ``kwargs.width``."""

    def __init__(self, field: str = "", message: str = "") -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.field = field
        self.message = message

    def __reduce__(self) -> tuple[type["ArgumentError"], tuple[str, str]]:
        return type(self), (self.field, self.message)


class ConfigError(FarmError, ValueError):
    """A setting is wrong."""


class ProtocolError(FarmError):
    """A peer sent what the protocol does not allow."""


class ServiceFailed(FarmError):
    """A process of a local farm could not be started, or failed again and again.

    ``kind`` is the name of the error it ended with, if it said so.
    """

    def __init__(self, message: str = "", kind: str = "") -> None:
        super().__init__(message)
        self.kind = kind

    def __reduce__(self) -> tuple[type["ServiceFailed"], tuple[str, str]]:
        return type(self), (str(self), self.kind)


class StoreError(FarmError):
    """The store refuses to serve, or cannot go on."""


class StoreLocked(StoreError):
    """Another coordinator has the store open."""


class StoreUnreadable(StoreError):
    """The file is no store, is damaged, or was written by a newer version."""
