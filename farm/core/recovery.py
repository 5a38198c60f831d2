"""After a restart: taking back what runs, and fencing off what does not.

Any task of the backlog may be running somewhere. So the backlog waits until all hosts of the last
epoch have said what they hold, or a few seconds are over; then one record fences off every older
token that was not adopted. New submissions run meanwhile.
"""

from farm.core.batch import Batch
from farm.core.cancels import Cancels
from farm.core.endings import Endings
from farm.core.fencing import fence
from farm.core.hosts import Host, Lease
from farm.core.ledger import Ledger
from farm.core.reports import Reports
from farm.core.retention import Retention
from farm.core.states import Event
from farm.model import State
from farm.protocol.parts import Claim, TaskRun
from farm.protocol.records import Recovered

__all__ = ["Recovery"]

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
        self._expected: set[str] = set()
        self._adopted: list[TaskRun] = []
        self._backlog: list[Batch] = []
        self.deadline: float | None = None

    def begin(self, hosts: set[str], now: float) -> None:
        """The ledger is rebuilt: wait for the hosts of the last epoch if there is a backlog."""
        self._expected = set(hosts)
        ledger = self._ledger
        for session in ledger.sessions.values():
            for batch in session.batches:
                if batch.open:
                    self._backlog.append(batch)
                elif batch.finished_at is None:
                    batch.finished_at = now
        ledger.recovering = bool(self._backlog)
        if ledger.recovering:
            self.deadline = now + ledger.settings.recovery_seconds
            if not self._expected:
                self.finish(now)

    # ------------------------------------------------------------ claims

    def on_claims(self, host: Host, claims: list[Claim], now: float) -> list[Claim]:
        """What a host says it holds: keep or adopt it; the claims that it must drop."""
        drop: list[Claim] = []
        claimed: Claimed = {}
        for claim in claims:
            kept = self._known(host, claim, claimed) or self._adopt(host, claim, claimed, now)
            if not kept:
                self._ledger.counters["fenced"] += claim.count
                drop.append(claim)
        for lease in list(host.leases.values()):
            self._return_unclaimed(host, lease, claimed.get(lease, []))
        self._endings.flush(now)
        self._expected.discard(host.name)
        if self._ledger.recovering and not self._expected:
            self.finish(now)
        return drop

    def _known(self, host: Host, claim: Claim, claimed: Claimed) -> bool:
        """Whether this very lease is still the host's, for all that it claims of it."""
        lease = host.leases.get((claim.epoch, claim.lease))
        if lease is None or lease.attempt != claim.attempt:
            return False
        if lease.batch.session.id != claim.session:
            return False
        lo = claim.first - lease.batch.first
        hi = lo + claim.count
        if not any(a <= lo and hi <= b for a, b in _joined(lease.live_runs())):
            return self._is_over_in_part(lease, lo, hi, claimed)
        claimed.setdefault(lease, []).append((lo, hi))
        if claim.started:
            lease.started.add(lo, hi)
        return True

    def _is_over_in_part(self, lease: Lease, lo: int, hi: int, claimed: Claimed) -> bool:
        """Some of the claimed tasks have ended, as when a report was not noted: keep the rest."""
        live = [(max(a, lo), min(b, hi)) for a, b in lease.live_runs() if max(a, lo) < min(b, hi)]
        claimed.setdefault(lease, []).extend(live)
        return bool(live)

    def _return_unclaimed(self, host: Host, lease: Lease, claimed: list[tuple[int, int]]) -> None:
        at = lease.lo
        for a, b in [*sorted(claimed), (lease.hi, lease.hi)]:
            if at < a:
                self._reports.return_unclaimed(host, lease, at, a)
            at = max(at, b)

    def _adopt(
        self,
        host: Host,
        claim: Claim,
        claimed: Claimed,
        now: float,
    ) -> bool:
        """Take back a lease of an older epoch, if nothing has fenced it off since."""
        ledger = self._ledger
        session = ledger.sessions.get(claim.session)
        if not ledger.recovering or session is None or claim.count < 1:
            return False
        key = (claim.epoch, claim.lease)
        found = list(session.batches.overlap(claim.first, claim.count))
        if len(found) != 1 or key in host.leases:
            return False
        batch, lo, hi = found[0]
        if hi - lo != claim.count or batch.states.count(State.QUEUED, lo, hi) != hi - lo:
            return False
        for index in range(lo, hi) if batch.diverged else (lo,):
            if claim.epoch < batch.fence_of(index) or claim.attempt != batch.attempt(index):
                return False
        batch.move(lo, hi, Event.LEASE)
        lease = Lease(key, host, batch, (lo, hi), claim.attempt)
        lease.since = now
        if claim.started:
            lease.started.add(lo, hi)
        host.leases[key] = lease
        host.held += lease.units
        claimed.setdefault(lease, []).append((lo, hi))
        self._adopted.append((claim.session, claim.first, claim.count))
        ledger.counters["adopted"] += claim.count
        return True

    def on_host_gone(self, name: str, now: float) -> None:
        """A host is forgotten; recovery does not wait for it."""
        self._expected.discard(name)
        if self._ledger.recovering and not self._expected:
            self.finish(now)

    def finish(self, now: float) -> None:
        """Fence off every older token that was not adopted, and let the backlog run."""
        ledger = self._ledger
        ledger.recovering = False
        self.deadline = None
        self._expected.clear()
        backlog, self._backlog = self._backlog, []
        adopted, self._adopted = self._adopted, []
        self._retention.recovered_refs.append(ledger.persist(Recovered(ledger.epoch, adopted)))
        for session in ledger.sessions.values():
            for batch in session.batches:
                if batch.open:
                    fence(batch, ledger.epoch, adopted)
        ledger.after_commit(lambda at: self._release(backlog, at), now)

    def _release(self, backlog: list[Batch], now: float) -> None:
        ledger = self._ledger
        for batch in backlog:
            if batch.gone or not batch.open:
                continue
            expires = batch.template.expires
            if expires is not None:
                batch.expires_at = batch.at + expires
                ledger.expiries.push(batch.expires_at, batch, 0, batch.count)
            ledger.queue(batch, 0, batch.count)
            for lo, hi in list(batch.runs(0, batch.count, State.SCHEDULED)):
                self._delay(batch, lo, hi)
        self._cancels.on_recovered(now)

    def _delay(self, batch: Batch, lo: int, hi: int) -> None:
        start = batch.at + (batch.template.delay or 0.0)
        for index in range(lo, hi):
            own = batch.diverged.get(index)
            due = start if own is None or own.due is None else own.due
            self._ledger.delays.push(due, batch, index, index + 1)


def _joined(runs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Adjacent runs, made one."""
    joined: list[tuple[int, int]] = []
    for a, b in runs:
        if joined and joined[-1][1] == a:
            joined[-1] = (joined[-1][0], b)
        else:
            joined.append((a, b))
    return joined
