"""How tasks ended, as it waits in their futures to be read.

An outcome stays as it arrived, and is opened by the first thread that asks for it. Values of a
packed result share their bytes, which are gone when each has been read.
"""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures._base import CANCELLED_AND_NOTIFIED, FINISHED
from itertools import repeat
from typing import Any, NamedTuple, Protocol

from farm.client.endings import error_of
from farm.errors import PayloadError
from farm.model import Blob, Ending, Payload
from farm.payload import load_exception, load_value, open_values
from farm.protocol.parts import Failure, Result

__all__ = [
    "Failed",
    "Given",
    "Outcome",
    "PackedValues",
    "drop_value",
    "is_error",
    "open_outcome",
    "outcomes_of",
]


class PackedValues:
    """The values of one packed result, for the futures of its items."""

    __slots__ = ("_count", "_data", "_left", "_load", "_lock", "_values")

    def __init__(self, data: Payload, count: int) -> None:
        self._data = data
        self._count = count
        self._left = count
        self._load: Callable[[bytes], Any] | None = None
        self._values: list[Any] | None = None
        self._lock = threading.Lock()

    def take(self, index: int) -> Any:
        """The value of item ``index``; raises ``PayloadError``.

        No lock is held while code of users runs: opening the list runs none.
        """
        with self._lock:
            if self._values is None:
                values, self._load = open_values(self._data)
                if len(values) != self._count:
                    raise PayloadError(f"{len(values)} results arrived for {self._count} items")
                self._values, self._data = values, b""
            value = self._values[index]
        return value if self._load is None else self._load(value)

    def drop(self, index: int) -> None:
        """The future of item ``index`` has its value: once for each."""
        with self._lock:
            self._left -= 1
            if self._values:
                self._values[index] = None
            if not self._left:
                self._values = []


class Failed(NamedTuple):
    """An ending that is not OK: a pickled exception, or the evidence of what happened."""

    ending: Ending
    failure: Failure | None
    payload: Payload


class Given(NamedTuple):
    """A result or exception that is an object of this process already."""

    value: Any
    exception: BaseException | None


Outcome = Payload | tuple[PackedValues, int] | Failed | Given
"""A pickled value, a packed one, or one of the above."""


def outcomes_of(result: Result) -> tuple[str, Iterable[Outcome | None]]:
    """The state that a result puts its futures in, and the outcome of each of them, in order."""
    ending, payloads, count = result.ending, result.payloads, result.count
    for_each = len(payloads) == count and not result.packed
    if ending is Ending.OK:
        if for_each:
            return FINISHED, payloads
        if result.packed and len(payloads) == 1:
            packed = PackedValues(payloads[0], count)
            return FINISHED, zip(repeat(packed), range(count), strict=False)
        error = PayloadError(f"{len(payloads)} results arrived for {count} tasks")
        return FINISHED, repeat(Given(None, error), count)
    if ending is Ending.CANCELLED and result.failure is None:
        return CANCELLED_AND_NOTIFIED, repeat(None, count)  # it was never called, and never is
    if ending is Ending.EXCEPTION and for_each:
        return FINISHED, [Failed(ending, result.failure, payload) for payload in payloads]
    return FINISHED, repeat(Failed(ending, result.failure, b""), count)


def is_error(outcome: Outcome | None) -> bool:
    """Whether an outcome is known to be an exception without opening it."""
    kind = type(outcome)
    return kind is Failed or (isinstance(outcome, Given) and outcome.exception is not None)


class _Task(Protocol):
    """All that is asked of a future here."""

    @property
    def id(self) -> str: ...


def open_outcome(outcome: Outcome, task: _Task) -> tuple[Any, BaseException | None]:
    """The result and the exception that an outcome stands for; runs code of users."""
    try:
        if isinstance(outcome, (bytes, Blob)):
            return load_value(outcome), None
        if isinstance(outcome, Given):
            return outcome
        if isinstance(outcome, Failed):
            if outcome.payload:
                return None, load_exception(outcome.payload)
            return None, error_of(outcome.ending, outcome.failure, task.id)
        values, index = outcome
        return values.take(index), None
    except PayloadError as error:
        error.add_note(f"This is the result of task {task.id}.")
        return None, error.with_traceback(None)


def drop_value(outcome: Outcome) -> None:
    """An outcome was opened for good: a packed result need not keep that value."""
    if not isinstance(outcome, (bytes, Blob, Given, Failed)):
        values, index = outcome
        values.drop(index)
