"""Questions about jobs: which there are, how far one is, how its tasks stand."""

from collections.abc import Callable
from itertools import groupby
from typing import Any

from farm.core.batch import SETTLED
from farm.core.jobs import Job
from farm.core.ledger import Ledger
from farm.model import State, TaskId

__all__ = ["JobQueries"]

LIMIT, LIMIT_MAX = 1000, 10_000
OPEN = ("scheduled", "queued", "leased")
Row = dict[str, Any]
Kind = Callable[[Row, float], Any]


class JobQueries:
    """``kinds`` has the questions that are answered here."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.kinds: dict[str, Kind] = {
            "jobs": self._jobs,
            "job": self._job,
            "job_tasks": self._tasks,
        }

    def _jobs(self, _arguments: Row, now: float) -> list[Row]:
        return [_row(job, now) for job in self._ledger.jobs.all.values()]

    def _job(self, arguments: Row, now: float) -> Row:
        """One job, by id or name. It is over when no task can join it and none is open."""
        job = self._find(arguments)
        row = _row(job, now)
        waiting = sum(row["counts"].get(state, 0) for state in OPEN)
        over = not waiting and row["state"] != "open"
        return row | {"open": waiting, "over": over, "runs": job.runs()}

    def _find(self, arguments: Row) -> Job:
        name = str(arguments.get("id", ""))
        job = self._ledger.jobs.find(name)
        if job is None:
            raise ValueError(f"the farm has no job {name!r}; `farm jobs` lists those it has")
        return job

    def _tasks(self, arguments: Row, _now: float) -> list[Row]:
        """Tasks of a job from index ``start`` on, ``limit`` at most: runs of those in one state."""
        job = self._find(arguments)
        start = max(0, int(arguments.get("start") or 0))
        stop = start + max(1, min(LIMIT_MAX, int(arguments.get("limit") or LIMIT)))
        rows: list[Row] = []
        at = 0  # the index in the job of a batch's first task
        for first in sorted(job.batches):
            batch = job.batches[first]
            lo, hi = max(start - at, 0), min(stop - at, batch.count)
            for state, found in groupby(range(lo, hi), batch.states.__getitem__):
                indices = list(found)
                rows.append(
                    {
                        "index": at + indices[0],
                        "id": str(TaskId(batch.session.id, first + indices[0])),
                        "count": len(indices),
                        "state": "delivered" if state == SETTLED else State(state).name.lower(),
                    }
                )
            at += batch.count
            if at >= stop:
                break
        return rows


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
