"""What tasks print, as far as it is kept."""

import weakref
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

from farm.errors import FarmError, UnknownTask

__all__ = ["AttemptLogs", "KeptOutput", "Query", "Tail", "fetch_logs", "row_of"]

ANSWER_SECONDS = 30.0
OVERLAP_BYTES = 1_024
KEPT_BYTES = 64 << 20
REF_BYTES = 200
"""What a future with output costs beyond it."""
Query = Callable[[str, dict[str, Any], float], Any]


class AttemptLogs(NamedTuple):
    """The end of what an attempt has written; as text it is just that.

    ``cause`` says what went wrong, if something did. ``over``: it has ended.
    """

    attempt: int
    host: str
    text: str
    cause: str = ""
    over: bool = True

    def __str__(self) -> str:
        return self.text


def fetch_logs(query: Query, task: str, own: bytes | None) -> list[AttemptLogs]:
    """The output of a task's attempts, from the farm; ``own`` is what is known without it.

    Raises ``UnknownTask`` if nobody knows anything.
    """
    try:
        answer = query("logs", {"id": task}, ANSWER_SECONDS)
    except (FarmError, ConnectionError, RuntimeError) as error:
        if own is None:
            if isinstance(error, FarmError):
                raise UnknownTask(str(error)) from None
            raise
        return [AttemptLogs(0, "", text_of(own))] if own else []
    return [
        AttemptLogs(row["attempt"], row["host"], text_of(row["output"]), row["cause"], row["over"])
        for row in answer["attempts"]
    ]


def text_of(data: bytes) -> str:
    """Output as text; what is no UTF-8 can be seen to be none."""
    return data.decode("utf-8", "backslashreplace")


def row_of(logs: AttemptLogs, tail: "Tail") -> dict[str, Any]:
    """The same as a row of an answer, of the attempt that is followed if it is not known which."""
    attempt = logs.attempt or tail.attempt or 1
    return {
        "attempt": attempt,
        "host": logs.host,
        "output": logs.text.encode("utf-8", "backslashreplace"),
        "start": 0,
        "over": True,
    }


class _Holder(Protocol):
    """A future, as far as output goes: None if it has been forgotten."""

    _output: bytes | None


class KeptOutput:
    """The output that futures have of their tasks, to ``KEPT_BYTES``: of the oldest it goes."""

    def __init__(self) -> None:
        # Bounded by KEPT_BYTES, which each entry counts for.
        self._runs: deque[tuple[list[weakref.ref[Any]], int]] = deque()
        self._bytes = 0

    def keep(self, futures: Iterable[_Holder | None], output: bytes) -> None:
        """These share an output."""
        refs: list[weakref.ref[Any]] = []
        for future in futures:
            if future is not None:
                future._output = output  # noqa: SLF001 -- as in settling
                refs.append(weakref.ref(future))
        size = len(output) + len(refs) * REF_BYTES
        self._runs.append((refs, size))
        self._bytes += size
        while self._bytes > KEPT_BYTES:
            refs, size = self._runs.popleft()
            self._bytes -= size
            for ref in refs:
                if (oldest := ref()) is not None:
                    oldest._output = None  # noqa: SLF001


class Tail:
    """Follows the output of a task: what is new in each answer to ``logs``."""

    def __init__(self) -> None:
        self.attempt = 0  # what is told of now
        self.since = 0  # how much of it, if it runs
        self._last = b""  # the end of what was told

    def take(self, answer: dict[str, Any]) -> list[tuple[dict[str, Any], bytes]]:
        """Of each attempt with news: its row, and what to print."""
        news = []
        for row in answer["attempts"]:
            if row["attempt"] < self.attempt:
                continue
            fresh = row["attempt"] > self.attempt
            data = self._new(row, fresh=fresh)
            if data or fresh:
                news.append((row, data))
        return news

    def _new(self, row: dict[str, Any], *, fresh: bool) -> bytes:
        if fresh:
            self.attempt, self.since, self._last = row["attempt"], 0, b""
        data: bytes = row["output"]
        if not row["over"]:
            # Less than there was: it belongs to other tasks that ended with it in one slice.
            self.since = row["start"] + len(data) if row["start"] >= self.since else 0
        elif self._last:  # all of it, again
            at = data.rfind(self._last)
            data = data[at + len(self._last) :] if at >= 0 else data
        self._last = (self._last + data)[-OVERLAP_BYTES:]
        return data
