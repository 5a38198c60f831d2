"""The scheduler as a state machine: a method for each event, the time as an argument.

Promises: every nominal time of a schedule, from when the schedule was first seen until it is
retired, ends as exactly one row, whatever the clock does: what has its row is behind the entry's
cursor, and the cursor never goes back. A fire is started at most once. Nothing is looked at before
its time has come: there is one heap of times.
"""

from collections.abc import Iterable, Mapping, Sequence
from heapq import heappop, heappush
from itertools import chain
from math import floor

from farm_scheduler.core.backfills import Backfill, slices_of
from farm_scheduler.core.deciding import Fate, Outlook, expired, fate_of
from farm_scheduler.core.entry import Entry, Pause
from farm_scheduler.core.fires import Fires, Port
from farm_scheduler.core.missed import Leap, Missed
from farm_scheduler.core.rows import Kind, Row, fire_id
from farm_scheduler.core.schedule import Schedule

__all__ = ["Machine"]

TICK_MAX = 2000
"""Nominal times after which ``on_tick`` leaves the other schedules to the next call."""
SLICES_MAX = 3
"""The same, of slices of what schedules have missed: what fires meanwhile is not to be late."""
PLANNED_MAX = 200_000
"""Nominal times of all backfills that have no rows yet."""

PAUSES_MAX = 100
"""Pauses of one schedule at a time."""


def _in_turn(row: Row) -> tuple[float, int]:
    """Fires of the past go the newest first, all others the oldest."""
    return (-row.due if row.kind is Kind.BACKFILL else row.due), row.nominal


RETIRED = Fate("retired", "its schedule is no longer in a file")
ABSENT = Fate("retired", "its schedule was in no file, or stopped, until then")


