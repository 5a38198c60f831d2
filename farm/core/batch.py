"""A batch: the tasks of one submitted group, kept together while they live alike.

One byte per task holds its state, so that a transition of a run of tasks is one slice
assignment. A task gets a ``Divergence`` only when its attempts differ from those of its siblings:
a retry, a loss, a give-back, an adoption.
"""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from farm.core.blobs import names_in
from farm.core.divergence import Divergence, alike
from farm.core.finder import Finder
from farm.core.needs import needs_of
from farm.core.states import TRANSITIONS, Event
from farm.core.stored import Held, inline_bytes
from farm.model import BLOB_BYTES, Blob, State
from farm.protocol.messages import Failure, Group, Result, Template
from farm.protocol.parts import Payload
from farm.ranges import RangeSet

if TYPE_CHECKING:
    from farm.core.hosts import Lease
    from farm.core.jobs import Job
    from farm.core.queue import Queue
    from farm.core.rows import Row
    from farm.core.sessions import Session

__all__ = ["DEFAULTS", "SETTLED", "Batch", "Outcome", "start_of"]

SETTLED = 15
"""Above the final states: the outcome was taken by its owner, or dropped at the end of its time."""

ERROR_CHARS_MAX = 500
"""What is kept of an error's text after its outcome has been taken."""

DEFAULTS = Template()

_SCHEDULED, _QUEUED = bytes((State.SCHEDULED,)), bytes((State.QUEUED,))
_STATES = tuple(State)  # making them anew by number costs more than all else in a move
_RUNS = {state: re.compile(b"%c+" % state) for state in (*State, SETTLED)}
_UNSETTLED = re.compile(b"[^%c]+" % SETTLED)


class Outcome:
    """The outcome of a run of a batch's tasks.

    ``result`` holds the payloads while they are resident; otherwise the record ``ref`` does, in
    its entry ``entry``. An outcome that is not durable has ``ref`` 0 and stays resident. Of the
    evidence in ``failure`` only the record has the long parts. ``host``, ``seconds``, ``at``,
    ``attempt`` and ``error`` say where it ran, for how long, when it ended (monotonic), as which
    attempt, and what went wrong. ``remembered``: the history has it. ``blobs`` names the files of
    payloads, ``inline_bytes`` is what the others have. ``holders``: for how many deliveries it is
    kept in memory.
    """

    __slots__ = (
        "at", "attempt", "batch", "blobs", "count", "ending", "entry", "error", "failure", "first",
        "holders", "host", "inline_bytes", "ref", "remembered", "result", "seconds", "size",
    )  # fmt: skip

    def __init__(self, batch: "Batch | None", result: Result, ref: int, entry: int) -> None:
        self.batch = batch  # None: of a task that the farm does not know any more
        self.first = result.first
        self.count = result.count
        self.ending = result.ending
        self.size = self.inline_bytes = result.size
        if result.output or result.failure is not None:
            self.size = self.inline_bytes = result.size + len(result.printed)
        self.blobs: list[str] = []
        self.failure = result.failure
        self.ref = ref
        self.entry = entry
        self.result: Result | None = result
        self.host = ""
        self.seconds = 0.0
        self.at = 0.0
        self.attempt = 1
        self.error = "" if result.failure is None else _error_text(result.failure)
        self.remembered = False
        self.holders = 0
        if result.size >= BLOB_BYTES:
            self.blobs = names_in(result.payloads)
            self.inline_bytes -= sum(len(one) for one in result.payloads if isinstance(one, Blob))


def _error_text(failure: Failure) -> str:
    """What went wrong, in a line that need not be short."""
    text = f"{failure.type_name}: {failure.message}" if failure.type_name else failure.message
    return (text or failure.cause)[:ERROR_CHARS_MAX]


def start_of(template: Template, at: float, wall_offset: float = 0.0) -> float:
    """When tasks that were accepted at a time may first run."""
    if template.eta is not None:
        return max(at, template.eta - wall_offset)
    return at + (template.delay or 0.0)


