"""What tasks print, as far as it is kept."""

from collections.abc import Callable
from typing import Any, NamedTuple

from farm.errors import FarmError, UnknownTask

__all__ = ["AttemptLogs", "Query", "Tail", "fetch_logs", "row_of"]

ANSWER_SECONDS = 30.0
OVERLAP_BYTES = 1_024
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
