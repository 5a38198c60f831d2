"""What the numbers of queues and hosts are made of, counted when nobody waits for that any more.

It is noted while messages are handled and journal records become durable, and counted at the end of
the turn: who waits for a result has it by then.
"""

from typing import NamedTuple

from farm.core.batch import Batch, Outcome
from farm.core.hosts import Host
from farm.core.ledger import Ledger

__all__ = ["Accounts", "Freed"]


class Freed(NamedTuple):
    """An outcome of a batch, and the tasks, bytes and blobs that this frees."""

    batch: Batch
    outcome: Outcome
    units: int
    size: int
    blobs: list[str]


class Accounts:
    """Of one turn; bounded by what a turn takes."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._published: list[tuple[list[Freed], float]] = []
        self._ran: list[tuple[Host, int, float, float]] = []
        self._gone: list[tuple[Host, int, float, float]] = []

    def published(self, finished: list[Freed], now: float) -> None:
        """Outcomes are durable, and their readers have them."""
        self._published.append((finished, now))

    def ran(self, host: Host, tasks: int, wait: float, now: float) -> None:
        """Tasks have run on a host, on which they had waited so many seconds."""
        self._ran.append((host, tasks, wait, now))

    def gone(self, host: Host, tasks: int, seconds: float, now: float) -> None:
        """A host has so many tasks no more, which it had for so many seconds each."""
        self._gone.append((host, tasks, seconds, now))

    def settle(self) -> None:
        """The end of a turn: count."""
        if self._ran:
            ran, self._ran = self._ran, []
            for host, tasks, wait, now in ran:
                host.meter.place(tasks, wait, now)
        if self._gone:
            gone, self._gone = self._gone, []
            for host, tasks, seconds, now in gone:
                host.meter.end(tasks, seconds, now, host.tasks)
        if self._published:
            published, self._published = self._published, []
            for finished, now in published:
                self._count(finished, now)

    def _count(self, finished: list[Freed], now: float) -> None:
        ledger = self._ledger
        own = ledger.settings.session_max_tasks or ledger.settings.session_max_bytes
        for batch, outcome, units, size, _ in finished:
            queue = batch.queue
            queue.meter.work(outcome.seconds)
            if units:
                queue.meter.end(units, now - batch.at, now)
                queue.throughput.end(units, size, now)
                ledger.throughput.end(units, size, now)
                if own:
                    batch.session.throughput.end(units, size, now)
