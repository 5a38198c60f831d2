"""What the exit code of a command means; the one place where errors become numbers."""

from concurrent.futures import CancelledError
from enum import IntEnum
from typing import Self

from farm.errors import (
    Busy,
    ConfigError,
    Expired,
    FarmError,
    StoreError,
    UnknownTask,
)

__all__ = ["ExitCode", "NotCancelled", "NotDone", "Refused", "TaskFailed", "exit_code"]


class ExitCode(IntEnum):
    """How a command ended."""

    OK = 0, "done"
    FAILED = 1, "the task failed, or could not be sent or cancelled"
    USAGE = 2, "the command line is wrong"
    CONFIG = 3, "a setting is wrong"
    NO_FARM = 4, "no farm answers at the address"
    UNKNOWN = 5, "the farm has no task or job of that id, or no longer keeps its result"
    NOT_DONE = 6, "the task has not ended, or not within --timeout"
    CANCELLED = 7, "the task was cancelled"
    EXPIRED = 8, "the task was not started before it expired"
    BUSY = 9, "the farm has no room for the task now"
    STORE = 10, "the store is locked, damaged, or of a newer version"
    REFUSED = 11, "the service cannot run here: address taken, or not safe without keys"
    BUG = 70, "a mistake in farm itself; --debug shows where"
    JOURNAL = 74, "the coordinator could not commit to its store; start it again"
    STEPPED_DOWN = 75, "another coordinator has served this farm since; start it again"
    INTERRUPTED = 130, "stopped by Ctrl-C"
    PIPE = 141, "nobody reads the output any more"

    meaning: str
    """In a few words, for ``farm --help`` and the reference."""

    def __new__(cls, value: int, meaning: str) -> Self:  # noqa: D102 - how an enum is made
        code = int.__new__(cls, value)
        code._value_ = value
        code.meaning = meaning
        return code


class TaskFailed(FarmError):
    """The task ended without a result; ``__cause__`` is the error it ended with."""


class NotDone(FarmError):
    """The task has not ended yet."""


class NotCancelled(FarmError):
    """The task could not be cancelled: a worker has begun it, or it has ended."""


class Refused(FarmError):
    """The service cannot run here."""


# The first match counts, so a kind stands before the kinds it is one of.
KINDS: list[tuple[type[BaseException], ExitCode]] = [
    (TaskFailed, ExitCode.FAILED),
    (NotDone, ExitCode.NOT_DONE),
    (Refused, ExitCode.REFUSED),
    (ConfigError, ExitCode.CONFIG),
    (UnknownTask, ExitCode.UNKNOWN),
    (Expired, ExitCode.EXPIRED),
    (Busy, ExitCode.BUSY),
    (StoreError, ExitCode.STORE),
    (CancelledError, ExitCode.CANCELLED),
    (FarmError, ExitCode.FAILED),
    (BrokenPipeError, ExitCode.PIPE),
    (ConnectionError, ExitCode.NO_FARM),
    (TimeoutError, ExitCode.NOT_DONE),
    (OSError, ExitCode.REFUSED),
    (KeyboardInterrupt, ExitCode.INTERRUPTED),
]


def exit_code(error: BaseException) -> ExitCode:
    """The code for an error that ended a command; what nobody foresaw is a bug."""
    return next((code for kind, code in KINDS if isinstance(error, kind)), ExitCode.BUG)
