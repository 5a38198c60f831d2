"""Cancelling what no worker has begun, and stopping what one has."""

from collections.abc import Container, Iterable, Iterator
from functools import partial

from farm.core.batch import Batch
from farm.core.endings import Endings
from farm.core.hosts import Host, Lease
from farm.core.ledger import Ledger
from farm.core.port import Peer
from farm.model import State
from farm.protocol.messages import Cancel, CancelReply, Recall
from farm.protocol.parts import TaskRun
from farm.protocol.records import Stopping
from farm.ranges import RangeSet

__all__ = ["Cancels"]

Told = tuple[int, int, int, int]
"""Epoch and number of a lease, the first of its tasks, and how many."""


class _Request:
    """One ``Cancel`` and what is known of its tasks so far."""

    def __init__(self, peer: Peer, number: int) -> None:
        self.peer = peer
        self.number = number
        self.waiting = 0
        self.cancelled: list[TaskRun] = []
        self.stopped: list[TaskRun] = []
        self.stopping: list[TaskRun] = []

    def add(self, batch: Batch, lo: int, hi: int, *, stopped: bool) -> None:
        """These tasks are cancelled; ``stopped``: after an attempt may have begun."""
        _append(self.stopped if stopped else self.cancelled, batch, lo, hi)


def _append(runs: list[TaskRun], batch: Batch, lo: int, hi: int) -> None:
    first = batch.first + lo
    if runs:
        session, before, count = runs[-1]
        if session == batch.session.id and before + count == first:
            runs[-1] = (session, before, count + hi - lo)
            return
    runs.append((batch.session.id, first, hi - lo))


def _stopping(leases: Iterable[Lease]) -> Iterator[tuple[Lease, int, int, float]]:
    """The tasks of some leases that are to be stopped, in runs, and within how long."""
    for lease in leases:
        if lease.batch.stopping:
            for lo, hi in lease.live_runs():
                for a, b, grace in lease.batch.stopping_runs(lo, hi):
                    if grace is not None:
                        yield lease, a, b, grace


