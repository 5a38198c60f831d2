"""Taking back what waits on one host when another has nothing to do.

A host is given more than it can run at once, so that it never waits for the next task; what it has
not begun may come to wait behind something long. When another host has a free slot and nothing is
queued, the coordinator asks for some of that back (`Recall`). The host's word decides: what it
gives back unbegun spends nothing, and is placed again once the end of its attempt is committed.
"""

from collections import OrderedDict
from functools import partial
from itertools import islice
from math import ceil
from typing import NamedTuple

from farm.core.batch import Batch
from farm.core.hosts import Host, Lease
from farm.core.ledger import Ledger
from farm.core.placement import Placement
from farm.protocol.messages import Recall

__all__ = ["Recalls"]

NEVER = float("inf")
HOSTS_MAX = 16
"""So many hosts are looked at in a turn, of all that hold too much or were asked."""
AGAIN_SECONDS = 0.01
"""How soon the next of them are, if nothing else happens."""
ROUND_TRIPS = 10
"""Of its host: younger tasks may have begun, and the word of it be on its way."""


class _Asked(NamedTuple):
    """What one host was asked for: its runs by lease, and on which connection."""

    connection: int
    runs: dict[tuple[int, int], tuple[int, int]]
    tasks: int


class Recalls:
    """Asks hosts that hold more than they can run for the benefit of those with a free slot.

    A host is asked when what it was given has waited for ``recall_seconds``, and for ten round
    trips; not again before all of the last is answered and can be placed. No more is asked for
    than idle hosts have room for, and of what a host still wants only their share, so nothing goes
    to and fro. Tasks of queues that limit what runs are let alone: they were given to free slots.
    """

    def __init__(self, ledger: Ledger, placement: Placement) -> None:
        self._ledger = ledger
        self._placement = placement
        self.asked: OrderedDict[Host, _Asked] = OrderedDict()
        """What is not decided yet, or not to be placed."""
        self._tasks = 0  # of these
        self._settling: set[Host] = set()  # all of it is answered, and the commit to come
        self.due = NEVER
        """When a host comes to hold something for too long."""

    def look(self, now: float) -> None:
        """What can be placed has been placed: ask for what others could begin at once."""
        self.due = NEVER
        ledger = self._ledger
        if self.asked:
            self._see_answers(now)
        elif not ledger.hosts.over:
            return
        idle = ledger.hosts.idle()
        if not idle or ledger.short or ledger.holds_back:
            return
        free = sum(host.free for host in idle) - self._tasks
        room = sum(host.room for host in idle) - self._tasks
        slots = sum(host.slots for host in idle)
        over = ledger.hosts.over
        if len(over) > HOSTS_MAX:
            self.due = now + AGAIN_SECONDS
        for name, host in list(islice(over.items(), HOSTS_MAX)):
            over.move_to_end(name)
            if free <= 0:
                return
            if host in self.asked or (at := self._overdue_at(host)) is None:
                continue
            if at > now:
                self.due = min(self.due, at)
                continue
            # What it does not want any more goes; of the rest, the share of those that are idle.
            share = ceil(host.surplus * slots / (slots + host.slots))
            most = min(room, max(host.held - host.window, share), host.surplus)
            tasks = self._ask(host, most, free)
            free, room = free - tasks, room - tasks

    def take_back(self, batch: Batch, lo: int, hi: int) -> bool:
        """Ask for what has not begun of these, wanted no more; whether there was any.

        To be called again until there is none: a word may be lost with its connection.
        """
        found = False
        for lease in batch.leases or ():
            runs = _waiting(lease, max(lo, lease.lo), min(hi, lease.hi))
            found = found or bool(runs)
            if runs and lease.sent and lease.host.peer is not None:
                named = [(*lease.key, batch.first + a, b - a) for a, b in runs]
                self._ledger.port.send(lease.host.peer, Recall(named))
        return found

    def _overdue_at(self, host: Host) -> float | None:
        """When the oldest of what it holds and has not begun has waited for too long."""
        patience = max(
            self._ledger.settings.recall_seconds, ROUND_TRIPS * host.load.get("round_trip", 0.0)
        )
        for lease in host.leases.values():
            if _may_come_back(lease) and _waiting(lease):
                return lease.since + patience
        return None

    def _ask(self, host: Host, most: int, free: int) -> int:
        """Ask for at most so many tasks, the last first; how many were asked for.

        ``free``: the slots that are free, beyond which nothing is to wait that is not short.
        """
        runs: dict[tuple[int, int], tuple[int, int]] = {}
        tasks = 0
        for lease in reversed(host.leases.values()):
            expected = self._ledger.functions.expected(lease.batch.function)
            short = self._placement.is_short(lease.batch, lease.left, expected)
            left = (most if short else min(most, free)) - tasks
            if left <= 0 or not _may_come_back(lease):
                continue
            run = max(_waiting(lease), default=None)
            if run is None:
                continue
            lo, hi = run
            lo = lo if lease.batch.packed else max(lo, hi - left)
            runs[lease.key] = lo, hi
            tasks += 1 if lease.batch.packed else hi - lo
        if runs and host.peer is not None:
            self.asked[host] = _Asked(host.connection, runs, tasks)
            self._tasks += tasks
            self._ledger.counters["recalled"] += tasks
            first = {key: host.leases[key].batch.first for key in runs}
            named = [(*key, first[key] + lo, hi - lo) for key, (lo, hi) in runs.items()]
            self._ledger.port.send(host.peer, Recall(named))
        return tasks

    def _see_answers(self, now: float) -> None:
        """Whoever has answered may be asked again, as soon as what came back can be placed."""
        if len(self.asked) > HOSTS_MAX:
            self.due = now + AGAIN_SECONDS
        for host, asked in list(islice(self.asked.items(), HOSTS_MAX)):
            self.asked.move_to_end(host)
            if host.peer is None or host.connection != asked.connection:
                self._forget(host)  # it was not heard, and says in its HELLO what it holds
            elif host not in self._settling and not any(
                _waiting(lease, *run)
                for key, run in asked.runs.items()
                if (lease := host.leases.get(key)) is not None
            ):
                self._settling.add(host)
                self._ledger.after_commit(partial(self._settled, host, asked), now)

    def _settled(self, host: Host, asked: _Asked, _now: float) -> None:
        if self.asked.get(host) is asked:
            self._forget(host)

    def _forget(self, host: Host) -> None:
        self._tasks -= self.asked.pop(host).tasks
        self._settling.discard(host)


def _may_come_back(lease: Lease) -> bool:
    """Whether its host knows of it, and may have it wait: neither queue nor needs forbid that."""
    return lease.sent and lease.batch.queue.plain and lease.batch.needs is None


def _waiting(lease: Lease, lo: int | None = None, hi: int | None = None) -> list[tuple[int, int]]:
    """The runs of a lease, within ``[lo, hi)`` if that is said, that have not begun so far."""
    lo, hi = lease.lo if lo is None else lo, lease.hi if hi is None else hi
    return [gap for a, b in lease.live_in(lo, hi) for gap in lease.started.gaps(a, b)]