class Machine:
    """All schedules. Call ``on_tick`` when the time of ``next_deadline`` has come."""

    def __init__(self, port: Port) -> None:
        self.entries: dict[str, Entry] = {}
        """By name; retired ones, too."""
        self._port = port
        self._fires = Fires(port)
        self._missed: dict[int, Missed] = {}  # of which only a part is decided, by number
        self._heap: list[tuple[float, int]] = []
        self._by_number: dict[int, Entry] = {}
        self._numbers = 0

    # ------------------------------------------------------------ which schedules there are

    def follow(self, entries: Iterable[Entry]) -> None:
        """Take over entries that another machine has kept, in place of what was known of them."""
        for entry in entries:
            known = self.entries.get(entry.name)
            if known is None:
                self._add(entry)
            else:
                entry.number, entry.wake = known.number, known.wake
                self.entries[entry.name] = self._by_number[entry.number] = entry
            self._sleep(entry)
        self.next_deadline()  # so that the heap forgets what is over

    def follow_gone(self, names: Iterable[str], now: float) -> None:
        """Retire entries that the other machine has retired, and keeps no more."""
        for name in names:
            self.entries[name].retired = now
            self._sleep(self.entries[name])

    def restore(self, rows: Iterable[Row], backfills: Iterable[Backfill] = ()) -> None:
        """Take over rows that are not final, when all has been followed; nothing is decided yet.

        And backfills of which not all nominal times have rows.
        """
        for row in sorted(rows, key=_in_turn):
            entry = self.entries[row.schedule]
            self._fires.restore(row, entry)
            self._sleep(entry)
        for backfill in backfills:
            self._fires.backfills.setdefault(backfill.schedule, []).append(backfill)

    def look_up_again(self) -> None:
        """Zones have other rules now: what is behind a cursor stays, what is next is found anew."""
        for entry in self.entries.values():
            following = entry.schedule.timing.next(entry.cursor)
            if following != entry.next:
                entry.next = following
                self._port.keep(entry)
                self._sleep(entry)

    def set_schedules(self, schedules: Mapping[str, Schedule], now: float) -> None:
        """These are all there are from now on. What was due before goes by what was said before."""
        for name, schedule in schedules.items():
            entry = self.entries.get(name)
            if entry is None:
                self._add_new(schedule, now)
            elif entry.schedule != schedule or entry.retired is not None:
                self._change(entry, schedule, now)
        for entry in list(self.entries.values()):
            if entry.retired is None and entry.name not in schedules:
                self._retire(entry, now)

    def _add_new(self, schedule: Schedule, now: float) -> None:
        at = floor(now)
        entry = Entry(schedule, 0, at, schedule.timing.next(at))
        self._add(entry)
        self._port.keep(entry)
        self._sleep(entry)

    def _add(self, entry: Entry) -> None:
        self._numbers += 1
        entry.number = self._numbers
        self.entries[entry.name] = self._by_number[entry.number] = entry

    def _change(self, entry: Entry, schedule: Schedule, now: float) -> None:
        old = entry.schedule
        times = (old.plain, old.tz, old.dst) != (schedule.plain, schedule.tz, schedule.dst)
        if entry.retired is not None or times:
            if entry.retired is None:
                self._close(entry, now)
            else:
                self._account_for_absence(entry, now)
            entry.retired = None
            entry.cursor, entry.last = max(entry.cursor, floor(now)), None
            entry.next = schedule.timing.next(entry.cursor)
        entry.schedule = schedule
        self._missed.pop(entry.number, None)  # what is not decided goes by what it says now
        self._port.keep(entry)
        self._sleep(entry)

    def _retire(self, entry: Entry, now: float) -> None:
        self._close(entry, now)
        for row in list(entry.waiting or ()):
            self._fires.drop(entry, row, RETIRED, now)
        self._drop_backfills(entry, RETIRED, now)
        entry.retired = now
        entry.wake = None
        self._port.keep(entry)

    def _account_for_absence(self, entry: Entry, now: float) -> None:
        """One row for all nominal times since it was retired."""
        if entry.next is not None and entry.next <= now:
            row = self._fires.row(entry, entry.next, Kind.TIME)
            row.until = floor(now) + 1
            self._fires.finish(row, ABSENT, now)

    def _close(self, entry: Entry, now: float) -> None:
        """Decide all nominal times up to now, also those whose jitter is not over."""
        while self._advance(entry, now):
            pass
        while entry.next is not None and entry.cursor < entry.next <= now:
            nominal = entry.next
            entry.next = entry.schedule.timing.next(nominal)
            fate = fate_of(entry.schedule, nominal, Outlook(now, None), entry.paused)
            self._judge(entry, nominal, fate, now)
        entry.cursor = max(entry.cursor, floor(now))

    # ------------------------------------------------------------ time

    def next_deadline(self) -> float | None:
        """When ``on_tick`` has something to do; None if never."""
        heap = self._heap
        while heap and self._by_number[heap[0][1]].wake != heap[0][0]:
            heappop(heap)
        return heap[0][0] if heap else None

    def on_tick(self, now: float) -> None:
        """Decide what is due, the longest first; after an absence all of it takes several calls.

        A schedule that has missed very much gives way to the others after each slice of it.
        """
        decided = slices = 0
        while decided < TICK_MAX and slices < SLICES_MAX:
            if (at := self.next_deadline()) is None or at > now:
                break
            entry = self._by_number[heappop(self._heap)[1]]
            entry.wake = None
            decided += self._advance(entry, now)
            is_part = entry.number in self._missed
            slices += is_part
            self._sleep(entry, now if is_part else None)

    def _advance(self, entry: Entry, now: float) -> int:
        """Decide what is due of one schedule, or a slice; 0 if there was nothing to be done."""
        if entry.retired is not None:
            return 0
        for row in list(entry.waiting or ()):
            if (late := expired(entry.schedule, row.due, now)) is not None:
                self._fires.drop(entry, row, late, now)
        missed = self._missed.pop(entry.number, None)
        if missed is None:
            if entry.next is None or entry.next + entry.told.offset > now:
                return 0
            missed = Missed(entry.schedule, entry.next, now)
        found = 0 if missed.is_found else missed.find(now, entry.paused)
        cursor, decided = entry.cursor, 0
        for time, fate in missed.decide(entry.paused):
            decided += 1
            if isinstance(time, Leap):
                self._leap(entry, time, fate, now)
            else:
                self._judge(entry, time, fate, now)
        if missed.left or not missed.is_found:
            self._missed[entry.number] = missed
        if entry.cursor != cursor:
            entry.next = missed.following()
            entry.forget_pauses()
            self._port.keep(entry)
        return max(found, decided)

    def _leap(self, entry: Entry, leap: Leap, fate: Fate, now: float) -> None:
        """One row for all nominal times that are too old."""
        row = self._fires.row(entry, leap.nominal, Kind.TIME)
        row.until = leap.until
        self._fires.finish(row, fate, now)
        entry.cursor, entry.last = leap.until - 1, None

    def _judge(self, entry: Entry, nominal: int, fate: Fate, now: float) -> None:
        """Give a nominal time its row; those of a schedule come one after the other.

        One that runs has the interval of all that were coalesced into it, too, also of those that
        were before a restart: until it comes ``last`` stays before the first of them.
        """
        schedule = entry.schedule
        joins = entry.last is not None and entry.last < entry.cursor
        if not fate.reason and entry.last is None:
            entry.last = schedule.timing.previous(nominal)
        if not fate.reason and fate.into is None:
            fate = expired(schedule, nominal + schedule.offset, now) or fate
        row = self._fires.row(entry, nominal, Kind.TIME)
        if fate.into is not None:
            row.into = fire_id(entry.name, fate.into)
            self._fires.finish(row, fate, now)
        elif fate.reason:
            self._fires.finish(row, fate, now)
            entry.last = entry.last if joins else nominal
        else:
            row.since, entry.last = entry.last, nominal
            self._fires.offer(entry, row, now)
        entry.cursor = nominal

    def _sleep(self, entry: Entry, at: float | None = None) -> None:
        wake = entry.wakes() if at is None else at
        if wake != entry.wake:
            entry.wake = wake
            if wake is not None:
                heappush(self._heap, (wake, entry.number))

    # ------------------------------------------------------------ what the farm says

    def running(self, fire: str) -> tuple[Row, Schedule] | None:
        """A fire that is not over, and its schedule."""
        found = self._fires.open.get(fire)
        return None if found is None else (found[0], found[1].schedule)

    def on_submitted(self, fire: str, task: str) -> None:
        """A fire that was started is a task of the farm."""
        self._fires.submitted(fire, task)

    def on_refused(self, fire: str, why: str, now: float) -> None:
        """A fire that was started could not be submitted, and never will."""
        self._follow(self._fires.refused(fire, why, now))

    def on_ended(self, fire: str, outcome: str, detail: str, now: float, output: str = "") -> None:
        """The task of a fire has ended; of a fire that is over nothing more is heard."""
        self._follow(self._fires.ended(fire, outcome, detail, output, now))

    def on_settled(self, now: float) -> None:
        """After ``restore``: what can be known of fires that ran before is known."""
        names = {row.schedule for row, _ in self._fires.open.values()} | {*self._fires.backfills}
        for entry in [self.entries[name] for name in sorted(names)]:
            self._fires.go_on(entry, now)
            self._sleep(entry)

    def _follow(self, entry: Entry | None) -> None:
        if entry is not None:
            self._sleep(entry)

    # ------------------------------------------------------------ what people want

    def pause(self, name: str, pause: Pause) -> None:
        """Skip what is due in a span of time; what was said before, of the same end, is one."""
        entry = self.entries[name]
        if any(one.at <= pause.at and one[1:] == pause[1:] for one in entry.pauses):
            return
        if len(entry.pauses) >= PAUSES_MAX:
            raise ValueError(f"{name} has {PAUSES_MAX} pauses already; resume it first")
        entry.pauses = (*entry.pauses, pause)
        self._port.keep(entry)

    def resume(self, name: str, at: float) -> bool:
        """End all pauses at a time; whether there was one."""
        entry = self.entries[name]
        before = entry.pauses
        entry.pauses = tuple(
            one._replace(until=min(one.until, at)) for one in before if one.at < at
        )
        entry.forget_pauses()
        self._port.keep(entry)
        return any(one.until > at for one in before)

    def run(self, name: str, nominal: int, mark: str, now: float) -> Row:
        """A fire by hand, even if the schedule is paused; ``mark`` makes its id."""
        entry = self.entries[name]
        row = self._fires.row(entry, nominal, Kind.MANUAL, mark)
        if row.fire_id not in self._fires.open:
            self._fires.offer(entry, row, now)
            self._sleep(entry)
        return row

    def backfill(
        self, name: str, times: Sequence[int], mark: str, now: float, *, at_once: int = 1,
        number: int = 0,
    ) -> None:  # fmt: skip
        """Run nominal times of the past, which come newest first; ``number`` is that of the order.

        A few at a time have rows; the others wait, and wait across restarts. Raises ``ValueError``
        if too many do.
        """
        waiting = sum(map(len, chain.from_iterable(self._fires.backfills.values())))
        if waiting + len(times) > PLANNED_MAX:
            raise ValueError(
                f"{waiting} nominal times of backfills wait already, and at most {PLANNED_MAX} "
                "may: order it again when they have run"
            )
        entry = self.entries[name]
        entry.at_once = max(at_once, 1)
        self._port.keep(entry)
        if times:
            self._fires.plan(Backfill(number, name, mark, list(slices_of(times))))
        self._fires.fill_back(entry, now)

    def end_backfills(self, name: str, why: str, now: float) -> int:
        """What backfills have left never runs; how many nominal times. What runs runs on."""
        entry, fate = self.entries[name], Fate("cancelled", why)
        left = sum(map(len, self._fires.backfills.get(name, ()))) + len(entry.backfilled or ())
        self._drop_backfills(entry, fate, now)
        return left

    def _drop_backfills(self, entry: Entry, fate: Fate, now: float) -> None:
        for row in list(entry.backfilled or ()):
            self._fires.drop(entry, row, fate, now)
        self._fires.drop_backfills(entry, fate, now)

    def open_rows(self) -> list[Row]:
        """All fires that wait or run."""
        return [row for row, _ in self._fires.open.values()]
