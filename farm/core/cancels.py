"""Cancelling what no worker has begun."""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from farm.core.batch import Batch
from farm.core.endings import Endings
from farm.core.ledger import Ledger
from farm.core.port import Peer
from farm.model import State
from farm.protocol.messages import Cancel, CancelReply, Recall

if TYPE_CHECKING:
    from farm.protocol.parts import TaskRun

__all__ = ["Cancels"]


class _Request:
    """One ``Cancel`` and what is known of its tasks so far."""

    def __init__(self, peer: Peer, number: int) -> None:
        self.peer = peer
        self.number = number
        self.waiting = 0
        self.cancelled: list[TaskRun] = []
        self.stopped: list[TaskRun] = []

    def add(self, batch: Batch, lo: int, hi: int, *, stopped: bool) -> None:
        """These tasks are cancelled; ``stopped``: after an attempt may have begun."""
        runs = self.stopped if stopped else self.cancelled
        first = batch.first + lo
        if runs:
            session, before, count = runs[-1]
            if session == batch.session.id and before + count == first:
                runs[-1] = (session, before, count + hi - lo)
                return
        runs.append((batch.session.id, first, hi - lo))


class Cancels:
    """Answers each request once it is known of every task whether it ran.

    A queued task is cancelled at once. A leased one is recalled, and the host's word decides.
    Cancelled means that the function was never called, anywhere: as long as that is all that a
    caller may conclude, a task that waits for another attempt can only be stopped.
    The tasks that are waited for are bounded by the hosts' windows.
    """

    def __init__(self, ledger: Ledger, endings: Endings) -> None:
        self._ledger = ledger
        self._endings = endings
        self._waiting: dict[tuple[Batch, int], list[_Request]] = {}
        self._waited = 0  # tasks, once for each request that waits for them
        self._held_back: list[tuple[Peer, Cancel]] = []
        self._held_runs = 0
        self._decided: list[_Request] = []

    def on_cancel(self, peer: Peer, message: Cancel, now: float) -> None:
        """Cancel what can be; while the backlog is held back it may be running, so wait."""
        request = _Request(peer, message.request)
        if self._ledger.holds_back:
            self._hold_back(request, message)
            return
        recalls: dict[Peer, list[tuple[int, int, int, int]]] = {}
        for session_id, first, count in message.tasks:
            session = self._ledger.sessions.get(session_id)
            if session is None:
                continue
            for batch, lo, hi in list(session.batches.overlap(first, count)):
                for a, b in batch.runs(lo, hi, State.CANCELLED):  # asked before, or by another
                    self._add(request, batch, a, b)
                self._cancel_waiting(request, batch, lo, hi)
                self._recall(request, batch, lo, hi, recalls)
        self._endings.flush(now)
        for host, runs in recalls.items():
            self._ledger.port.send(host, Recall(runs))
        if not request.waiting:
            self._reply(request)

    def _hold_back(self, request: _Request, message: Cancel) -> None:
        """Ask again after recovery; if too much waits for that, nothing is cancelled."""
        runs = 1 + len(message.tasks)
        if self._held_runs + runs > self._ledger.settings.cancel_tasks:
            self._reply(request)
            return
        self._held_runs += runs
        self._held_back.append((request.peer, message))

    def _cancel_waiting(self, request: _Request, batch: Batch, lo: int, hi: int) -> None:
        for state in (State.QUEUED, State.SCHEDULED):
            for a, b in list(batch.runs(lo, hi, state)):
                for c, d, stopped in self._endings.cancel(batch, a, b):
                    request.add(batch, c, d, stopped=stopped)

    def _add(self, request: _Request, batch: Batch, lo: int, hi: int) -> None:
        """Cancelled tasks, as they were."""
        if not batch.stopped:
            request.add(batch, lo, hi, stopped=False)
            return
        for index in range(lo, hi):
            request.add(batch, index, index + 1, stopped=index in batch.stopped)

    def _recall(
        self,
        request: _Request,
        batch: Batch,
        lo: int,
        hi: int,
        recalls: dict[Peer, list[tuple[int, int, int, int]]],
    ) -> None:
        if not batch.states.count(State.LEASED, lo, hi):
            return
        for host in self._ledger.hosts.all.values():
            for lease in host.leases.values():
                if lease.batch is not batch:
                    continue
                for c, d in lease.live_runs():
                    for a, b in lease.started.gaps(max(c, lo), min(d, hi)):
                        if self._waited + b - a > self._ledger.settings.cancel_tasks:
                            continue  # not known to be cancelled, so it is not
                        self._wait_for(request, batch, a, b)
                        if host.peer is not None:
                            run = (*lease.key, batch.first + a, b - a)
                            recalls.setdefault(host.peer, []).append(run)

    def _wait_for(self, request: _Request, batch: Batch, lo: int, hi: int) -> None:
        self._waited += hi - lo
        for index in range(lo, hi):
            self._waiting.setdefault((batch, index), []).append(request)
            batch.cancelling.add(index)
            request.waiting += 1

    def split(self, batch: Batch, lo: int, hi: int) -> Iterator[tuple[int, int, bool]]:
        """``[lo, hi)`` cut into runs that someone wants cancelled, and runs that nobody does."""
        if not batch.cancelling:
            yield lo, hi, False
            return
        at = lo
        while at < hi:
            wanted = at in batch.cancelling
            end = at + 1
            while end < hi and (end in batch.cancelling) == wanted:
                end += 1
            yield at, end, wanted
            at = end

    def resolve(self, batch: Batch, lo: int, hi: int, *, cancelled: bool) -> None:
        """It is now known of these tasks whether they were cancelled."""
        if not batch.cancelling:
            return
        for index in [i for i in batch.cancelling if lo <= i < hi]:
            batch.cancelling.discard(index)
            for request in self._waiting.pop((batch, index), []):
                request.waiting -= 1
                self._waited -= 1
                if cancelled:
                    self._add(request, batch, index, index + 1)
                if not request.waiting:
                    self._reply(request)

    def _reply(self, request: _Request) -> None:
        self._decided.append(request)

    def flush(self, now: float) -> None:
        """Answer what was decided in this turn, once all records of the turn are durable."""
        decided, self._decided = self._decided, []
        for request in decided:
            self._ledger.after_commit(partial(self._send, request), now)

    def _send(self, request: _Request, _now: float) -> None:
        if request.peer in self._ledger.peers:
            reply = CancelReply(request.number, request.cancelled, request.stopped)
            self._ledger.port.send(request.peer, reply)

    def on_recovered(self, now: float) -> None:
        """Recovery is over, and it is known what may have begun."""
        held_back, self._held_back, self._held_runs = self._held_back, [], 0
        for peer, message in held_back:
            self.on_cancel(peer, message, now)

    @property
    def waiting(self) -> int:
        """How many tasks are recalled and not decided."""
        return len(self._waiting)
