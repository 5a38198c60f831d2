"""What is remembered of tasks that are gone: how they ended, when and where; no payloads.

Memories are kept in the journal, many to a record (a *page*), and read back when somebody asks.
In memory is only which page speaks of which tasks. Small pages are joined, so that a farm that
ends one task now and then has no page for each. What is too old, or too much, goes, the oldest
page first.
"""

from collections import deque
from collections.abc import Iterator

from farm.core.batch import Batch, Outcome
from farm.core.ledger import Ledger
from farm.errors import ProtocolError
from farm.protocol.parts import TaskRun
from farm.protocol.records import Memory, Remembered, decode_memories, encode_memories

__all__ = ["History", "Page"]

PAGE_ROWS = 512
"""A page of fewer memories is joined with its neighbours."""
PAGE_ROWS_MAX = 4096
SMALL_PAGES_MAX = 32
"""How many small pages may gather before they are joined."""
ALIKE_SECONDS = 1.0
"""Tasks side by side that ended alike, within so long, are one memory."""


class Page:
    """One ``Remembered`` record."""

    __slots__ = ("at", "ref", "rows", "runs", "size")

    def __init__(self, ref: int, record: Remembered, at: float) -> None:
        self.ref = ref
        self.at = at  # when the last of its tasks ended, monotonic
        self.rows = record.rows
        self.size = len(record.memories)
        self.runs = record.runs

    def may_know(self, session: bytes, counter: int) -> bool:
        """Whether it may speak of a task."""
        return any(s == session and a <= counter < a + n for s, a, n in self.runs)


class History:
    """The pages, oldest first, and what has not been written to one yet."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.pages: deque[Page] = deque()  # bounded by history_rows and history_bytes
        self.rows = 0
        self.size = 0
        # The memories of the last pages, as long as they are small: at most SMALL_PAGES_MAX.
        self._small: list[tuple[Page, bytes]] = []
        self._new: list[Memory] = []  # of this turn

    # ------------------------------------------------------------ remembering

    @property
    def waiting(self) -> bool:
        """Whether there is something to write."""
        return bool(self._new)

    def remember(self, batch: Batch, outcomes: list[Outcome]) -> None:
        """Outcomes of a batch are about to be forgotten."""
        if len(outcomes) > 1:
            outcomes = sorted(outcomes, key=lambda one: one.first)
        for outcome in outcomes:
            if outcome.remembered:
                continue
            outcome.remembered = True
            last = self._new[-1] if self._new else None
            memory = self._memory(batch, outcome)
            if last is not None and _continues(last, memory):
                last.count += memory.count
                last.started = min(last.started, memory.started)
                last.ended = max(last.ended, memory.ended)
            else:
                self._new.append(memory)

    def _memory(self, batch: Batch, outcome: Outcome) -> Memory:
        ledger, job, offset = self._ledger, batch.job, self._ledger.wall_offset
        return Memory(
            batch.session.id,
            outcome.first,
            outcome.count,
            outcome.ending,
            batch.at + offset,
            outcome.at - outcome.seconds + offset if outcome.host else 0.0,
            outcome.at + offset,
            ledger.functions.name(batch.function),
            outcome.host,
            outcome.error,
            job.id if job is not None else "",
            job.name if job is not None else "",
            outcome.attempt,
            batch.owner,
        )

    def flush(self, now: float) -> list[int]:
        """Write what was gathered; the refs of pages that may be deleted after that."""
        new, self._new = self._new, []
        gone: list[int] = []
        if len(new) < PAGE_ROWS and len(self._small) >= SMALL_PAGES_MAX:
            gone, before = self._take_small()
            new = before + new
        for at in range(0, len(new), PAGE_ROWS_MAX):
            part = new[at : at + PAGE_ROWS_MAX]
            ended = max(memory.ended for memory in part)
            record = Remembered(ended, len(part), _runs(part), encode_memories(part))
            self._add(self._ledger.persist(record), record, now)
        return gone + self._keep_within_bounds(now)

    def _take_small(self) -> tuple[list[int], list[Memory]]:
        """The small pages, to be written anew as one."""
        small, self._small = self._small, []
        joined = {page.ref for page, _ in small}
        for page, _ in small:
            self._forget(page)
        self.pages = deque(page for page in self.pages if page.ref not in joined)
        memories = [memory for _, data in small for memory in self.read(data)]
        return [page.ref for page, _ in small], memories

    def restore(self, ref: int, record: Remembered, now: float) -> None:
        """A page of the journal; they come in order."""
        self._add(ref, record, now)

    def _add(self, ref: int, record: Remembered, now: float) -> None:
        # A wall clock that was set back must not keep it for longer.
        page = Page(ref, record, min(now, self._ledger.monotonic(record.at)))
        self.pages.append(page)
        self.rows += page.rows
        self.size += page.size
        if page.rows >= PAGE_ROWS:
            self._small = []
        elif len(self._small) < SMALL_PAGES_MAX:
            self._small.append((page, record.memories))
        else:
            self._small = [(page, record.memories)]

    def _forget(self, page: Page) -> None:
        self.rows -= page.rows
        self.size -= page.size

    def _keep_within_bounds(self, now: float) -> list[int]:
        settings = self._ledger.settings
        gone: list[int] = []
        while self.pages:
            page = self.pages[0]
            is_old = now >= page.at + settings.history_ttl
            fits = self.rows <= settings.history_rows and self.size <= settings.history_bytes
            if fits and not is_old:
                break
            if not is_old:
                self._ledger.counters["history_dropped"] += page.rows
                self._ledger.port.warn(
                    "the history is full: the oldest endings of tasks are forgotten before "
                    "their time; history_rows and history_bytes say how many are kept"
                )
            self.pages.popleft()
            self._small = [one for one in self._small if one[0] is not page]
            self._forget(page)
            gone.append(page.ref)
        return gone

    # ------------------------------------------------------------ looking

    def read(self, memories: bytes) -> list[Memory]:
        """The memories of a page; none if it is damaged, which is counted."""
        try:
            return decode_memories(memories)
        except ProtocolError:
            self._ledger.counters["damaged_history"] += 1
            return []

    def about(self, session: bytes, counter: int) -> Iterator[Page]:
        """The pages that may speak of a task, the newest first."""
        return (page for page in reversed(self.pages) if page.may_know(session, counter))


def _continues(last: Memory, memory: Memory) -> bool:
    return (
        last.submitted == memory.submitted  # what most often differs
        and last.session == memory.session
        and last.first + last.count == memory.first
        and abs(memory.ended - last.ended) < ALIKE_SECONDS
        and (last.ending, last.function, last.host, last.error, last.job)
        == (memory.ending, memory.function, memory.host, memory.error, memory.job)
        and (last.attempt, last.owner) == (memory.attempt, memory.owner)
    )


def _runs(memories: list[Memory]) -> list[TaskRun]:
    """One run a session that covers all of its tasks here."""
    found: dict[bytes, tuple[int, int]] = {}
    for memory in memories:
        a, b = found.get(memory.session, (memory.first, memory.first))
        found[memory.session] = min(a, memory.first), max(b, memory.first + memory.count)
    return [(session, a, b - a) for session, (a, b) in found.items()]