class Cancels:
    """Answers each request once it is known of every task whether it ran.

    A queued task is cancelled at once. A leased one is recalled, and the host's word decides.
    Cancelled means that the function was never called, anywhere: as long as that is all that a
    caller may conclude, a task that waits for another attempt can only be stopped.
    The tasks that are waited for are bounded by the hosts' windows.

    A stop waits for nothing: leased tasks are marked, and end as cancelled whatever is reported.
    """

    def __init__(self, ledger: Ledger, endings: Endings) -> None:
        self._ledger = ledger
        self._endings = endings
        self._waiting: dict[tuple[Batch, int], list[_Request]] = {}
        self._waited = 0  # tasks, once for each request that waits for them
        self._held_back: list[tuple[Peer, Cancel]] = []
        self._held_runs = 0
        self.decided: list[_Request] = []

    def on_cancel(self, peer: Peer, message: Cancel, now: float) -> None:
        """Cancel what can be; while the backlog is held back it may be running, so wait."""
        if message.grace is not None:
            self._on_stop(_Request(peer, message.request), message.tasks, message.grace, now)
            return
        request = _Request(peer, message.request)
        if self._ledger.holds_back:
            self._hold_back(request, message)
            return
        recalls: dict[Peer, list[Told]] = {}
        for session_id, first, count in message.tasks:
            session = self._ledger.sessions.get(session_id)
            if session is None:
                continue
            for batch, lo, hi in list(session.batches.overlap(first, count)):
                for a, b in batch.runs(lo, hi, State.CANCELLED):  # asked before, or by another
                    self._add(request, batch, a, b)
                self._cancel_waiting(request, batch, lo, hi)
                self._recall(request, batch, lo, hi, recalls)
        for batch, lo, hi in self._below(request.stopped):  # of attempts before
            self._cancel_waiting(_Request(peer, 0), batch, lo, hi)
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

    # ------------------------------------------------------------ stopping

    def _on_stop(self, request: _Request, tasks: list[TaskRun], grace: float, now: float) -> None:
        """Cancel what waits, and mark what runs, or may: from now on no outcome of it counts.

        That is known at once, and answered when it is durable; only then hosts are told. Of what
        is to end as soon already there is nothing to write, nor to tell.
        """
        marked: dict[Batch, RangeSet] = {}
        for batch, lo, hi in self._parts(tasks):
            for a, b in batch.runs(lo, hi, State.CANCELLED):  # asked before, or by another
                self._add(request, batch, a, b)
            self._stop(request, batch, (lo, hi), grace, marked)
        below = _Request(request.peer, 0)  # which nobody asked about
        for batch, lo, hi in self._below([*request.stopped, *request.stopping]):
            self._stop(below, batch, (lo, hi), grace, marked)
        self._endings.flush(now)
        if marked:
            self._persist_stop(marked, grace, now)
            leases = [lease for batch in marked for lease in batch.leases or ()]
            peers = {lease.host.peer for lease in leases if lease.host.welcomed}
            self._ledger.after_commit(lambda _now: self._tell_all(peers, marked, grace), now)
        self._reply(request)

    def _parts(self, tasks: list[TaskRun]) -> list[tuple[Batch, int, int]]:
        """The parts of batches that these tasks are."""
        return [
            part
            for session_id, first, count in tasks
            if (session := self._ledger.sessions.get(session_id)) is not None
            for part in session.batches.overlap(first, count)
        ]

    def _below(self, ended: list[TaskRun]) -> list[tuple[Batch, int, int]]:
        """What was submitted by tasks that end like this: nobody is there to use it."""
        return self._parts(self._ledger.nested.below(ended))

    def _stop(
        self,
        request: _Request,
        batch: Batch,
        run: tuple[int, int],
        grace: float,
        marked: dict[Batch, RangeSet],
    ) -> None:
        for a, b in self._cancel_known(request, batch, *run):
            _append(request.stopping, batch, a, b)
            for news in batch.mark_stopping(a, b, grace):
                marked.setdefault(batch, RangeSet()).add(*news)

    def _cancel_known(
        self, request: _Request, batch: Batch, lo: int, hi: int
    ) -> list[tuple[int, int]]:
        """Cancel those of ``[lo, hi)`` that are known to wait; which run, or may."""
        unknown = [] if batch.suspended is None else batch.suspended.overlap(lo, hi)
        known = [(lo, hi)] if batch.suspended is None else batch.suspended.gaps(lo, hi)
        for a, b in known:
            self._cancel_waiting(request, batch, a, b)
        found = list(batch.runs(lo, hi, State.LEASED))
        for a, b in unknown:
            for state in (State.QUEUED, State.SCHEDULED):
                found += batch.runs(a, b, state)
        return found

    def _persist_stop(self, marked: dict[Batch, RangeSet], grace: float, now: float) -> None:
        self._ledger.write_drafts(self._ledger.drafts.take(marked))
        runs: list[TaskRun] = []
        rows = []
        for batch, found in marked.items():
            if batch.row is not None:
                rows.append(batch.row)
                for lo, hi in found:
                    _append(runs, batch, lo, hi)
        if runs:
            ref = self._ledger.persist(Stopping(self._ledger.wall(now), runs, grace))
            for row in rows:
                self._ledger.rows.mention(row, ref)

    def _tell_all(
        self, peers: Container[Peer | None], marked: dict[Batch, RangeSet], grace: float
    ) -> None:
        """The record is durable: tell the hosts. Who is welcomed later is told then."""
        leases: dict[Host, list[Lease]] = {}
        for batch in marked:
            for lease in batch.leases or ():
                leases.setdefault(lease.host, []).append(lease)
        for host, some in leases.items():
            if host.peer in peers:
                told = [
                    (*lease.key, lease.batch.first + a, b - a)
                    for lease, lo, hi, within in _stopping(some)
                    if within == grace  # else there was another stop since
                    for a, b in marked[lease.batch].overlap(lo, hi)
                ]
                self._tell(host, told, grace)

    def tell(self, host: Host) -> None:
        """Say to a host which tasks that it has it is to stop."""
        told: dict[float, list[Told]] = {}
        for lease, lo, hi, grace in _stopping(host.leases.values()):
            told.setdefault(grace, []).append((*lease.key, lease.batch.first + lo, hi - lo))
        for grace, runs in told.items():
            self._tell(host, runs, grace)

    def _tell(self, host: Host, runs: list[Told], grace: float) -> None:
        if runs and host.peer is not None:
            self._ledger.port.send(host.peer, Recall(runs, grace))

    # ------------------------------------------------------------ what became of them

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
        recalls: dict[Peer, list[Told]],
    ) -> None:
        if not batch.states.count(State.LEASED, lo, hi):
            return
        for lease in [one for one in batch.leases or () if one.lo < hi and lo < one.hi]:
            for c, d in lease.live_in(lo, hi):
                for a, b in lease.started.gaps(c, d):
                    if self._waited + b - a > self._ledger.settings.cancel_tasks:
                        continue  # not known to be cancelled, so it is not
                    self._wait_for(request, batch, a, b)
                    if lease.host.peer is not None:
                        run = (*lease.key, batch.first + a, b - a)
                        recalls.setdefault(lease.host.peer, []).append(run)

    def _wait_for(self, request: _Request, batch: Batch, lo: int, hi: int) -> None:
        self._waited += hi - lo
        for index in range(lo, hi):
            self._waiting.setdefault((batch, index), []).append(request)
            batch.cancelling[index] = None
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
        for index in [i for i in range(lo, hi) if i in batch.cancelling]:
            del batch.cancelling[index]
            for request in self._waiting.pop((batch, index), []):
                request.waiting -= 1
                self._waited -= 1
                if cancelled:
                    self._add(request, batch, index, index + 1)
                if not request.waiting:
                    self._reply(request)

    def _reply(self, request: _Request) -> None:
        self.decided.append(request)

    def flush(self, now: float) -> None:
        """Answer what was decided in this turn, once all records of the turn are durable."""
        decided, self.decided = self.decided, []
        for request in decided:
            self._ledger.after_commit(partial(self._send, request), now)

    def _send(self, request: _Request, _now: float) -> None:
        if request.peer in self._ledger.peers:
            reply = CancelReply(
                request.number, request.cancelled, request.stopped, request.stopping
            )
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
