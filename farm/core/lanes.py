"""What one client has waiting at one priority, and the turns of such lines.

A line holds ``(batch, lo, hi)`` runs. Those that need nothing but a slot are in one deque, as
nearly always all are; each kind of needs has a deque of its own, so that what no host can run now
stands in nobody's way. A deque whose needs are *blocked* is *shut* until they are not any more,
and a line of which nothing can be placed leaves the ring of its lane, and keeps what is left of its
turn.
"""

from collections import deque
from collections.abc import Container, Iterable, Iterator, Mapping
from itertools import chain, islice
from operator import itemgetter
from typing import TYPE_CHECKING

from farm.core.batch import Batch
from farm.model import State

if TYPE_CHECKING:
    from farm.core.needs import Needs
    from farm.core.sessions import Session

__all__ = ["NEVER", "Entry", "Lane", "Line", "ahead", "by_turns", "since"]

Entry = tuple[Batch, int, int]
KINDS_MAX = 64
"""So many kinds of needs of one line are compared to find which task came first."""
NEVER = float("inf")
"""Since when nothing has been waiting."""


def since(batch: Batch) -> float:
    """Since when a batch's tasks have been waiting."""
    return batch.starts_at


def _order(batch: Batch) -> tuple[float, int]:
    """First come, first served, among batches of one session."""
    return since(batch), batch.first


class Line:
    """What one session has in a lane. ``deficit``: what is left of its turn.

    ``out``: it is not in the ring of its lane. ``parked``: the batch of the entry that came up, if
    its payloads are being read, and the others wait behind it.
    """

    __slots__ = ("deficit", "entries", "needy", "out", "parked", "session", "shut")

    def __init__(self, session: "Session") -> None:
        self.session = session
        self.deficit = 0.0
        self.out = True
        self.parked: Batch | None = None
        # One entry per submitted group or returned run: bounded by admission.
        self.entries: deque[Entry] = deque()
        self.needy: dict[Needs, deque[Entry]] = {}
        self.shut: dict[Needs, deque[Entry]] = {}

    @property
    def empty(self) -> bool:
        """Whether nothing waits in it."""
        return not (self.entries or self.needy or self.shut)

    def add(self, entry: Entry, *, front: bool) -> None:
        """An entry waits, behind the others that need the same or before them."""
        needs, entries = entry[0].needs, self.entries
        if needs is not None:
            known = self.shut.get(needs) or self.needy.get(needs)
            entries = self.needy.setdefault(needs, deque()) if known is None else known
        if front:
            entries.appendleft(entry)
        else:
            entries.append(entry)

    def where(self, batch: Batch) -> deque[Entry]:
        """Where entries of a batch stand."""
        if batch.needs is None:
            return self.entries
        return self.shut.get(batch.needs) or self.needy.get(batch.needs) or deque()

    def cut_out(self, batch: Batch, lo: int, hi: int) -> int:
        """Remove tasks from the entry that has them; how many entries are left of it."""
        entries = self.where(batch)
        at, (_, first, stop) = next(
            (at, entry)
            for at, entry in enumerate(entries)
            if entry[0] is batch and entry[1] <= lo < entry[2]
        )
        del entries[at]
        rest = [(batch, a, b) for a, b in ((first, lo), (hi, stop)) if a < b]
        for entry in reversed(rest):
            entries.insert(at, entry)
        return len(rest)

    def forget_empty(self) -> None:
        """What nothing waits for any more is no kind of needs of this line."""
        for kinds in (self.needy, self.shut):
            for needs in [one for one, entries in kinds.items() if not entries]:
                del kinds[needs]

    def shut_blocked(self, blocked: "Container[Needs]") -> "list[Needs]":
        """Shut what is blocked; the needs of which that is news."""
        found = [needs for needs in self.needy if needs in blocked]
        for needs in found:
            self.shut[needs] = self.needy.pop(needs)
        return found

    def open(self, needs: "Needs") -> None:
        """Needs are not blocked any more."""
        if needs in self.shut:
            self.needy[needs] = self.shut.pop(needs)

    def front(self, *, needy: bool = False) -> deque[Entry] | None:
        """Where the entry stands that came first; ``needy``: of those with needs."""
        best = self.entries if self.entries and not needy else None
        for entries in islice(self.needy.values(), KINDS_MAX):
            if best is None or _order(entries[0][0]) < _order(best[0][0]):
                best = entries
        return best

    def is_first(self, batch: Batch) -> bool:
        """Whether nothing that is not shut goes before a batch of this line."""
        entries = self.front()
        return entries is None or entries[0][0] is batch

    def __iter__(self) -> Iterator[Entry]:
        if not (self.needy or self.shut):
            return iter(self.entries)
        return chain(self.entries, *self.needy.values(), *self.shut.values())


