"""Who waits for which task: futures and chunks of maps, by counter; and who follows others' tasks.

Callers add under the backlog's lock, which gives out the counters; everything else happens on the
IO thread. What is here is bounded by the backlog, the credit, and what callers attached to.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from farm.client import settling
from farm.client.future import Future, Origin, set_progress
from farm.client.mapping import Chunk
from farm.errors import Busy, ConfigError, FarmError, KeyConflict, PayloadError
from farm.model import TaskId
from farm.protocol.messages import Refused, Result, Run, TaskRun
from farm.ranges import RangeSet

__all__ = ["Waiting", "refusal", "runs_of"]

_TEXTS = {"busy": "the farm has no room for more tasks"}
_REFUSALS = {
    "too_large": PayloadError,
    "queue": ConfigError,
    "resource": ConfigError,
    "key": KeyConflict,
}


class Waiting:
    """The futures and chunks of one session, and of tasks of other sessions that it follows."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self._futures: dict[int, Future[Any]] = {}
        self._chunk_firsts: list[int] = []
        self._chunks: dict[int, Chunk] = {}
        self._followed: dict[tuple[bytes, int], list[Future[Any]]] = {}

    def new(self, counter: int) -> Future[Any]:
        """A future for the task that gets this counter; with the backlog's lock held."""
        future = self._futures[counter] = Future(self.origin, counter)
        return future

    def add_chunk(self, chunk: Chunk, first: int) -> None:
        """A chunk for the items that get counters from ``first`` on; with the lock held."""
        chunk.register(first)
        self._chunks[first] = chunk
        # Counters only grow, so the list stays sorted.
        self._chunk_firsts.append(first)

    def find(self, counter: int) -> Future[Any] | None:
        """The future of a task of ours that is not over."""
        return self._futures.get(counter)

    def follow(self, future: Future[Any], session: bytes) -> None:
        """A future for a task that this session follows."""
        self._followed.setdefault((session, future.counter), []).append(future)

    # ------------------------------------------------------------ what became of them

    def settle(self, results: Iterable[Result]) -> None:
        """Give outcomes to whoever waits for them."""
        ended: list[tuple[Sequence[Future[Any] | None], Result]] = []
        pop, session = self._futures.pop, self.origin.session
        for entry in results:
            first, count = entry.first, entry.count
            if self._followed:
                ended += self._followers(entry)
            if entry.session != session:
                continue
            if self._chunk_firsts and self._to_chunks(entry, first, first + count):
                continue
            if count == 1:
                ended.append(((pop(first, None),), entry))
            else:
                ended.append(
                    ([pop(counter, None) for counter in range(first, first + count)], entry)
                )
        if ended:
            settling.settle(ended)

    def fail(self, first: int, stop: int, error: Callable[[str], Exception]) -> None:
        """Tasks of ours fail with ``error(task id)``."""
        if self._chunk_firsts:
            name = str(TaskId(self.origin.session, first))
            self._to_chunks(error(name), first, stop)
        gone = [self._futures.pop(counter, None) for counter in range(first, stop)]
        settling.fail([future for future in gone if future is not None], error)

    def fail_followed(self, runs: Iterable[tuple[bytes, int, int]], error: str) -> None:
        """Tasks that were followed are not known."""
        for session, first, count in runs:
            for counter in range(first, first + count):
                for future in self._followed.pop((session, counter), ()):
                    settling.fail([future], lambda _: FarmError(error))

    def fail_all(self, error: Callable[[str], Exception]) -> None:
        """Nothing will come any more."""
        for first in list(self._chunk_firsts):
            chunk = self._chunks[first]
            chunk.settle(error(str(TaskId(self.origin.session, first))), first, chunk.stop)
        self._chunks.clear()
        self._chunk_firsts.clear()
        gone = list(self._futures.values())
        self._futures.clear()
        for followers in list(self._followed.values()):
            gone += followers
        self._followed.clear()
        settling.fail(gone, error)

    def started(self, runs: Iterable[Run]) -> None:
        """Workers have begun these tasks."""
        get = self._futures.get
        for first, count in runs:
            if not self._futures or self._has_chunk(first):
                continue  # items of a map have no futures, and may be many
            if found := [one for c in range(first, first + count) if (one := get(c)) is not None]:
                settling.mark_running(found)

    def progress(self, notes: Iterable[tuple[bytes, int, float, float, str]]) -> None:
        """What running tasks say of themselves."""
        for session, counter, done, total, note in notes:
            own = self._futures.get(counter) if session == self.origin.session else None
            for future in (own, *self._followed.get((session, counter), ())):
                if future is not None:
                    set_progress(future, done, total, note)

    # ------------------------------------------------------------ inside

    def _followers(self, entry: Result) -> list[tuple[Sequence[Future[Any] | None], Result]]:
        """The outcome for each future that follows one of the entry's tasks."""
        found = [
            self._followed.pop((entry.session, counter), [])
            for counter in range(entry.first, entry.first + entry.count)
        ]
        most = max(map(len, found), default=0)
        return [([one[i] if i < len(one) else None for one in found], entry) for i in range(most)]

    def _has_chunk(self, counter: int) -> bool:
        """Whether this is an item of a chunk; then so is its whole run."""
        at = bisect_right(self._chunk_firsts, counter) - 1
        return at >= 0 and counter < self._chunks[self._chunk_firsts[at]].stop

    def _to_chunks(self, entry: Result | Exception, first: int, stop: int) -> bool:
        """Hand an entry to the chunks that it is about; whether it is about nothing else."""
        at = max(bisect_right(self._chunk_firsts, first) - 1, 0)
        covered = 0
        while at < len(self._chunk_firsts) and self._chunk_firsts[at] < stop:
            chunk = self._chunks[self._chunk_firsts[at]]
            a, b = max(first, chunk.first), min(stop, chunk.stop)
            covered += max(b - a, 0)
            if a < b and chunk.settle(entry, a, b):
                del self._chunks[self._chunk_firsts.pop(at)]
            else:
                at += 1
        return covered == stop - first


def refusal(why: Refused) -> Callable[[str], Exception]:
    """What tasks fail with that the coordinator refused, and that are not to be sent again."""

    def error(task: str) -> Exception:
        text = f"task {task} was refused: {why.message or _TEXTS.get(why.reason, why.reason)}"
        if why.reason in {"busy", "keys"}:
            return Busy(text, why.retry_after)
        return _REFUSALS.get(why.reason, FarmError)(text)

    return error


def runs_of(session: bytes, futures: Sequence[Future[Any]]) -> list[TaskRun]:
    """The tasks of futures of one session, as runs."""
    counters = RangeSet((future.counter, future.counter + 1) for future in futures)
    return [(session, first, stop - first) for first, stop in counters]
