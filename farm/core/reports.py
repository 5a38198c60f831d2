"""What hosts report: ends, starts, tasks given back, progress; and what lost leases mean."""

from functools import partial
from typing import TYPE_CHECKING

from farm.core.batch import Batch
from farm.core.blobs import blob_names
from farm.core.cancels import Cancels
from farm.core.duplicates import duplicates_of
from farm.core.endings import Endings
from farm.core.hosts import TROUBLE_CHARS_MAX, Host, Lease
from farm.core.ledger import Ledger
from farm.core.states import Event
from farm.core.stored import inline_size
from farm.model import Ending, State
from farm.protocol.messages import Noted, Progress, Report, Started
from farm.protocol.parts import Ended, Failure, Payload

if TYPE_CHECKING:
    from farm.core.sessions import Session

__all__ = ["Reports"]

NEVER = float("inf")
REPORTED = frozenset(
    {
        Ending.OK,
        Ending.EXCEPTION,
        Ending.LOST,
        Ending.TIME_LIMIT,
        Ending.MEMORY_LIMIT,
        Ending.BROKEN,
    }
)
"""The endings that a host can report."""


NOTED_TOGETHER = 16
"""Reports of a host of which so many are durable are noted at once: it keeps them, and has but a
few times as many on the way,"""
NOTED_BYTES = 8 << 20
"""or which have so many bytes of results, but for those in files."""


