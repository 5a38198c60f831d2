"""Jobs: named groups of tasks of a session."""

from typing import TYPE_CHECKING

from farm.model import State, job_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from farm.core.batch import Batch
    from farm.core.sessions import Session

__all__ = ["Job", "Jobs"]


class Job:
    """A group of tasks submitted together; it is sealed when no more will join."""

    def __init__(self, session: "Session", number: int, name: str, at: float) -> None:
        self.session = session
        self.number = number
        self.name = name
        self.at = at
        self.claimed = True  # by its client, since this coordinator has loaded it
        self.sealed: int | None = None
        self.answering = False  # its client is told so when it is committed
        self.refs: list[int] = []
        self.batches: dict[int, Batch] = {}
        self.followers: dict[tuple[bytes, int], Session] = {}

    @property
    def id(self) -> str:
        """The id as people see it."""
        return job_id(self.session.id, self.number)

    @property
    def state(self) -> str:
        """``sealed``, ``open``, or ``abandoned`` if its client is silent, or knows it no more.

        A client says on each connection which jobs it has not sealed. One that it has sealed may
        be found open again in a store that was restored.
        """
        if self.sealed is not None:
            return "sealed"
        return "open" if self.claimed and self.session.peer is not None else "abandoned"

    def runs(self) -> list[tuple[bytes, int, int]]:
        """Its tasks, in order, adjacent ones merged: ``(session, first, count)``."""
        merged: list[tuple[bytes, int, int]] = []
        for first in sorted(self.batches):
            count = self.batches[first].count
            if merged and merged[-1][1] + merged[-1][2] == first:
                merged[-1] = (self.session.id, merged[-1][1], merged[-1][2] + count)
            else:
                merged.append((self.session.id, first, count))
        return merged

    def counts(self) -> dict[str, int]:
        """How many tasks are in each state that has any; ``delivered`` for outcomes taken."""
        totals: dict[str, int] = {}
        for batch in self.batches.values():
            for state in State:
                found = batch.states.count(state)
                if found:
                    totals[state.name.lower()] = totals.get(state.name.lower(), 0) + found
            if batch.settled:
                totals["delivered"] = totals.get("delivered", 0) + batch.settled
        return totals


class Jobs:
    """All jobs, found by id or by name; of several with one name, the newest."""

    def __init__(self) -> None:
        # By name alone, for who sees all, and by name and owner where there are owners.
        self._by_name: dict[tuple[str, str], list[Job]] = {}
        self.all: dict[str, Job] = {}

    def add(self, job: Job) -> None:
        """Add a job that is not known yet."""
        job.session.jobs[job.number] = job
        self.all[job.id] = job
        for name in _names(job):
            self._by_name.setdefault(name, []).append(job)

    def remove(self, job: Job) -> None:
        """Forget a job."""
        del job.session.jobs[job.number]
        del self.all[job.id]
        for follower in job.followers.values():
            follower.following.discard(job)
        for name in _names(job):
            named = self._by_name[name]
            named.remove(job)
            if not named:
                del self._by_name[name]

    def find(self, text: str, who: "Session") -> Job | None:
        """The job with this id, or the newest of this name, of those that a session may know of."""
        found = self.all.get(text)
        if found is not None and (who.sees_all or found.session.owner == who.owner):
            return found
        named = self._by_name.get((text, "" if who.sees_all else who.owner))
        return named[-1] if named else None

    def seen(self, who: "Session") -> "Iterator[Job]":
        """All that a session may know of."""
        owner = who.owner
        return (job for job in self.all.values() if who.sees_all or job.session.owner == owner)


def _names(job: Job) -> list[tuple[str, str]]:
    """Under which names it is found, each with the owner who finds it so, or none."""
    owner = job.session.owner
    return [(job.name, one) for one in (("", owner) if owner else ("",)) if job.name]