def by_turns(lines: Iterable[Line]) -> Iterator[Entry]:
    """The first entry of each line that is not shut, the second of each, and so on."""
    turns = deque(chain(line.entries, *line.needy.values()) for line in lines)
    while turns:
        entry = next(turns[0], None)
        if entry is None:
            turns.popleft()
        else:
            yield entry
            turns.rotate(-1)


class Lane:
    """The lines of one priority, in turn: the first of the ring is the one that is served.

    ``mixed``: tasks with needs have been among them.
    """

    __slots__ = ("lines", "mixed", "oldest", "priority", "ring")

    def __init__(self, priority: int) -> None:
        self.priority = priority
        self.mixed = False
        self.lines: dict[Session, Line] = {}
        self.ring: deque[Line] = deque()  # those of the lines of which something may be placed
        self.oldest: Line | None = None  # the one whose head waits longest, if it is known

    def entries(self) -> Iterator[Entry]:
        """All of all lines."""
        return chain.from_iterable(self.lines.values())

    def line(self, turn_seconds: float) -> Line:
        """The line whose turn it is."""
        ring = self.ring
        line = ring[0]
        if len(ring) == 1:
            return line
        while line.deficit <= 0:  # less than a turn below: the next one makes up for it
            ring.rotate(-1)
            line = ring[0]
            if line.deficit <= 0:  # else it is in the middle of its turn, and others came before it
                line.deficit += turn_seconds
        return line

    def pay(self, line: Line, cost: float, turn_seconds: float) -> None:
        """A line was served; if there are others, be they out, it owes for that, a turn at most."""
        alone = len(self.lines) == 1
        line.deficit = 0.0 if alone else max(line.deficit - cost, -turn_seconds)

    def leave(self, line: Line, turn_seconds: float) -> None:
        """A line leaves the ring; if it was its turn, the next's has come, whoever joins now.

        Unless the next is in the middle of its own: the line has come before it for its payloads.
        """
        was_first = self.ring[0] is line
        self.ring.remove(line)
        line.out = True
        if self.oldest is line:
            self.oldest = None
        if was_first and self.ring and self.ring[0].deficit <= 0:
            self.ring[0].deficit += turn_seconds

    def since(self) -> float:
        """Since when the oldest of the heads has been waiting, be it stale."""
        if self.mixed:
            heads = [(line, line.front()) for line in self.ring]
            ages = [(since(entries[0][0]), line) for line, entries in heads if entries]
            age, self.oldest = min(ages, key=itemgetter(0), default=(NEVER, None))
            return age
        if self.oldest is None:
            self.oldest = min(self.ring, key=_head_since)
        return _head_since(self.oldest)

    def popped(self, line: Line) -> None:
        """The head of a line is another one, which may have been away and be older."""
        oldest = self.oldest
        if oldest is None:
            return
        if self.mixed or oldest is line or _head_since(line) < _head_since(oldest):
            self.oldest = None


def _head_since(line: Line) -> float:
    return since(line.entries[0][0])


def ahead(lanes: Mapping[int, Lane], batch: Batch, index: int, entries_max: int) -> int | None:
    """About how many queued tasks go before this one, of lanes by priority; None if it is in none.

    Counts no further than ``entries_max`` entries. Sessions take turns, so of those of another as
    many go first as of its own.
    """
    found = 0
    for _, lane in sorted(lanes.items(), reverse=True):
        own, others, here = 0, 0, False
        for other, lo, hi in lane.entries():
            entries_max -= 1
            if entries_max < 0:
                break
            if other is batch and lo <= index < hi:
                own += batch.states.count(State.QUEUED, lo, index)
                here = True
            elif other.session is not batch.session:
                others += other.states.count(State.QUEUED, lo, hi)
            elif not here:
                own += other.states.count(State.QUEUED, lo, hi)
        if here:
            return found + own + min(others, own * (len(lane.lines) - 1))
        found += own + others
        if entries_max < 0:
            return found
    return None
