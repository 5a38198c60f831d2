"""After a restart: taking back what runs, and fencing off what does not.

Any task of the backlog may be running somewhere. So the backlog waits until all hosts of the last
epoch have said what they hold, or a few seconds are over; then one record fences off every older
token that was not adopted. New submissions run meanwhile.
"""

from farm.core.batch import Batch
from farm.core.cancels import Cancels
from farm.core.endings import Endings
from farm.core.fencing import fence, of_sessions
from farm.core.hosts import Host, Lease
from farm.core.ledger import Ledger
from farm.core.reports import Reports
from farm.core.retention import Retention
from farm.core.states import Event
from farm.model import State
from farm.protocol.parts import Claim, Failure, TaskRun
from farm.protocol.records import Recovered
from farm.ranges import RangeSet

__all__ = ["Recovery"]

NEVER = float("inf")

Claimed = dict[Lease, list[tuple[int, int]]]


class Recovery:
    """Adopts what hosts claim, and ends the wait for them."""

    def __init__(
        self,
        ledger: Ledger,
        endings: Endings,
        retention: Retention,
        reports: Reports,
        cancels: Cancels,
    ) -> None:
        self._ledger = ledger
        self._endings = endings
        self._retention = retention
        self._reports = reports
        self._cancels = cancels
        self._expected: dict[str, list[tuple[int, bytes]]] = {}
        self._dead: list[int] = []  # records of hosts whose agent is another one now
        self._adopted: list[TaskRun] = []
        self._backlog: list[Batch] = []
        self._taken: dict[Batch, RangeSet] = {}  # of the backlog: adopted
        self._heard: set[bytes] = set()  # instances of hosts that said what they hold
        self._owners: dict[str, str] = {}
        self.deadline = NEVER

    def begin(
        self, hosts: dict[str, list[tuple[int, bytes]]], owners: dict[str, str], now: float
    ) -> None:
        """The ledger is rebuilt: wait for the hosts of the last epoch if there is a backlog.

        ``hosts`` has the records that say so, by name; they are kept as long as
        recovery waits, for the next restart may come before. ``owners`` has the names of their
        keys, by name, too.
        """
        self._expected, self._owners = dict(hosts), dict(owners)
        ledger = self._ledger
        for session in ledger.sessions.values():
            for batch in session.batches:
                if batch.open and batch.same is None:
                    self._backlog.append(batch)
                    batch.suspended = RangeSet([(0, batch.count)])
                elif not batch.open and batch.finished_at is None:
                    batch.finished_at = now
        ledger.recovering = bool(self._backlog)
        ledger.holds_back = ledger.recovering
        if ledger.recovering:
            self.deadline = now + ledger.settings.recovery_seconds
            if not self._expected:
                self.finish(now)
        else:
            self._forget_hosts()

    def owner_of(self, name: str) -> str:
        """The key of a host that is waited for; empty if there is none, or it had none."""
        return self._owners.get(name, "") if name in self._expected else ""

    # ------------------------------------------------------------ claims

    def on_claims(self, host: Host, claims: list[Claim], now: float) -> list[Claim]:
        """What a host says it holds: keep or adopt it; the claims that it must drop."""
        drop: list[Claim] = []
        claimed: Claimed = {}
        for claim in claims:
            kept = RangeSet()
            for batch, lo, hi in self._tasks_of(claim):
                for lease, a, b in self._keep(host, claim, batch, (lo, hi), now):
                    kept.add(batch.first + a, batch.first + b)
                    claimed.setdefault(lease, []).append((a, b))
                    if claim.started:
                        lease.started.add(a, b)
                if batch.runs_once:
                    _note_begun(batch, claim, kept, lo, hi)
            drop += _rest(claim, kept)
        self._ledger.counters["fenced"] += sum(claim.count for claim in drop)
        for lease in list(host.leases.values()):
            self._return_unclaimed(host, lease, claimed.get(lease, []))
        self._endings.flush(now)
        if self._ledger.holds_back:
            self._heard.add(host.instance)
        self._arrived(host.name, host.instance, now)
        return drop

    def _tasks_of(self, claim: Claim) -> list[tuple[Batch, int, int]]:
        session = self._ledger.sessions.get(claim.session)
        return list(session.batches.overlap(claim.first, claim.count)) if session else []

    def _keep(
        self, host: Host, claim: Claim, batch: Batch, run: tuple[int, int], now: float
    ) -> list[tuple[Lease, int, int]]:
        """The parts of a claimed run that are the host's, or become so by adoption.

        What else it claims has ended, perhaps unnoted, or was fenced off.
        """
        lease = host.leases.get((claim.epoch, claim.lease))
        if lease is not None and (lease.batch is not batch or lease.attempt != claim.attempt):
            return []
        kept = [] if lease is None else [(lease, a, b) for a, b in lease.live_in(*run)]
        if self._ledger.recovering and claim.epoch < self._ledger.epoch:
            for a, b in _adoptable(batch, claim, run):
                lease = self._adopt(host, claim, batch, (a, b), now)
                kept.append((lease, a, b))
        return kept

    def _adopt(
        self, host: Host, claim: Claim, batch: Batch, run: tuple[int, int], now: float
    ) -> Lease:
        """Take back a run that a lease of an older epoch has."""
        lo, hi = run
        if batch.states[lo] == State.SCHEDULED:  # it was due before the restart
            batch.move(lo, hi, Event.DUE)
        batch.move(lo, hi, Event.LEASE)
        key = (claim.epoch, claim.lease)
        lease = host.leases.get(key)
        held = 0 if lease is None else lease.units
        if lease is None:
            lease = Lease(key, host, batch, run, claim.attempt)
            host.lease(lease)
            lease.since = now
        lease.adopt(lo, hi)
        self._taken.setdefault(batch, RangeSet()).add(lo, hi)
        if batch.suspended is not None:
            batch.suspended.remove(lo, hi)
        host.hold(batch, lease.units - held)
        host.meter.settle(host.tasks, now)
        batch.queue.hold(batch, lease.units - held)
        self._adopted.append((claim.session, batch.first + lo, hi - lo))
        self._ledger.counters["adopted"] += hi - lo
        return lease

    def _return_unclaimed(self, host: Host, lease: Lease, claimed: list[tuple[int, int]]) -> None:
        at = lease.lo
        for a, b in [*sorted(claimed), (lease.hi, lease.hi)]:
            if at < a:
                self._reports.return_unclaimed(host, lease, at, a)
            at = max(at, b)

    def _arrived(self, name: str, instance: bytes, now: float) -> None:
        """A host of the last epoch is here, or will not come: recovery waits for the others."""
        records = self._expected.pop(name, [])
        here = [ref for ref, one in records if one == instance]
        if here:
            self._ledger.port.prune(here)
        # What the others had begun is not known: their records are kept until that is written.
        self._dead += [ref for ref, one in records if one != instance]
        if self._ledger.recovering and not self._expected:
            self.finish(now)

    def on_host_gone(self, name: str, now: float) -> None:
        """A host is forgotten; recovery does not wait for it."""
        self._arrived(name, b"", now)

    def finish(self, now: float) -> None:
        """Fence off every older token that was not adopted, and let the backlog run."""
        ledger = self._ledger
        ledger.recovering = False
        self.deadline = NEVER
        tried = bool(self._dead or self._expected)
        backlog, self._backlog = self._backlog, []
        taken, self._taken = self._taken, {}
        adopted, self._adopted = self._adopted, []
        record = Recovered(ledger.epoch, adopted, tried)
        self._retention.recovered_refs.append(ledger.persist(record))
        self._forget_hosts()
        kept = of_sessions(adopted)
        for session in ledger.sessions.values():
            for batch in session.batches:
                if batch.open:
                    fence(batch, ledger.epoch, kept, tried=tried)
        ledger.after_commit(lambda at: self._release(backlog, taken, at), now)

    def _forget_hosts(self) -> None:
        """Hosts of the last epoch that did not come are waited for no more."""
        refs = self._dead + [ref for one in self._expected.values() for ref, _ in one]
        self._expected.clear()
        self._owners.clear()
        self._dead = []
        if refs:
            self._ledger.port.prune(refs)

    def _release(self, backlog: list[Batch], taken: dict[Batch, RangeSet], now: float) -> None:
        """Let the backlog run; what was adopted since runs on by itself, or waits already."""
        ledger = self._ledger
        for batch in backlog:
            batch.suspended = None
            if batch.gone or not batch.open:
                continue
            expires = batch.template.expires
            if expires is not None:
                batch.expires_at = batch.at + expires
                ledger.expiries.push(batch.expires_at, batch, 0, batch.count)
            for lo, hi in taken.get(batch, RangeSet()).gaps(0, batch.count):
                self._bury_begun(batch, lo, hi)
                self._stop_waiting(batch, lo, hi)
                ledger.queue(batch, lo, hi)
                for a, b in list(batch.runs(lo, hi, State.SCHEDULED)):
                    self._delay(batch, a, b)
        self._heard.clear()
        self._endings.flush(now)
        ledger.now_known(now)
        self._cancels.on_recovered(now)

    def _stop_waiting(self, batch: Batch, lo: int, hi: int) -> None:
        """Tasks that were to be stopped and that no host has, as is known now."""
        for a, b, grace in batch.stopping_runs(lo, hi):
            if grace is not None:
                for state in (State.QUEUED, State.SCHEDULED):
                    for c, d in list(batch.runs(a, b, state)):
                        self._endings.cancel(batch, c, d)

    def _bury_begun(self, batch: Batch, lo: int, hi: int) -> None:
        """Tasks that may have run, must not run twice, and whose host did not come back.

        A host that came back and does not claim them never had them.
        """
        if not batch.runs_once:
            return
        message = "its host did not come back after a restart of the coordinator"
        for index, own in list(batch.diverged.items()):
            waits = batch.states[index] in {State.QUEUED, State.SCHEDULED}
            if (
                lo <= index < hi
                and waits
                and own.begun == own.attempt
                and own.begun_on not in self._heard
            ):
                if batch.states[index] == State.SCHEDULED:  # it was due before the restart
                    batch.move(index, index + 1, Event.DUE)
                batch.move(index, index + 1, Event.LEASE)
                self._endings.lose(batch, index, index + 1, Failure("host_lost", message))

    def _delay(self, batch: Batch, lo: int, hi: int) -> None:
        if not batch.diverged:
            self._ledger.delay(batch, lo, hi, batch.starts_at)
            return
        for index in range(lo, hi):
            own = batch.diverged.get(index)
            due = batch.starts_at if own is None or own.due is None else own.due
            self._ledger.delay(batch, index, index + 1, due)


