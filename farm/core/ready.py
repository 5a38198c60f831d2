"""What waits in one queue, in the order in which it goes.

A queue has a lane for each priority, and a lane has a line for each session. All hold
``(batch, lo, hi)`` runs, one entry for a whole submitted group as a rule, and are bounded by
admission. A task that is cancelled or expires leaves a stale entry behind, which is skipped when
it comes up; when stale tasks outnumber the others, entries are sorted out.

What no host can run now because of what it needs stands in nobody's way: see ``lines``.

- *Which lane*: the one whose oldest head has the smallest ``at - priority x ageing``: a task of
  a higher priority goes as if it had come that much earlier, so what waits long rises.
- *Which line of it*: deficit round robin, in seconds of expected work.
- *Within a line*: first come, first served.
"""

from bisect import insort
from collections import Counter, deque
from collections.abc import Collection, Iterator

from farm.core.batch import Batch
from farm.core.held import Held
from farm.core.lanes import NEVER, Entry, Lane, Line, ahead, by_turns, since
from farm.core.needs import Needs
from farm.model import State

__all__ = ["Entry", "ReadyQueue"]

STALE_MIN = 4096


class ReadyQueue:
    """The queued tasks of one queue.

    ``turn_seconds`` is the work of one session's turn. ``ageing_seconds``: who has waited so much
    longer goes before who has a priority that is greater by one.
    """

    def __init__(self, turn_seconds: float, ageing_seconds: float) -> None:
        self.turn_seconds = turn_seconds
        self.ageing_seconds = ageing_seconds
        self.blocked: Collection[Needs] = ()  # see ``Queues.block``
        self.needy: Counter[Needs] = Counter()  # how many entries need what, in lines
        self._lanes: dict[int, Lane] = {}
        self._order: list[int] = []  # negated priorities of the lanes with a ring, ascending
        self._at: tuple[Lane, Line, deque[Entry]] | None = None  # what ``head`` found
        self._shut: dict[Needs, dict[Line, Lane]] = {}  # lines that have that shut
        self._open: dict[Line, Lane] = {}  # those that may have tasks with needs, in turn
        self._stale = 0
        self._size = 0
        self._aside: list[Entry] = []
        self._parked: dict[Batch, tuple[Lane, Line]] = {}  # until their payloads are here
        self._held = Held(lambda entry: self.push(*entry, front=True))

    def push(self, batch: Batch, lo: int, hi: int, *, front: bool = False) -> None:
        """Add the queued tasks ``[lo, hi)``; those given back go to the front of their line."""
        priority = batch.template.priority
        lane = self._lanes.get(priority)
        if lane is None:
            lane = self._lanes[priority] = Lane(priority)
        line = lane.lines.get(batch.session)
        if line is None:
            line = lane.lines[batch.session] = Line(batch.session)
        line.add((batch, lo, hi), front=front)
        if batch.needs is not None:
            lane.mixed = True
            self._open[line] = lane
            self.needy[batch.needs] += 1
        if line.out and (line.parked is None or self._overtaken(line)):
            self._enter(lane, line)
        if front:
            lane.oldest = None
        self._size += hi - lo

    def head(self) -> Entry | None:
        """The next run that is really queued, or None."""
        while self._order:
            lane = self._lane()
            # What ended while it waited must not let others of its lane go for its age.
            if (oldest := lane.oldest) is not None:
                entries = self._front(lane, oldest)
                if entries is None:
                    lane.oldest = None
                elif self._first(lane, oldest, entries) is None:
                    continue
            line = lane.line(self.turn_seconds)
            entries = self._front(lane, line)
            if entries is None:
                self._step_out(lane, line)
            elif (entry := self._first(lane, line, entries)) is not None:
                return entry
        return None

    def needy_head(self) -> Entry | None:
        """The next run with needs that are not blocked, whoever's turn it is; None if none waits.

        For when nobody without needs can be placed: it changes nobody's turn.
        """
        age = self.ageing_seconds
        while self._open:
            best, found = NEVER, None
            for line, lane in list(self._open.items()):
                self._front(lane, line)
                entries = None if line.out else line.front(needy=True)
                if entries is None:
                    del self._open[line]
                elif (at := since(entries[0][0]) - lane.priority * age) < best:
                    best, found = at, (lane, line, entries)
            if found is not None and (entry := self._first(*found)) is not None:
                return entry
        return None

    def _first(self, lane: Lane, line: Line, entries: deque[Entry]) -> Entry | None:
        """The first run that is really queued of those entries; None, and an entry less, if not."""
        self._at = lane, line, entries
        entry = batch, lo, hi = entries[0]
        if batch.states.count(State.QUEUED, lo, hi) == hi - lo:  # as nearly always
            return entry
        run = next(batch.runs(lo, hi, State.QUEUED), None)
        if run is None:
            self._pop(lane, line, entries)
            self._drop_stale(hi - lo)
            self._held.free(batch)
            return None
        if run[0] > lo:
            entries[0] = (batch, run[0], hi)
            self._drop_stale(run[0] - lo)
        return batch, run[0], run[1]

    def _lane(self) -> Lane:
        """The lane whose turn it is."""
        if len(self._order) == 1:
            return self._lanes[-self._order[0]]
        age = self.ageing_seconds
        # Of two alike the first, which has the higher priority.
        ranked = (self._lanes[-negated] for negated in self._order)
        return min(ranked, key=lambda lane: lane.since() - lane.priority * age)

    def _front(self, lane: Lane, line: Line) -> deque[Entry] | None:
        """Where the entry of a line stands that goes next, if any may."""
        blocked = self.blocked
        if not blocked and not line.needy:  # as nearly always
            return line.entries or None
        for needs in line.shut_blocked(blocked):
            self._shut.setdefault(needs, {})[line] = lane
        return line.front()

    # ------------------------------------------------------------ the ring of a lane

    def _enter(self, lane: Lane, line: Line, *, first: bool = False) -> None:
        """Something of a line may be placed, as far as is known: it is the first, or the last."""
        line.out = False
        if line.needy:  # which was left out of account while the line was
            self._open[line] = lane
        if first:
            lane.ring.appendleft(line)
        else:
            if line.deficit > 0 and lane.ring:  # what is left of a turn, beside the one that comes
                line.deficit += self.turn_seconds
            lane.ring.append(line)
        lane.oldest = None
        if len(lane.ring) == 1:
            insort(self._order, -lane.priority)

    def _leave(self, lane: Lane, line: Line) -> None:
        """A line has nothing more, or nothing that may be placed."""
        lane.leave(line, self.turn_seconds)
        if not lane.ring:
            self._order.remove(-lane.priority)

    def _step_out(self, lane: Lane, line: Line) -> None:
        """Nothing of a line may be placed now: it keeps what is left of its turn."""
        line.deficit = min(line.deficit, self.turn_seconds)
        self._leave(lane, line)

    def unblock(self, needs: Needs) -> None:
        """Tasks with these needs may be placed again, be it before what their line waits for."""
        for line, lane in self._shut.pop(needs, {}).items():
            line.open(needs)
            if not line.empty:
                self._open[line] = lane
            if line.out and not line.empty and (line.parked is None or self._overtaken(line)):
                self._enter(lane, line)

    def _found(self) -> tuple[Lane, Line, deque[Entry]]:
        """Where the entry stands that ``head`` returned last."""
        if self._at is None:
            raise LookupError("nothing was asked for")
        return self._at

    def _pop(self, lane: Lane, line: Line, entries: deque[Entry]) -> Entry:
        """Remove the first of entries, and what is empty then."""
        entry = entries.popleft()
        if (needs := entry[0].needs) is not None:
            self._count_needy(needs)
        self._tidy(lane, line)
        return entry

    def _tidy(self, lane: Lane, line: Line) -> None:
        """An entry has left a line."""
        if line.needy or line.shut:
            line.forget_empty()
        if not line.empty:
            lane.popped(line)
            return
        if not line.out:
            self._leave(lane, line)
        del lane.lines[line.session]
        if not lane.lines:
            del self._lanes[lane.priority]

    def _count_needy(self, needs: Needs, change: int = -1) -> None:
        """Entries with such needs have left their line, or joined it."""
        self.needy[needs] += change
        if not self.needy[needs]:
            del self.needy[needs]

    def turn(self, cost: float) -> int | None:
        """How many tasks of this cost (seconds) the line of ``head`` may have; None: any number.

        At least one, which the next turn pays for if it is more than is left of this.
        """
        lane, line, _ = self._found()
        return None if len(lane.lines) == 1 else max(1, int(line.deficit / cost))

    def take(self, count: int, cost: float = 0.0) -> bool:
        """Remove the first ``count`` tasks of the run that ``head`` returned, for ``cost``.

        Whether any entry is left that could come up.
        """
        lane, line, entries = self._found()
        lane.pay(line, cost, self.turn_seconds)
        if self._open and line in self._open:  # others are next, if needs are all that can go
            self._open[line] = self._open.pop(line)
        batch, lo, hi = entries[0]
        if lo + count < hi:
            entries[0] = (batch, lo + count, hi)
        else:
            self._pop(lane, line, entries)
            if batch.template.concurrency_key:
                self._held.free(batch)
        self._size -= count
        return bool(self._order)

    def first_of(self, batch: Batch) -> Entry | None:
        """The first run of a batch that is really queued, wherever it stands."""
        if batch.template.concurrency_key:
            self._held.let_out(batch)
        lane = self._lanes.get(batch.template.priority)
        line = lane.lines.get(batch.session) if lane is not None else None
        for other, lo, hi in line.where(batch) if line is not None else ():
            if other is batch and (run := next(batch.runs(lo, hi, State.QUEUED), None)) is not None:
                return batch, *run
        return None

    def withdraw(self, batch: Batch, lo: int, hi: int) -> None:
        """Remove tasks of the run that ``first_of`` returned, before their turn has come."""
        lane = self._lanes[batch.template.priority]
        line = lane.lines[batch.session]
        rest = line.cut_out(batch, lo, hi)
        if batch.needs is not None:
            self._count_needy(batch.needs, rest - 1)
        self._size -= hi - lo
        self._tidy(lane, line)
        if not rest and batch.template.concurrency_key:
            self._held.free(batch)

    # ------------------------------------------------------------ what has to wait

    def set_aside(self, count: int) -> None:
        """Let the first ``count`` tasks of the run that ``head`` returned wait until ``resume``."""
        batch, lo, _ = self._found()[2][0]
        self.take(count)
        self._aside.append((batch, lo, lo + count))

    def resume(self) -> None:
        """What was set aside waits where it did."""
        aside, self._aside = self._aside, []
        for batch, lo, hi in reversed(aside):
            self.push(batch, lo, hi, front=True)

    def park(self) -> None:
        """The payloads of the run that ``head`` returned are not here: let its line wait."""
        lane, line, entries = self._found()
        line.parked = entries[0][0]
        self._leave(lane, line)
        self._parked[line.parked] = lane, line

    def _overtaken(self, line: Line) -> bool:
        """Whether a line waits no more for what it is parked for: something else is first now."""
        if line.parked is None or line.is_first(line.parked):
            return False
        del self._parked[line.parked]  # it is parked again when it comes up
        line.parked = None
        return True

    def arrived(self, batch: Batch) -> None:
        """The payloads of a batch are here: if its line waits for that, it is its turn again."""
        if batch in self._parked:
            lane, line = self._parked.pop(batch)
            line.parked = None
            self._enter(lane, line, first=True)

    def hold(self) -> None:
        """Let the entry that ``head`` found wait until its key is released."""
        entry = self._pop(*self._found())
        self._held.add(entry)
        self._size -= entry[2] - entry[1]

    def release(self, key: str) -> None:
        """The first of the entries that wait for a key waits where it did; others follow."""
        self._held.release(key)

    def release_all(self) -> None:
        """No key is at its most, as far as is known."""
        self._held.release_all()

    # ------------------------------------------------------------ stale entries

    def note_stale(self, count: int) -> None:
        """``count`` queued tasks ended while they waited."""
        self._stale += count
        if self._stale > STALE_MIN and self._stale * 2 > self._size:
            self._sort_out()

    def _drop_stale(self, count: int) -> None:
        self._size -= count
        self._stale = max(0, self._stale - count)

    def _sort_out(self) -> None:
        """Keep what is really queued, in its order."""
        self.release_all()
        lanes, self._lanes, self._order = self._lanes, {}, []
        self._shut.clear()
        self._open.clear()
        self.needy.clear()
        self._size = self._stale = 0
        self._parked.clear()  # they are parked again when they come up
        for lane in lanes.values():
            for line in (*lane.ring, *(one for one in lane.lines.values() if one.out)):
                for batch, lo, hi in line:
                    for a, b in batch.runs(lo, hi, State.QUEUED):
                        self.push(batch, a, b)

    # ------------------------------------------------------------ looking

    @property
    def empty(self) -> bool:
        """Whether nothing waits but for what limits the queue itself."""
        return not (self._lanes or self._aside)

    def __bool__(self) -> bool:
        """Whether any entry could come up, be it stale; none can that waits for payloads."""
        return bool(self._order)

    def upcoming(self) -> Iterator[Entry]:
        """Every entry, stale ones too, about in the order in which they come up.

        Of each line in turn. What waits for something else than a host is left out.
        """
        age = self.ageing_seconds
        yield from by_turns(line for _, line in self._parked.values())
        lanes = (self._lanes[-negated] for negated in self._order)
        for lane in sorted(lanes, key=lambda lane: lane.since() - lane.priority * age):
            yield from by_turns(lane.ring)

    def ahead(self, batch: Batch, index: int, entries_max: int) -> int | None:
        """About how many queued tasks go before this one; None if it does not wait here."""
        found = ahead(self._lanes, batch, index, entries_max)
        return self._held.ahead(batch, index) if found is None else found

    def snapshot(self) -> list[Entry]:
        """Every entry, stale ones too, in no order."""
        found = [*self._aside, *self._held]
        for lane in self._lanes.values():
            found += lane.entries()
        return found

    def __iter__(self) -> Iterator[Entry]:
        """Every run that is really queued, in no order."""
        for batch, lo, hi in self.snapshot():
            for a, b in batch.runs(lo, hi, State.QUEUED):
                yield batch, a, b
