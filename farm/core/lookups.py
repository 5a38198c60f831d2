"""Questions about the past: answered when the pages of the history that they need are read back."""

from collections import Counter
from collections.abc import Iterable
from itertools import islice
from typing import Any, NamedTuple

from farm.core.explaining import Explaining, state_of
from farm.core.history import History, Page
from farm.core.ledger import Ledger
from farm.core.port import Peer
from farm.core.sessions import Session
from farm.model import TaskId
from farm.protocol.messages import Answer, Query
from farm.protocol.records import Memory, Record, Remembered

__all__ = ["Lookups"]

PAGES_MAX = 64
"""The most pages that are read for one question."""
LIMIT, LIMIT_MAX = 100, 10_000
Row = dict[str, Any]


class _Asked(NamedTuple):
    peer: Peer
    request: int
    who: Session


class _Lookup:
    """One question, and the pages that are still to be read for it."""

    def __init__(self, asked: _Asked, pages: Iterable[Page]) -> None:
        self.peer, self.request, self.who = asked
        self.pages = list(islice(pages, PAGES_MAX))[::-1]

    def may_see(self, memory: Memory) -> bool:
        """Whether who asks may know of these tasks."""
        return self.who.sees_all or memory.owner == self.who.owner

    def take(self, memories: list[Memory], now: float) -> bool:
        """One page; whether that is enough."""
        raise NotImplementedError

    def answer(self, now: float) -> Any:
        """What to answer, when that is enough or there is no more; raises ``ValueError``."""
        raise NotImplementedError


class _Explain(_Lookup):
    """How one task ended."""

    def __init__(self, asked: _Asked, pages: Iterable[Page], task: TaskId, how: Explaining) -> None:
        super().__init__(asked, pages)
        self._task = task
        self._how = how
        self._found: Memory | None = None

    def take(self, memories: list[Memory], now: float) -> bool:
        session, counter = self._task
        for memory in reversed(memories):
            if memory.session == session and memory.first <= counter < memory.first + memory.count:
                self._found = memory if self.may_see(memory) else None
                return True
        return False

    def answer(self, now: float) -> Any:
        return self._how.gone(self._task, self._found, now, self.who)


class _Past(_Lookup):
    """Tasks that are gone, or jobs of them, the last first."""

    def __init__(self, asked: _Asked, history: History, arguments: Row, ledger: Ledger) -> None:
        super().__init__(asked, reversed(history.pages))
        self._ledger = ledger
        self._job = str(arguments.get("job") or "")
        self._state = str(arguments.get("state") or "").lower()
        self._limit = max(1, min(LIMIT_MAX, int(arguments.get("limit") or LIMIT)))
        self._by_job = bool(arguments.get("by_job"))
        self._rows: list[Row] = []
        self._jobs: dict[str, Row] = {}

    def take(self, memories: list[Memory], now: float) -> bool:
        wall = self._ledger.wall(now)
        for memory in reversed(memories):
            state = state_of(memory.ending)
            if not self.may_see(memory):
                continue
            if self._job and self._job not in {memory.job, memory.name}:
                continue
            if self._state and self._state != state:
                continue
            if self._by_job:
                self._add_to_job(memory, state, wall)
            else:
                self._rows.append(_row(memory, state, wall))
            if max(len(self._rows), len(self._jobs)) >= self._limit:
                return True
        return False

    def _add_to_job(self, memory: Memory, state: str, wall: float) -> None:
        if not memory.job:
            return
        job = self._jobs.setdefault(
            memory.job,
            {
                "id": memory.job,
                "name": memory.name,
                "state": "gone",
                "total": 0,
                "counts": Counter(),
                "age_seconds": max(0.0, wall - memory.submitted),
                "session": memory.session.hex(),
            },
        )
        job["total"] += memory.count
        job["counts"][state] += memory.count
        job["age_seconds"] = max(job["age_seconds"], wall - memory.submitted)

    def answer(self, now: float) -> Any:
        if not self._by_job:
            return self._rows
        return [job | {"counts": dict(job["counts"])} for job in self._jobs.values()]


def _row(memory: Memory, state: str, wall: float) -> Row:
    return {
        "id": str(TaskId(memory.session, memory.first)),
        "count": memory.count,
        "state": state,
        "function": memory.function,
        "job": memory.job,
        "attempt": memory.attempt,
        "host": memory.host,
        "age_seconds": max(0.0, wall - memory.submitted),
        "ended_seconds_ago": max(0.0, wall - memory.ended),
        "running_seconds": memory.ended - memory.started if memory.started else 0.0,
        "ending": memory.ending.name.lower(),
        "error": memory.error,
    }


class Lookups:
    """The questions that wait for pages: one page is read for each at a time."""

    def __init__(self, ledger: Ledger, history: History, explaining: Explaining) -> None:
        self._ledger = ledger
        self._history = history
        self._explaining = explaining
        self._waiting: dict[int, list[_Lookup]] = {}

    def ask(self, peer: Peer, who: Session, message: Query, now: float) -> bool:
        """Answer ``explain`` or ``history``, now or later; False for other questions.

        Raises ``ValueError`` saying what is wrong with the question.
        """
        asked, arguments = _Asked(peer, message.request, who), message.arguments
        if message.what == "explain":
            task = TaskId.parse(str(arguments.get("id", "")))
            found = self._explaining.explain(task, now, who)
            if found is not None:
                self._ledger.port.send(peer, Answer(message.request, found))
                return True
            pages = self._history.about(*task)
            self._go_on(_Explain(asked, pages, task, self._explaining), now)
            return True
        if message.what == "history":
            self._go_on(_Past(asked, self._history, arguments, self._ledger), now)
            return True
        return False

    def _go_on(self, lookup: _Lookup, now: float) -> None:
        """Ask for the next page, or answer."""
        if lookup.peer not in self._ledger.peers:
            return
        if lookup.pages:
            ref = lookup.pages.pop().ref
            if ref not in self._waiting:
                self._waiting[ref] = []
                self._ledger.port.load(ref)
            self._waiting[ref].append(lookup)
            return
        try:
            answer = Answer(lookup.request, lookup.answer(now))
        except ValueError as error:
            answer = Answer(lookup.request, None, str(error))
        self._ledger.port.send(lookup.peer, answer)

    def on_loaded(self, ref: int, record: Record | None, now: float) -> None:
        """A page was read back; None if it is gone."""
        memories: list[Memory] = []
        if isinstance(record, Remembered):
            memories = self._history.read(record.memories)
        for lookup in self._waiting.pop(ref, ()):
            if lookup.take(memories, now):
                lookup.pages = []
            self._go_on(lookup, now)