def _note_begun(batch: Batch, claim: Claim, kept: RangeSet, lo: int, hi: int) -> None:
    """The host has, or had, what it claims in vain: nobody can say that it never began there."""
    for a, b in kept.gaps(batch.first + lo, batch.first + hi):
        for index in range(a - batch.first, b - batch.first):
            own = batch.diverged.get(index)
            if own is not None and own.begun == claim.attempt:
                batch.diverge(index).begun_on = b""


def _rest(claim: Claim, kept: RangeSet) -> list[Claim]:
    """The parts of a claim that are not kept."""
    stop = claim.first + claim.count
    epoch, lease, attempt = claim.epoch, claim.lease, claim.attempt
    return [
        Claim(epoch, lease, attempt, claim.session, a, b - a, claim.started)
        for a, b in kept.gaps(claim.first, stop)
    ]


def _adoptable(batch: Batch, claim: Claim, run: tuple[int, int]) -> list[tuple[int, int]]:
    """The runs of a claimed run, each in one state, that wait and are not fenced off."""
    found: list[tuple[int, int]] = []
    for state in (State.QUEUED, State.SCHEDULED):
        for lo, hi in batch.runs(*run, state):
            if not batch.diverged:
                if claim.attempt == 1 and claim.epoch >= batch.fence:
                    found.append((lo, hi))
                continue
            counts = RangeSet()
            for index in range(lo, hi):
                if claim.attempt == batch.attempt(index) and claim.epoch >= batch.fence_of(index):
                    counts.add(index, index + 1)
            found += counts
    return found
