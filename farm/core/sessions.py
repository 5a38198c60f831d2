"""A client's identity: what was accepted from it, what it may send, what it is still to get."""

from bisect import bisect_right, insort
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from farm.core.batch import SETTLED, Batch, Outcome
from farm.core.paging import Pages
from farm.core.port import Peer
from farm.core.throughput import Throughput
from farm.identity import TRUSTED, Identity
from farm.ranges import RangeSet

if TYPE_CHECKING:
    from farm.core.jobs import Job

__all__ = ["BatchIndex", "Delivery", "Session"]

STALE_MIN = 64


class BatchIndex:
    """The batches of a session, by counter. Adding in order and finding are cheap."""

    def __init__(self) -> None:
        self._firsts: list[int] = []  # of batches that are, or were not long ago, here
        self._batches: dict[int, Batch] = {}

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        """All batches, in order of counter."""
        return (self._batches[first] for first in self._firsts if first in self._batches)

    def add(self, batch: Batch) -> None:
        """Add a batch whose counters nothing else has."""
        if self._firsts and batch.first <= self._firsts[-1]:
            if batch.first not in self._batches:
                at = bisect_right(self._firsts, batch.first)
                if not at or self._firsts[at - 1] != batch.first:
                    insort(self._firsts, batch.first)
        else:
            self._firsts.append(batch.first)
        self._batches[batch.first] = batch

    def remove(self, batch: Batch) -> None:
        """Forget a batch."""
        del self._batches[batch.first]
        if len(self._firsts) > STALE_MIN and len(self._firsts) > 2 * len(self._batches):
            self._firsts = [first for first in self._firsts if first in self._batches]

    def overlap(self, first: int, count: int) -> Iterator[tuple[Batch, int, int]]:
        """The parts of ``[first, first + count)`` that are here: ``(batch, lo, hi)`` by index."""
        stop = first + count
        at = max(0, bisect_right(self._firsts, first) - 1)
        while count and at < len(self._firsts) and self._firsts[at] < stop:
            batch = self._batches.get(self._firsts[at])
            if batch is not None and batch.stop > first:
                yield (
                    batch,
                    max(first, batch.first) - batch.first,
                    min(stop, batch.stop) - batch.first,
                )
            at += 1


class Delivery:
    """An outcome, or a part of one, on its way to a session.

    ``holds``: its outcome is kept in memory for it; while it waits, that counts for the session's
    ``resident_bytes``.
    """

    __slots__ = ("count", "first", "holds", "outcome", "waits")

    def __init__(self, outcome: Outcome, first: int, count: int) -> None:
        self.outcome = outcome
        self.first = first
        self.count = count
        self.holds = False
        self.waits = True

    @property
    def held(self) -> int:
        """How many bytes are kept in memory for it."""
        return self.outcome.inline_bytes if self.holds else 0

    def is_owed(self, session: "Session") -> bool:
        """Whether the session is the owner of the tasks and has not taken all of them."""
        batch = self.outcome.batch
        if batch is None or batch.session is not session:
            return False
        lo = self.first - batch.first
        return batch.states.count(SETTLED, lo, lo + self.count) < self.count


class Session:
    """What the coordinator knows of one client.

    Credit: ``granted`` is what the connection may send in all, ``received`` what it has sent.
    ``accepted`` has every durable counter ever accepted, and all below the floor that the client
    said; ``volatile`` has the others. ``dropped`` are those whose results were given up for room,
    ``outlived`` those that nobody took in time; ``forgotten`` those that the client waited for and
    the coordinator does not have, because its store was restored from an older copy.

    ``owner`` is the name of the key that opened it, empty where no keys are in use: whose its tasks
    are, and their keys. ``identity`` is who speaks for it now, under that name.
    """

    def __init__(self, identity: bytes, secret: bytes, now: float, owner: str = "") -> None:
        self.id = identity
        self.secret = secret
        self.owner = owner
        self.identity: Identity = TRUSTED
        self.sees_all = True
        self.above: tuple[tuple[bytes, int], str] | None = None  # a parent of its tasks, and whose
        self.accepted = RangeSet()
        self.volatile = RangeSet()
        self.dropped = RangeSet()
        self.outlived = RangeSet()
        self.forgotten = RangeSet()
        self.batches = BatchIndex()
        self.jobs: dict[int, Job] = {}
        self.mark_ref = 0
        self.marked = False  # whether the mark is up to date
        self.last_seen = now
        self.following: set[Job] = set()
        self.follows = 0  # requests to follow jobs
        self.watching: dict[Batch, None] = {}
        self.python_differs = ""
        self.open_tasks = self.open_bytes = 0  # what admission has reserved for it
        self.throughput = Throughput()  # kept where clients have limits of their own
        # of the connection
        self.peer: Peer | None = None
        self.connection = -1
        self.granted_tasks = 0
        self.granted_bytes = 0
        self.received_tasks = 0
        self.received_bytes = 0
        self.refused = False
        self.told_full = False  # since it was given credit last
        self.accepting: list[tuple[int, int]] = []
        self.started: list[tuple[int, int]] = []
        # results, bounded by admission of the tasks that they end
        self.window_bytes = 0
        self.outbox: deque[Delivery] = deque()
        self.inflight: deque[tuple[int, int, list[Delivery]]] = deque()
        self.inflight_bytes = 0
        self.pages = Pages()
        self.resident_bytes = 0
        self.results_sent = 0

    def sees(self, batch: Batch) -> bool:
        """Whether it may know of the tasks of a batch."""
        return self.sees_all or batch.owner == self.owner or batch.session is self

    def speak(self, identity: Identity) -> None:
        """This is who speaks for it from now on."""
        self.identity = identity
        self.sees_all = identity.sees_all

    def had(self, counter: int) -> bool:
        """Whether a task was accepted, as far as the coordinator remembers."""
        known = counter in self.accepted or counter in self.volatile
        return known and counter not in self.forgotten

    def raise_floor(self, floor: int) -> None:
        """No task below the floor will be sent any more: all of them are known, without holes."""
        self.accepted.add(0, floor)
        self.volatile.remove(0, floor)

    def connect(self, peer: Peer, connection: int, window_bytes: int, now: float) -> None:
        """Begin a connection: credit and numbers count from zero."""
        self.disconnect()
        self.peer = peer
        self.connection = connection
        self.window_bytes = window_bytes
        self.last_seen = now

    def disconnect(self) -> None:
        """End the connection: what was not taken will be sent again.

        What it followed, and what else it asked for, the client asks for again when it is back.
        """
        self.peer = None
        self.granted_tasks = self.granted_bytes = 0
        self.received_tasks = self.received_bytes = 0
        self.refused = self.told_full = False
        self.accepting = []
        self.started = []
        self._unfollow()
        self.pages.clear()
        for _, _, deliveries in reversed(self.inflight):
            self.outbox.extendleft(reversed(deliveries))
        owed = deque(delivery for delivery in self.outbox if delivery.is_owed(self))
        for delivery in self.outbox:
            delivery.waits = False
        for delivery in owed:
            delivery.waits = True
        self.outbox = owed
        self.resident_bytes = sum(delivery.held for delivery in owed)
        self.inflight.clear()
        self.inflight_bytes = 0
        self.results_sent = 0

    def _unfollow(self) -> None:
        for job in self.following:
            for key in [key for key in job.followers if key[0] == self.id]:
                del job.followers[key]
        self.following.clear()
        self.follows = 0
        for batch in self.watching:
            batch.watchers.pop(self, None)
        self.watching.clear()