class Batch:
    """The tasks ``[first, stop)`` of a session.

    ``durable``: the journal has it. ``runs_once``: its tasks may never run twice, whatever dies.
    ``units``: how many tasks this counts as against bounds and credit.
    """

    __slots__ = (
        "at", "cancelling", "count", "diverged", "dropped", "durable", "expires_at", "fence",
        "finder", "finished_at", "first", "function", "gone", "held", "inline", "job", "keys",
        "leases", "needs", "open", "outcomes", "owner", "packed", "payloads", "pinned", "queue",
        "result_bytes", "row",
        "runs_once", "same", "session", "settled", "size", "start", "starts_at", "states", "stop",
        "stopped", "stopping", "stored", "suspended", "template", "tried", "units",
        "unread_bytes", "watchers",
    )  # fmt: skip

    def __init__(
        self,
        session: "Session",
        group: Group,
        job: "Job | None",
        queue: "Queue",
        at: float,
        wall_offset: float = 0.0,
        owner: str = "",
    ) -> None:
        self.session = session
        self.owner = owner  # whose its tasks are: the name of a key, empty where there are none
        self.queue = queue
        self.first = group.first
        self.count = group.count
        self.stop = group.first + group.count
        self.function = group.function
        # Its own: the record of them is never changed.
        self.payloads: list[Held] = list(group.payloads)
        self.stored = False  # their bytes are in the store alone
        self.pinned = False  # their bytes have to be in memory
        self.size = group.size
        self.inline = 0  # of it, what its open tasks have that is in no blob
        self.packed = group.packed
        self.units = 1 if group.packed else group.count
        self.start = group.start
        self.template = template = group.template or DEFAULTS
        self.needs = None if template is DEFAULTS else needs_of(template)
        self.durable = template.durable
        self.runs_once = template.max_losses == 0 and template.durable and group.same is None
        self.job = job
        self.at = at
        self.keys = group.keys
        self.held = 0  # idempotency keys that are theirs: as long as that, outcomes are kept
        self.same = group.same  # (session, first) of the tasks that have their keys, if others have
        self.starts_at = at if template is DEFAULTS else start_of(template, at, wall_offset)
        waits = self.starts_at > at or self.same is not None
        self.states = bytearray((_SCHEDULED if waits else _QUEUED) * group.count)
        self.open = group.count
        self.settled = 0
        self.fence = 0
        self.row: Row | None = None
        self.leases: dict[Lease, None] | None = None  # those that hold any of its tasks
        self.diverged: dict[int, Divergence] = {}
        self.outcomes: list[Outcome] = []
        self.finder: Finder | None = None  # of these, once somebody has looked for any
        self.result_bytes = 0  # of the outcomes that are kept
        self.unread_bytes = 0  # of those that their owner has not taken, or not all of
        self.dropped = False  # its results, taken long ago, were given up for room
        self.watchers: dict[Session, RangeSet] = {}  # readers, and the indices they asked for
        self.cancelling: dict[int, None] = {}  # an empty set would be thrice as large
        self.tried = group.tried  # any of its tasks may have begun, and nobody here knows
        self.stopped: dict[int, None] = {}  # cancelled, but not before one of their attempts
        self.stopping: dict[int, float] = {}  # to be cancelled however they end, and their grace
        self.suspended: RangeSet | None = (
            None  # until recovery is over: those that may run somewhere
        )
        self.finished_at: float | None = None  # when its last outcome was published
        self.gone = False  # forgotten: its time, or its owner's interest, is over
        self.expires_at: float | None = None

    @property
    def other_owner(self) -> str:
        """Whose it is, if not whose its session is; else empty."""
        return "" if self.owner == self.session.owner else self.owner

    @property
    def is_kept(self) -> bool:
        """Whether its outcomes stay readable for their time even when their owner has them."""
        if self.held:
            return True
        if self.dropped:
            return False
        return self.template.result_ttl is not None or (
            self.job is not None and bool(self.job.name)
        )

    def move(self, lo: int, hi: int, event: Event) -> State:
        """Apply an event to the tasks ``[lo, hi)``, which are all in one state; the new state."""
        before = _STATES[self.states[lo]]
        after = TRANSITIONS[before, event]
        if self.states.count(before, lo, hi) != hi - lo:
            raise ValueError(f"tasks {lo} to {hi} are not all {before.name}")
        self.states[lo:hi] = bytes((after,)) * (hi - lo)
        if after >= State.SUCCEEDED:
            self.open -= hi - lo
            self._release(lo, hi)
        return after

    def restore_final(self, lo: int, hi: int, state: State) -> None:
        """Set the state of tasks whose outcome is in the journal."""
        self.open -= hi - lo
        self.states[lo:hi] = bytes((state,)) * (hi - lo)
        self._release(lo, hi)

    def _release(self, lo: int, hi: int) -> None:
        """Let go of what finished tasks no longer need."""
        if not self.open:
            self.payloads = []
            self.diverged = {}
        elif not self.packed:
            self.payloads[lo:hi] = [b""] * (hi - lo)
        if self.open and self.diverged:
            for index in range(lo, hi):
                self.diverged.pop(index, None)
        if self.stopping:
            for index in range(lo, hi):
                self.stopping.pop(index, None)

    def bytes_of(self, lo: int, hi: int) -> int:
        """The payload bytes that are freed if the tasks ``[lo, hi)`` end now."""
        if self.packed:
            return self.size if self.open == hi - lo else 0
        return sum(map(len, self.payloads[lo:hi]))

    def inline_of(self, lo: int, hi: int, size: int) -> int:
        """What of these ``bytes_of`` the tasks ``[lo, hi)`` is in no blob."""
        if not size or self.size < BLOB_BYTES:
            return size
        return inline_bytes(self.payloads if self.packed else self.payloads[lo:hi])

    def payloads_of(self, lo: int, hi: int) -> list[Payload]:
        """What the tasks ``[lo, hi)`` are called with, which has to be in memory."""
        found: list[Any] = self.payloads if self.packed else self.payloads[lo:hi]
        return found

    def blobs_of(self, lo: int, hi: int) -> list[str]:
        """The blobs that nothing needs any more when the tasks ``[lo, hi)`` have ended."""
        if self.size < BLOB_BYTES:
            return []
        if self.packed:
            return names_in(self.payloads) if self.open == hi - lo else []
        return names_in(self.payloads[lo:hi])

    def units_of(self, lo: int, hi: int) -> int:
        """How many tasks are freed if ``[lo, hi)`` end now."""
        return int(self.open == hi - lo) if self.packed else hi - lo

    def runs(self, lo: int, hi: int, state: int) -> Iterator[tuple[int, int]]:
        """The runs of ``[lo, hi)`` that are in a state, in order."""
        if self.states.count(state, lo, hi) == hi - lo:
            if lo < hi:
                yield lo, hi
            return
        for match in _RUNS[state].finditer(self.states, lo, hi):
            yield match.span()

    def unsettled(self, lo: int, hi: int) -> Iterator[tuple[int, int]]:
        """The runs of ``[lo, hi)`` that are not settled, in order."""
        for match in _UNSETTLED.finditer(self.states, lo, hi):
            yield match.span()

    def attempt_runs(self, lo: int, hi: int) -> Iterator[tuple[int, int, int]]:
        """``[lo, hi)`` cut into runs of equal attempt: ``(lo, hi, attempt)``."""
        if not self.diverged:
            yield lo, hi, 1
            return
        at = lo
        while at < hi:
            attempt = self.attempt(at)
            end = at + 1
            while end < hi and self.attempt(end) == attempt:
                end += 1
            yield at, end, attempt
            at = end

    def tried_runs(self, lo: int, hi: int) -> list[tuple[int, int, bool]]:
        """``[lo, hi)`` cut into runs of which an attempt may have begun, and others."""
        if self.tried or not self.diverged:
            return [(lo, hi, self.tried)]
        found: list[tuple[int, int, bool]] = []
        for index in range(lo, hi):
            own = self.diverged.get(index)
            tried = own is not None and own.tried
            if found and found[-1][2] == tried:
                found[-1] = (found[-1][0], index + 1, tried)
            else:
                found.append((index, index + 1, tried))
        return found

    def mark_stopping(self, lo: int, hi: int, grace: float) -> RangeSet:
        """Those of ``[lo, hi)`` that have not ended are to be stopped, within the least grace.

        Returns of which that is news: they were not to be, or not so soon.
        """
        news = RangeSet()
        for index in range(lo, hi):
            before = self.stopping.get(index)
            sooner = before is None or grace < before
            if sooner and self.states[index] < State.SUCCEEDED:
                self.stopping[index] = grace
                news.add(index, index + 1)
        return news

    def stopping_runs(self, lo: int, hi: int) -> list[tuple[int, int, float | None]]:
        """``[lo, hi)`` cut into runs of tasks to be stopped, with their grace, and of others."""
        if not self.stopping:
            return [(lo, hi, None)]
        found: list[tuple[int, int, float | None]] = []
        for index in range(lo, hi):
            grace = self.stopping.get(index)
            if found and found[-1][2] == grace:
                found[-1] = (found[-1][0], index + 1, grace)
            else:
                found.append((index, index + 1, grace))
        return found

    def attempt(self, index: int) -> int:
        """The number of the current or next attempt of a task."""
        diverged = self.diverged.get(index)
        return diverged.attempt if diverged else 1

    def fence_of(self, index: int) -> int:
        """The lowest epoch whose tokens count for a task."""
        diverged = self.diverged.get(index)
        return diverged.fence if diverged else self.fence

    def diverge(self, index: int) -> Divergence:
        """What is special about the attempts of a task, its own to be changed."""
        found = self.diverged.get(index)
        if found is None:
            found = self.diverged[index] = Divergence(self.fence)
        elif found.shared:
            found = self.diverged[index] = found.copied(shared=False)
        return found

    def diverge_runs(self, lo: int, hi: int) -> Iterator[tuple[int, int, Divergence]]:
        """The same of ``[lo, hi)``, in runs: each has one in common, which is only theirs."""
        for a, b, found in list(alike(self.diverged, lo, hi)):
            if b - a == 1:
                yield a, b, self.diverge(a)
                continue
            own = Divergence(self.fence) if found is None else found.copied(shared=True)
            own.shared = True
            self.diverged.update(dict.fromkeys(range(a, b), own))
            yield a, b, own

    def settle(self, lo: int, hi: int) -> int:
        """Mark finished tasks as taken; how many were not before."""
        fresh = hi - lo - self.states.count(SETTLED, lo, hi)
        self.states[lo:hi] = bytes((SETTLED,)) * (hi - lo)
        self.settled += fresh
        return fresh

    def is_taken(self, outcome: Outcome) -> bool:
        """Whether the owner has all of an outcome that is about tasks of this batch."""
        first = outcome.first - self.first
        lo, hi = max(0, first), min(self.count, first + outcome.count)
        return self.states.count(SETTLED, lo, hi) == hi - lo

    def outcome(self, index: int) -> Outcome | None:
        """The outcome of a finished task, if it is still known."""
        counter = self.first + index
        return next(iter(self.outcomes_of(counter, counter + 1)), None)

    def outcomes_of(self, first: int, stop: int) -> list[Outcome]:
        """Those about any of the tasks with the counters ``[first, stop)``, as they came."""
        self.finder = self.finder or Finder()
        return self.finder.find(self.outcomes, first, stop)

    def group(self, lo: int, hi: int) -> Group:
        """The tasks ``[lo, hi)`` as they were submitted, under their counters."""
        payloads = list(self.payloads_of(lo, hi))
        if not payloads:  # all finished: only the outcomes matter now
            payloads = [b""] * (1 if self.packed else hi - lo)
        return Group(
            self.first + lo,
            hi - lo,
            self.function,
            payloads,
            sum(map(len, payloads)),
            self.packed,
            self.start + lo,
            self.job.number if self.job else 0,
            self.template,
            self.tried,
            self.keys[lo:hi],
            None if self.same is None else (self.same[0], self.same[1] + lo),
        )
