"""What a ready queue is made of: a lane for each priority, and in it a line for each session."""

from collections import deque
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING

from farm.core.batch import Batch

if TYPE_CHECKING:
    from farm.core.sessions import Session

__all__ = ["Entry", "Lane", "Line", "by_turns"]

Entry = tuple[Batch, int, int]
"""Tasks of a batch that are queued, or were: ``[lo, hi)``."""


class Line:
    """What one session has in a lane. ``deficit``: what is left of its turn.

    ``parked``: the payloads of its first entry are being read, and the others wait behind it.
    """

    __slots__ = ("deficit", "entries", "parked", "session")

    def __init__(self, session: "Session") -> None:
        self.session = session
        self.deficit = 0.0
        self.parked = False
        # One entry per submitted group or returned run: bounded by admission.
        self.entries: deque[Entry] = deque()


class Lane:
    """The lines of one priority; those in the ring in turn: the first is the one that is served."""

    __slots__ = ("lines", "oldest", "priority", "ring")

    def __init__(self, priority: int) -> None:
        self.priority = priority
        self.lines: dict[Session, Line] = {}
        self.ring: deque[Line] = deque()  # each of the lines that are not parked, once
        self.oldest: Line | None = None  # the one whose head waits longest, if it is known

    def entries(self) -> Iterator[Entry]:
        """All that waits here, in no order."""
        return chain.from_iterable(line.entries for line in self.lines.values())

    def line(self, turn_seconds: float) -> Line:
        """The line whose turn it is."""
        ring = self.ring
        line = ring[0]
        if len(ring) == 1:
            return line
        while line.deficit <= 0:  # less than a turn below: the next one makes up for it
            ring.rotate(-1)
            line = ring[0]
            line.deficit += turn_seconds
        return line

    def drop(self, line: Line, turn_seconds: float) -> None:
        """A line is empty; if it was its turn, that of the next has come, whoever joins now."""
        was_first = self.ring[0] is line
        self.ring.remove(line)
        del self.lines[line.session]
        if was_first and self.ring:
            self.ring[0].deficit += turn_seconds

    def since(self) -> float:
        """Since when the oldest of the heads has been waiting, be it stale."""
        if self.oldest is None:
            self.oldest = min(self.ring, key=since_of)
        return since_of(self.oldest)

    def popped(self, line: Line) -> None:
        """The head of a line is another one, which may have been away and be older."""
        oldest = self.oldest
        if oldest is line or (oldest is not None and since_of(line) < since_of(oldest)):
            self.oldest = None


def by_turns(lines: list[deque[Entry]]) -> Iterator[Entry]:
    """The first entry of each line, the second of each, and so on."""
    depth = 0
    while lines:
        for entries in lines:
            yield entries[depth]
        depth += 1
        lines = [entries for entries in lines if depth < len(entries)]


def since_of(line: Line) -> float:
    return line.entries[0][0].starts_at
