"""Counts tasks that nothing will move: a state without its way out is a mistake of ours.

Now and then what waits and what is leased is compared with what would end that: an entry in the
queue, a time to come, a lease of a host. A pass takes a snapshot of those and goes through them,
and then through the tasks, a slice in a turn. Tasks move meanwhile, so one that was found without
is only suspected; it is counted when it is found so again, in the same state and attempt, by a
pass that began when all that was decided before was committed.
"""

from collections import Counter
from collections.abc import Iterator

from farm.core.batch import Batch
from farm.core.hosts import Lease
from farm.core.ledger import Ledger
from farm.model import State
from farm.protocol.parts import COUNTER_MAX
from farm.ranges import RangeSet

__all__ = ["Watchdog"]

SLICE = 256
"""Entries, leases or batches looked at in one turn."""
SLICE_SECONDS = 0.01
NEVER = float("inf")
SUSPECTS_MAX = 10_000
WATCHED = (State.SCHEDULED, State.QUEUED, State.LEASED)
Suspects = dict[tuple[Batch, int], tuple[int, int]]
"""The state and attempt of tasks, by batch and index."""


class _Ways:
    """What will move the tasks of batches out of a state."""

    def __init__(self) -> None:
        self._whole: set[Batch] = set()
        self._parts: dict[Batch, list[tuple[int, int, int]]] = {}

    def add(self, batch: Batch, lo: int, hi: int, attempt: int = 0) -> None:
        if lo == 0 and hi == batch.count and not attempt:
            self._whole.add(batch)
        else:
            self._parts.setdefault(batch, []).append((lo, hi, attempt))

    def missing(self, batch: Batch, state: State) -> Iterator[int]:
        """The indices of those in the state that nothing will move."""
        if batch in self._whole:
            return
        parts = self._parts.get(batch, ())
        for lo, hi in list(batch.runs(0, batch.count, state)):
            for a, b, attempt in batch.attempt_runs(lo, hi):
                covered = RangeSet((c, d) for c, d, own in parts if own in (0, attempt))
                for c, d in covered.gaps(a, b):
                    yield from range(c, d)


class Watchdog:
    """``stuck`` has how many tasks are, by the name of their state, as of the last pass.

    ``due`` is when the next pass begins, or goes on.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.stuck: dict[str, int] = {}
        self._ledger = ledger
        self._walk: Iterator[None] | None = None
        self.due = 0.0
        self._suspects: Suspects = {}
        self._checked = 0  # what was decided when they were found

    def next_deadline(self) -> float:
        """When ``on_tick`` has something to look at."""
        return self.due if self._ledger.open_tasks or self._walk or self.stuck else NEVER

    def on_tick(self, now: float) -> None:
        """Look at the next slice, or begin a pass, if it is time."""
        if now < self.due:
            return
        if self._walk is None:
            self._walk = self._pass()
        for _ in self._walk:
            self.due = now + SLICE_SECONDS
            return
        self._walk = None
        self.due = now + self._ledger.settings.watch_seconds

    def _pass(self) -> Iterator[None]:
        """Find suspects; pauses after each slice."""
        ledger = self._ledger
        # While hosts of before may come back, what they hold is in nobody's lease.
        if ledger.recovering or ledger.committed < self._checked:
            self._suspects = {}
            self._checked = 0
            return
        suspects: Suspects = {}
        for looked, _ in enumerate(self._look(suspects), 1):
            if looked % SLICE == 0:
                yield
        self._judge(suspects)

    def _look(self, suspects: Suspects) -> Iterator[None]:
        """Compare tasks with what will move them; pauses after each thing."""
        ledger = self._ledger
        entries = ledger.queues.snapshot(), ledger.delays.snapshot()
        leases = [lease for host in ledger.hosts.all.values() for lease in host.leases.values()]
        ways = {state: _Ways() for state in WATCHED}
        for state, found in zip((State.QUEUED, State.SCHEDULED), entries, strict=True):
            for batch, lo, hi in found:
                ways[state].add(batch, lo, hi)
                yield
        for lease in leases:
            _add_lease(ways[State.LEASED], lease)
            yield
        for followers in list(ledger.keys.followers.values()):
            for batch in list(followers):
                ways[State.SCHEDULED].add(batch, 0, batch.count)
            yield
        for session in list(ledger.sessions.values()):
            for batch, _, _ in session.batches.overlap(0, COUNTER_MAX):
                if batch.open and not batch.gone:
                    _suspect(batch, ways, suspects)
                yield

    def _judge(self, suspects: Suspects) -> None:
        before, self._suspects = self._suspects, suspects
        self._checked = self._ledger.last_ref
        stuck = Counter(
            State(found[0]).name.lower()
            for task, found in suspects.items()
            if before.get(task) == found
        )
        if stuck and stuck != self.stuck:
            said = ", ".join(f"{count} {state}" for state, count in stuck.items())
            self._ledger.port.warn(
                f"tasks are stuck, which is a bug: {said}; `farm explain` says more, and a restart "
                "of the coordinator should move them"
            )
        self.stuck = dict(stuck)


def _add_lease(ways: _Ways, lease: Lease) -> None:
    if lease.adopted is None:
        ways.add(lease.batch, lease.lo, lease.hi, lease.attempt)
    else:
        for lo, hi in lease.adopted:
            ways.add(lease.batch, lo, hi, lease.attempt)


def _suspect(batch: Batch, ways: dict[State, _Ways], suspects: Suspects) -> None:
    for state in WATCHED:
        if state not in batch.states:
            continue
        for index in ways[state].missing(batch, state):
            if len(suspects) >= SUSPECTS_MAX:
                return
            suspects[batch, index] = int(state), batch.attempt(index)
