"""Questions about jobs: which there are, how far one is, how its tasks stand."""

from collections import Counter
from collections.abc import Callable
from itertools import groupby
from typing import Any

from farm.core.batch import SETTLED, Batch
from farm.core.explaining import state_of
from farm.core.jobs import Job
from farm.core.ledger import Ledger
from farm.core.sessions import Session
from farm.model import State, TaskId

__all__ = ["JobQueries"]

LIMIT, LIMIT_MAX = 1000, 10_000
OPEN = ("scheduled", "queued", "leased")
Row = dict[str, Any]
Kind = Callable[[Row, float, Session], Any]


class JobQueries:
    """``kinds`` has the questions that are answered here."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.kinds: dict[str, Kind] = {
            "jobs": self._jobs,
            "job": self._job,
            "job_tasks": self._tasks,
        }

    def _jobs(self, _arguments: Row, now: float, who: Session) -> list[Row]:
        return [_row(job, now) for job in self._ledger.jobs.seen(who)]

    def _job(self, arguments: Row, now: float, who: Session) -> Row:
        """One job, by id or name. It is over when no task can join it and none is open."""
        job = self._find(arguments, who)
        found: Counter[int] = Counter()
        for batch in job.batches.values():
            found.update(_states(batch, 0, batch.count))
        counts = {_name(state): count for state, count in sorted(found.items())}
        waiting = sum(counts.get(state, 0) for state in OPEN)
        over = not waiting and job.state != "open"
        more = {"counts": counts, "open": waiting, "over": over, "runs": job.runs()}
        return _row(job, now) | more

    def _find(self, arguments: Row, who: Session) -> Job:
        name = str(arguments.get("id", ""))
        job = self._ledger.jobs.find(name, who)
        if job is None:
            raise ValueError(f"the farm has no job {name!r}; `farm jobs` lists those it has")
        return job

    def _tasks(self, arguments: Row, _now: float, who: Session) -> list[Row]:
        """Tasks of a job from index ``start`` on, ``limit`` at most: runs of those in one state."""
        job = self._find(arguments, who)
        start = max(0, int(arguments.get("start") or 0))
        stop = start + max(1, min(LIMIT_MAX, int(arguments.get("limit") or LIMIT)))
        rows: list[Row] = []
        at = 0  # the index in the job of a batch's first task
        for first in sorted(job.batches):
            batch = job.batches[first]
            lo, hi = max(start - at, 0), min(stop - at, batch.count)
            for state, found in groupby(_states(batch, lo, hi)):
                count = sum(1 for _ in found)
                task = TaskId(batch.session.id, first + lo)
                rows.append(
                    {"index": at + lo, "id": str(task), "count": count, "state": _name(state)}
                )
                lo += count
            at += batch.count
            if at >= stop:
                break
        return rows


def _states(batch: Batch, lo: int, hi: int) -> bytearray:
    """The states of the tasks ``[lo, hi)``, with how those ended whose outcome was taken.

    What is left as settled has no outcome any more.
    """
    states = batch.states[lo:hi]
    for outcome in batch.outcomes if batch.settled else ():
        a = max(outcome.first - batch.first, lo) - lo
        b = min(outcome.first - batch.first + outcome.count, hi) - lo
        for index in range(a, b):
            if states[index] == SETTLED:
                states[index] = State[state_of(outcome.ending).upper()]
    return states


def _name(state: int) -> str:
    return "delivered" if state == SETTLED else State(state).name.lower()


def _row(job: Job, now: float) -> Row:
    return {
        "id": job.id,
        "name": job.name,
        "state": job.state,
        "total": sum(batch.count for batch in job.batches.values()),
        "counts": job.counts(),
        "age_seconds": max(0.0, now - job.at),
        "session": job.session.id.hex(),
    }
