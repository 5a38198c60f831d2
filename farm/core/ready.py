"""What waits in one queue, in the order in which it goes.

A queue has a lane for each priority, and a lane has a line for each session. All hold
``(batch, lo, hi)`` runs, one entry for a whole submitted group as a rule, and are bounded by
admission. A task that is cancelled or expires leaves a stale entry behind, which is skipped when
it comes up; when stale tasks outnumber the others, entries are sorted out.

- *Which lane*: the one whose oldest head has the smallest ``at - priority x ageing``: a task of
  a higher priority goes as if it had come that much earlier, so what waits long rises.
- *Which line of it*: deficit round robin, in seconds of expected work.
- *Within a line*: first come, first served.
"""

from bisect import insort
from collections import deque
from collections.abc import Iterator

from farm.core.batch import Batch
from farm.core.lanes import Entry, Lane, Line, by_turns
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
        self._lanes: dict[int, Lane] = {}
        self._order: list[int] = []  # negated priorities of the lanes with a ring, ascending
        self._stale = 0
        self._size = 0
        self._aside: list[Entry] = []
        self._parked: dict[Batch, tuple[Lane, Line]] = {}  # until their payloads are here
        self._held: dict[str, deque[Entry]] = {}  # by a key that is at its most
        self._released: dict[str, Batch] = {}  # by key: that of the entry that may try again

    def push(self, batch: Batch, lo: int, hi: int, *, front: bool = False) -> None:
        """Add the queued tasks ``[lo, hi)``; those given back go to the front of their line."""
        priority = batch.template.priority
        lane = self._lanes.get(priority)
        if lane is None:
            lane = self._lanes[priority] = Lane(priority)
        line = lane.lines.get(batch.session)
        if line is None:
            line = lane.lines[batch.session] = Line(batch.session)
            self._serve(lane, line)
        if front:
            line.entries.appendleft((batch, lo, hi))
            lane.oldest = None
        else:
            line.entries.append((batch, lo, hi))
        self._size += hi - lo

    def _serve(self, lane: Lane, line: Line, *, first: bool = False) -> None:
        """A line joins the ring of its lane: as the first, or the last."""
        if not lane.ring:
            insort(self._order, -lane.priority)
        if first:
            lane.ring.appendleft(line)
        else:
            lane.ring.append(line)
        lane.oldest = None

    def head(self) -> Entry | None:
        """The next run that is really queued, or None."""
        while self._order:
            lane = self._lane()
            # What ended while it waited must not let others of its lane go for its age.
            if lane.oldest is not None and self._first(lane, lane.oldest) is None:
                continue
            entry = self._first(lane, lane.line(self.turn_seconds))
            if entry is not None:
                return entry
        return None

    def _first(self, lane: Lane, line: Line) -> Entry | None:
        """The first run of a line that is really queued; None, and an entry less, if none is."""
        batch, lo, hi = line.entries[0]
        run = next(batch.runs(lo, hi, State.QUEUED), None)
        if run is None:
            self._pop(lane, line)
            self._drop_stale(hi - lo)
            self._free(batch)
            return None
        if run[0] > lo:
            line.entries[0] = (batch, run[0], hi)
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

    def _pop(self, lane: Lane, line: Line) -> Entry:
        """Remove the first entry of a line, and what is empty then."""
        entry = line.entries.popleft()
        self._tidy(lane, line)
        return entry

    def _tidy(self, lane: Lane, line: Line) -> None:
        """An entry has left a line."""
        if line.entries:
            lane.popped(line)
        else:
            if lane.oldest is line:
                lane.oldest = None
            lane.drop(line, self.turn_seconds)
            if not lane.ring:
                self._order.remove(-lane.priority)
            if not lane.lines:
                del self._lanes[lane.priority]

    def turn(self, cost: float) -> int | None:
        """How many tasks of this cost (seconds) the line of ``head`` may have; None: any number.

        At least one, which the next turn pays for if it is more than is left of this.
        """
        lane = self._lane()
        if len(lane.ring) == 1:
            return None
        return max(1, int(lane.ring[0].deficit / cost))

    def take(self, count: int, cost: float = 0.0) -> bool:
        """Remove the first ``count`` tasks of the run that ``head`` returned, for ``cost``.

        Whether any entry is left.
        """
        lane = self._lane()
        line = lane.ring[0]
        line.deficit = line.deficit - cost if len(lane.ring) > 1 else 0.0
        batch, lo, hi = line.entries[0]
        if lo + count < hi:
            line.entries[0] = (batch, lo + count, hi)
        else:
            self._pop(lane, line)
            if batch.template.concurrency_key:
                self._free(batch)
        self._size -= count
        return bool(self._order)

    def first_of(self, batch: Batch) -> Entry | None:
        """The first run of a batch that is really queued, wherever it stands."""
        lane = self._lanes.get(batch.template.priority)
        line = lane.lines.get(batch.session) if lane is not None else None
        for other, lo, hi in line.entries if line is not None else ():
            if other is batch and (run := next(batch.runs(lo, hi, State.QUEUED), None)) is not None:
                return batch, *run
        return None

    def withdraw(self, batch: Batch, lo: int, hi: int) -> None:
        """Remove tasks of the run that ``first_of`` returned, before their turn has come."""
        lane = self._lanes[batch.template.priority]
        line = lane.lines[batch.session]
        whole = next(
            entry for entry in line.entries if entry[0] is batch and entry[1] <= lo < entry[2]
        )
        at = line.entries.index(whole)
        del line.entries[at]
        rest = [(batch, a, b) for a, b in ((whole[1], lo), (hi, whole[2])) if a < b]
        for entry in reversed(rest):
            line.entries.insert(at, entry)
        self._size -= hi - lo
        self._tidy(lane, line)
        if not rest and batch.template.concurrency_key:
            self._free(batch)

    # ------------------------------------------------------------ what has to wait

    def set_aside(self, count: int) -> None:
        """Let the first ``count`` tasks of the run that ``head`` returned wait until ``resume``."""
        batch, lo, _ = self._lane().ring[0].entries[0]
        self.take(count)
        self._aside.append((batch, lo, lo + count))

    def resume(self) -> None:
        """What was set aside waits where it did."""
        aside, self._aside = self._aside, []
        for batch, lo, hi in reversed(aside):
            self.push(batch, lo, hi, front=True)

    def park(self) -> None:
        """The payloads of the run that ``head`` returned are not here: let its line wait."""
        lane = self._lane()
        line = lane.ring.popleft()
        line.parked = True
        lane.oldest = None
        if not lane.ring:
            self._order.remove(-lane.priority)
        self._parked[line.entries[0][0]] = lane, line

    def arrived(self, batch: Batch) -> None:
        """The payloads of a batch are here: if its line waits for that, it is its turn again."""
        lane, line = self._parked.pop(batch, (None, None))
        if lane is not None and line is not None and line.parked:
            line.parked = False
            self._serve(lane, line, first=True)

    def hold(self) -> None:
        """Let the entry that ``head`` found wait until its key is released."""
        lane = self._lane()
        batch, lo, hi = self._pop(lane, lane.ring[0])
        key = batch.template.concurrency_key
        held = self._held.setdefault(key, deque())
        if self._released.get(key) is batch:  # it was the first of them before
            del self._released[key]
            held.appendleft((batch, lo, hi))
        else:
            held.append((batch, lo, hi))
        self._size -= hi - lo

    def release(self, key: str) -> None:
        """The first of the entries that wait for a key waits where it did.

        Another follows when it has been placed, or found to be stale.
        """
        held = self._held.get(key)
        if held is None or key in self._released:
            return
        self._released[key] = held[0][0]
        self.push(*held.popleft(), front=True)
        if not held:
            del self._held[key]

    def release_all(self) -> None:
        """No key is at its most, as far as is known."""
        held, self._held = self._held, {}
        self._released.clear()
        for entries in held.values():
            for entry in reversed(entries):
                self.push(*entry, front=True)

    def _free(self, batch: Batch) -> None:
        """An entry has gone; if others wait for its key, they are not to wait for ever."""
        key = batch.template.concurrency_key
        if not key:
            return
        if self._released.get(key) is batch:
            del self._released[key]
        self.release(key)

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
        self._size = self._stale = 0
        self.release_all()
        lanes, self._lanes, self._order = self._lanes, {}, []
        self._size = 0
        self._parked.clear()  # they are parked again when they come up
        for lane in lanes.values():
            for line in (*lane.ring, *(one for one in lane.lines.values() if one.parked)):
                for batch, lo, hi in line.entries:
                    for a, b in batch.runs(lo, hi, State.QUEUED):
                        self.push(batch, a, b)

    # ------------------------------------------------------------ looking

    def __bool__(self) -> bool:
        """Whether any entry could come up, be it stale; none can that waits for payloads."""
        return bool(self._order)

    def upcoming(self) -> Iterator[Entry]:
        """Every entry, stale ones too, about in the order in which they come up.

        Of each line in turn. What waits for something else than a host is left out.
        """
        age = self.ageing_seconds
        yield from by_turns([line.entries for _, line in self._parked.values()])
        lanes = [self._lanes[-negated] for negated in self._order]
        if len(lanes) > 1:
            lanes.sort(key=lambda lane: lane.since() - lane.priority * age)
        for lane in lanes:
            yield from by_turns([line.entries for line in lane.ring])

    def ahead(self, batch: Batch, index: int, entries_max: int) -> int | None:
        """About how many queued tasks go before this one; None if it is in no lane.

        Counts no further than ``entries_max`` entries. Sessions take turns, so of those of another
        as many go first as of its own.
        """
        found = 0
        for _, lane in sorted(self._lanes.items(), reverse=True):
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
        return self._ahead_held(batch, index)

    def _ahead_held(self, batch: Batch, index: int) -> int | None:
        found = 0
        for other, lo, hi in self._held.get(batch.template.concurrency_key, ()):
            if other is batch and lo <= index < hi:
                return found + batch.states.count(State.QUEUED, lo, index)
            found += other.states.count(State.QUEUED, lo, hi)
        return None

    def snapshot(self) -> list[Entry]:
        """Every entry, stale ones too, in no order."""
        found = list(self._aside)
        for entries in self._held.values():
            found += entries
        for lane in self._lanes.values():
            found += lane.entries()
        return found

    def __iter__(self) -> Iterator[Entry]:
        """Every run that is really queued, in no order."""
        for batch, lo, hi in self.snapshot():
            for a, b in batch.runs(lo, hi, State.QUEUED):
                yield batch, a, b