class Reports:
    """Handles reports; everything stale is counted and dropped."""

    def __init__(self, ledger: Ledger, endings: Endings, cancels: Cancels) -> None:
        self._ledger = ledger
        self._endings = endings
        self._cancels = cancels
        # Of each the last that is durable, and the bytes of those that were not noted.
        self._noting: dict[Host, tuple[int, int]] = {}
        self._note_seconds = ledger.settings.upkeep_seconds
        self.note_due = NEVER
        self.starting: dict[Session, None] = {}
        """Clients to be told of tasks that have begun."""
        self.notes: dict[Session, list[tuple[bytes, int, float, float, str]]] = {}
        """Clients to be told how far tasks are."""
        # Of what hosts hold no more, since the report began: how many, and since when in all.
        self._gone, self._gone_since = 0, 0.0

    def on_report(self, host: Host, message: Report, now: float) -> None:
        """What a report says of tasks; ``on_reported`` is to follow."""
        self._gone, self._gone_since = 0, 0.0
        for ended in message.ended:
            self._endings.ran = host.name, ended.seconds / max(1, ended.count)
            self._on_ended(host, ended, now)
        self._endings.ran = "", 0.0
        if arrived := blob_names(message.ended):
            self._ledger.release(arrived - self._endings.take_blobs())
        # Before what was returned: a task that began and was given back must not be cancelled.
        for epoch, number, first, count in message.started:
            self._on_started(host, (epoch, number), first, count)
        for epoch, number, first, count in message.returned:
            self._on_returned(host, (epoch, number), first, count)
        for epoch, number, counter, done, total, note in message.progress:
            self._on_progress(host, (epoch, number), counter, (done, total, note))
        self._endings.flush(now)

    def on_reported(self, host: Host, message: Report, now: float) -> None:
        """What it says of the host; it is noted once all that it caused is durable."""
        host.window = max(0, message.window)
        host.trouble = message.trouble[:TROUBLE_CHARS_MAX]
        host.waiting, host.leaving = message.waiting, message.leaving
        if message.waits != host.waits:
            self.note_waits(host, message.waits)
        self._ledger.hosts.update(host)
        if self._gone:
            mean = now - self._gone_since / self._gone
            self._endings.accounts.gone(host, self._gone, mean, now)
        size = sum(map(inline_size, message.ended))
        action = partial(self._note, host, host.connection, message.number, size)
        self._ledger.after_commit(action, now)

    def note_waits(self, host: Host, waits: list[tuple[int, int, int]]) -> None:
        """Other tasks of a host wait than before: these lend their places in their queues."""
        queues, before = self._ledger.queues, host.waits
        found = {(epoch, number): count for epoch, number, count in waits}
        for key in {(epoch, number) for epoch, number, _ in before} | found.keys():
            if (lease := host.leases.get(key)) is not None:
                count = min(found.get(key, 0), lease.units)
                queues.lend(lease.batch, count - lease.lent)
                lease.lent = count
        host.waits = waits

    # ------------------------------------------------------------ the leases named

    def _held(
        self, host: Host, key: tuple[int, int], first: int, count: int
    ) -> list[tuple[Lease, int, int]]:
        """The parts of a named run that this host really holds under that lease."""
        lease = host.leases.get(key)
        if lease is None or count < 1:
            self._ledger.counters["stale"] += max(0, count)
            return []
        batch = lease.batch
        lo, hi = first - batch.first, first - batch.first + count
        if not batch.diverged and lease.attempt == 1 and lease.lo <= lo and hi <= lease.hi:
            own = lease.adopted is None
            if own and batch.states.count(State.LEASED, lo, hi) == count:
                return [(lease, lo, hi)]
        found = [(lease, a, b) for a, b in lease.live_in(lo, hi)]
        self._ledger.counters["stale"] += count - sum(b - a for _, a, b in found)
        return found

    def _let_go(self, lease: Lease, count: int) -> None:
        """Tasks of a lease ended: free the host's room, and the lease with its last task.

        ``Hosts.update`` is for the caller, once.
        """
        host = lease.host
        lease.left -= count
        gone = count if not lease.batch.packed else int(not lease.left)
        host.hold(lease.batch, -gone)
        self._gone += gone
        self._gone_since += gone * lease.since
        self._ledger.queues.let_go(lease.batch, gone)
        if lease.lent > lease.units:
            self._ledger.queues.lend(lease.batch, lease.units - lease.lent)
            lease.lent = lease.units
        if not lease.left:
            host.end_lease(lease)

    # ------------------------------------------------------------ ends

    def _on_ended(self, host: Host, ended: Ended, now: float) -> None:
        key = (ended.epoch, ended.lease)
        lease = host.leases.get(key)
        if lease is not None and lease.attempt != ended.attempt:
            self._ledger.counters["stale"] += ended.count
            return
        for lease, lo, hi in self._held(host, key, ended.first, ended.count):
            batch = lease.batch
            runs = batch.stopping_runs(lo, hi) if batch.stopping else [(lo, hi, None)]
            if ended.packed and (hi - lo != ended.count or len(runs) > 1):
                # A packed value cannot be cut: the rest was decided otherwise. Run these again.
                self._cancels.resolve(batch, lo, hi, cancelled=False)
                self._endings.give_back(batch, lo, hi, tried=True)
                self._let_go(lease, hi - lo)
                continue
            if ended.ending <= Ending.EXCEPTION:  # it ran to its end
                self._ledger.functions.measured(batch.function, ended.count, ended.seconds)
            if batch.cancelling:
                self._cancels.resolve(batch, lo, hi, cancelled=False)
            for a, b, grace in runs:
                if grace is None:
                    self._end(batch, a, b, ended, now)
                else:  # whatever it came to
                    self._endings.stop(batch, a, b, ended.failure)
            self._let_go(lease, hi - lo)
            if not batch.packed or hi - lo == lease.hi - lease.lo:  # else it is not over yet
                units = 1 if batch.packed else hi - lo
                took = ended.seconds if batch.packed else ended.seconds / ended.count
                self._endings.accounts.ran(host, units, max(0.0, now - lease.since - took), now)

    def _end(self, batch: Batch, lo: int, hi: int, ended: Ended, now: float) -> None:
        at = lo - (ended.first - batch.first)
        payloads, size = ended.payloads, ended.size
        seconds = ended.seconds * (hi - lo) / ended.count
        if payloads and not ended.packed and len(payloads) != hi - lo:
            payloads = payloads[at : at + hi - lo]
            size = sum(map(len, payloads))
        if ended.ending is Ending.OK:
            self._endings.finish(
                batch, lo, hi, Event.SUCCEED, Ending.OK,
                payloads=payloads, size=size, packed=ended.packed, seconds=seconds,
                output=ended.output,
            )  # fmt: skip
        elif ended.ending is Ending.LOST:
            self._endings.lose(batch, lo, hi, ended.failure or Failure("exit", host=""))
        elif ended.ending not in REPORTED:
            self._ledger.counters["unexpected"] += 1
            text = f"its host reported the ending {ended.ending.name}, which is not a host's to say"
            self._endings.lose(batch, lo, hi, Failure("protocol", text))
        else:
            for index in range(lo, hi):
                # One exception said of many items is that of each.
                own = payloads if ended.packed else payloads[index - lo : index - lo + 1]
                self._fail(batch, index, ended, own, now)

    def _fail(
        self, batch: Batch, index: int, ended: Ended, payloads: list[Payload], now: float
    ) -> None:
        """One task failed: it is tried again if it has retries left."""
        diverged = batch.diverged.get(index)
        spent = diverged.retries if diverged else 0
        final = ended.ending is Ending.BROKEN or (ended.failure is not None and ended.failure.final)
        if spent < batch.template.retries and not final:
            self._endings.retry(batch, index, ended.failure, now)
        else:
            self._endings.finish(
                batch, index, index + 1, Event.FAIL, ended.ending,
                payloads=payloads, size=sum(map(len, payloads)), failure=ended.failure,
                seconds=ended.seconds / ended.count,
            )  # fmt: skip

    # ------------------------------------------------------------ the rest of a report

    def _on_returned(self, host: Host, key: tuple[int, int], first: int, count: int) -> None:
        for lease, lo, hi in self._held(host, key, first, count):
            self._return(lease, lo, hi)

    def _return(self, lease: Lease, lo: int, hi: int) -> None:
        """Tasks that never began, or whose attempt was only cut short: cancel or wait again."""
        batch = lease.batch
        for a, b in lease.started.overlap(lo, hi):
            self._cancels.resolve(batch, a, b, cancelled=False)
            self._endings.give_back(batch, a, b, tried=True)
        for c, d in lease.started.gaps(lo, hi):
            for a, b, wanted in self._cancels.split(batch, c, d):
                if wanted:
                    self._endings.cancel(batch, a, b)
                    self._cancels.resolve(batch, a, b, cancelled=True)
                else:
                    self._endings.give_back(batch, a, b)
        self._let_go(lease, hi - lo)

    def on_running(self, host: Host, runs: list[tuple[int, int, int, int]]) -> None:
        """A beat says what the workers run."""
        for epoch, number, first, count in runs:
            self._on_started(host, (epoch, number), first, count)

    def _on_started(self, host: Host, key: tuple[int, int], first: int, count: int) -> None:
        for lease, lo, hi in self._held(host, key, first, count):
            for a, b in lease.started.gaps(lo, hi):
                lease.started.add(a, b)
                self._tell_started(lease.batch, a, b)
                if lease.batch.keys:
                    for one in duplicates_of(lease.batch, a, b, self._ledger):
                        self._tell_started(*one)
            self._cancels.resolve(lease.batch, lo, hi, cancelled=False)

    def _tell_started(self, batch: Batch, lo: int, hi: int) -> None:
        session = batch.session
        if session.peer is not None:
            session.started.append((batch.first + lo, hi - lo))
            self.starting[session] = None

    def _on_progress(
        self, host: Host, key: tuple[int, int], counter: int, note: tuple[float, float, str]
    ) -> None:
        for lease, lo, _ in self._held(host, key, counter, 1):
            self._tell_progress(lease.batch, lo, note)
            if lease.batch.keys:
                for batch, index, _ in duplicates_of(lease.batch, lo, lo + 1, self._ledger):
                    self._tell_progress(batch, index, note)

    def _tell_progress(self, batch: Batch, index: int, note: tuple[float, float, str]) -> None:
        watching = [one for one, wanted in batch.watchers.items() if index in wanted]
        for session in (batch.session, *watching):
            if session.peer is not None:
                own = (batch.session.id, batch.first + index, *note)
                self.notes.setdefault(session, []).append(own)

    def flush(self, now: float) -> None:
        """Send what gathered: starts and progress to clients; now and then, notes to hosts."""
        if now >= self.note_due:
            self.flush_notes()
        if self.starting:
            starting, self.starting = self.starting, {}
            for session in starting:
                runs, session.started = session.started, []
                if session.peer is not None and runs:
                    self._ledger.port.send(session.peer, Started(runs))
        if self.notes:
            notes, self.notes = self.notes, {}
            for session, own in notes.items():
                if session.peer is not None:
                    self._ledger.port.send(session.peer, Progress(own))

    def _note(self, host: Host, connection: int, number: int, size: int, now: float) -> None:
        if host.peer is not None and host.connection == connection:
            last, sizes = self._noting.get(host, (0, 0))
            self._noting[host] = max(last, number), size + sizes
            many = number - host.noted >= NOTED_TOGETHER or size + sizes >= NOTED_BYTES
            if host.leaving or many:
                self.note_due = min(self.note_due, now)
            elif self.note_due == NEVER:
                self.note_due = now + self._note_seconds

    def flush_notes(self) -> None:
        """Tell hosts what is durable of what they have reported, since they were told last."""
        self.note_due = NEVER
        noting, self._noting = self._noting, {}
        for host, (number, _) in noting.items():
            if host.peer is not None:
                host.noted = number
                self._ledger.port.send(host.peer, Noted(number, self._ledger.committed))

    # ------------------------------------------------------------ lost leases

    def lose_host(self, host: Host, cause: str, now: float) -> None:
        """A host is gone: what it had begun spends a loss, the rest goes back."""
        text = f"host {host.name} was lost: {cause}"
        for lease in list(host.leases.values()):
            failure = Failure("host_lost", text, host.name)
            failure.attempt, failure.seconds = lease.attempt, max(0.0, now - lease.since)
            for lo, hi in lease.live_runs():
                self._lose_run(lease, lo, hi, failure)
        for lease in list(host.leases.values()):
            host.end_lease(lease)
        host.held = host.tasks = 0
        host.meter.settle(0, now)
        host.used.clear()
        host.functions.clear()
        self._ledger.hosts.update(host)
        self._endings.flush(now)

    def _lose_run(self, lease: Lease, lo: int, hi: int, failure: Failure) -> None:
        batch = lease.batch
        if batch.runs_once and lease.sent:  # what may have begun out there must count as begun
            lease.started.add(lo, hi)
        for a, b in lease.started.gaps(lo, hi):
            # If somebody wants them cancelled, the answer is no: they may have begun out there.
            self._cancels.resolve(batch, a, b, cancelled=False)
            self._endings.give_back(batch, a, b, tried=lease.sent)
            self._let_go(lease, b - a)
        for a, b in lease.started.overlap(lo, hi):
            self._cancels.resolve(batch, a, b, cancelled=False)
            self._endings.lose(batch, a, b, failure, lease.host.instance)
            self._let_go(lease, b - a)

    def return_unclaimed(self, host: Host, lease: Lease, lo: int, hi: int) -> None:
        """The host came back and does not hold these tasks: they never reached it."""
        for a, b in lease.live_in(lo, hi):
            self._return(lease, a, b)
        self._ledger.hosts.update(host)

    def restore_losses(self, host: Host, now: float) -> None:
        """The same agent came back: it was cut off, not dead, and nobody pays for that."""
        for batch, index in self._ledger.charges.take(host.instance):
            self._endings.restore_loss(batch, index, host.instance)
        self._endings.flush(now)
