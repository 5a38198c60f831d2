"""The life of a fire, from when it may run to its last row."""

from typing import Literal, Protocol

from farm_scheduler.core.backfills import Backfill
from farm_scheduler.core.deciding import Fate, expired
from farm_scheduler.core.entry import Entry
from farm_scheduler.core.rows import FAILED, Kind, Row, State, fire_id
from farm_scheduler.core.schedule import Schedule, policy

__all__ = ["Fires", "Port"]

Told = Literal["failure", "late"]


class Port(Protocol):
    """What the machine asks for. Rows and entries are kept before anything is started."""

    def record(self, row: Row) -> None:
        """Keep a row, in place of the one of its fire."""

    def keep(self, entry: Entry) -> None:
        """Keep cursor, next time, pauses and the like of an entry."""

    def keep_backfill(self, backfill: Backfill) -> None:
        """Keep which nominal times of a backfill have no rows yet."""

    def start(self, row: Row, schedule: Schedule) -> None:
        """Submit a fire; ``on_submitted``, ``on_refused`` and ``on_ended`` say what came of it."""

    def stop(self, row: Row) -> None:
        """Stop the task of a fire; ``on_ended`` follows."""

    def tell(self, what: Told, row: Row, schedule: Schedule) -> None:
        """Call the hook of a schedule: a fire failed, or begins late."""


class Fires:
    """All fires that wait or run, and how they end."""

    def __init__(self, port: Port) -> None:
        self.open: dict[str, tuple[Row, Entry]] = {}
        """Rows that are not final, by fire."""
        self.backfills: dict[str, list[Backfill]] = {}
        """Those of which not all nominal times have rows, by schedule."""
        self._port = port

    def restore(self, row: Row, entry: Entry) -> None:
        """Take over a row that is not final."""
        self.open[row.fire_id] = row, entry
        past, runs = row.kind is Kind.BACKFILL, row.state is State.RUNNING
        if past:
            _append(entry, "backfilling" if runs else "backfilled", row)
        else:
            _append(entry, "running" if runs else "waiting", row)

    def row(self, entry: Entry, nominal: int, kind: Kind, mark: str = "") -> Row:
        """The row of a fire of which nothing is decided; nothing knows it yet."""
        schedule = entry.schedule
        due = nominal + (schedule.offset if kind is Kind.TIME else 0)
        return Row(
            fire_id=fire_id(schedule.name, nominal, mark),
            schedule=schedule.name,
            nominal=nominal,
            kind=kind,
            due=due,
        )

    def skip(self, entry: Entry, nominal: int, fate: Fate, now: float) -> None:
        """A nominal time that was no good."""
        self.finish(self.row(entry, nominal, Kind.TIME), fate, now)

    def finish(self, row: Row, fate: Fate, now: float) -> None:
        """It does not run: a reason says why, or what runs in its stead."""
        row.state = State.SKIPPED if fate.reason else State.COALESCED
        row.reason, row.detail, row.ended = fate.reason, fate.detail, now
        self._port.record(row)

    def drop(self, entry: Entry, row: Row, fate: Fate, now: float) -> None:
        """The same, of one that waits."""
        _remove(entry, row)
        del self.open[row.fire_id]
        self.finish(row, fate, now)

    def offer(self, entry: Entry, row: Row, now: float) -> None:
        """Start a fire, or let it wait, or skip it, by what else of its schedule runs or waits."""
        way, most = policy(entry.schedule.overlap)
        waiting = entry.waiting or []
        if way == "allow" or not (entry.running or waiting):
            self.begin(entry, row, now)
        elif way == "skip":
            self.finish(row, Fate("overlap", "the one before was not over"), now)
        elif way == "cancel":
            for one in list(waiting):
                one.into = row.fire_id
                if one.since is not None:
                    row.since = min(one.since, row.nominal if row.since is None else row.since)
                self.drop(entry, one, Fate(), now)
            self.wait(entry, row, "waiting")
            for one in entry.running or ():
                self._port.stop(one)
        elif len(waiting) < most:
            self.wait(entry, row, "waiting")
        else:
            self.finish(row, Fate("buffer full", f"{most} waited already"), now)

    def wait(self, entry: Entry, row: Row, name: str) -> None:
        """Put a fire at the end of one of the lists of its entry."""
        _append(entry, name, row)
        self.open[row.fire_id] = row, entry
        self._port.record(row)

    def begin(self, entry: Entry, row: Row, now: float) -> None:
        """Start a fire."""
        schedule = entry.schedule
        row.state, row.begun = State.RUNNING, now
        if row.since is None:
            row.since = schedule.timing.previous(row.nominal)
        _append(entry, "backfilling" if row.kind is Kind.BACKFILL else "running", row)
        self.open[row.fire_id] = row, entry
        self._port.record(row)
        self._port.start(row, schedule)
        if row.kind is Kind.TIME and schedule.is_late(row.due, now) and schedule.on_late:
            self._port.tell("late", row, schedule)

    def submitted(self, fire: str, task: str) -> None:
        """A fire that was started is a task of the farm."""
        if fire in self.open:
            row, _ = self.open[fire]
            row.task = task
            self._port.record(row)

    def refused(self, fire: str, why: str, now: float) -> Entry | None:
        """A fire that was started could not be submitted, and never will; its entry."""
        if fire not in self.open:
            return None
        row, entry = self.open[fire]
        self.drop(entry, row, Fate("refused", why), now)
        if entry.schedule.on_failure:
            self._port.tell("failure", row, entry.schedule)
        self.go_on(entry, now)
        return entry

    def ended(self, fire: str, outcome: str, detail: str, output: str, now: float) -> Entry | None:
        """The task of a fire has ended; its entry. Of one that is over nothing more is heard."""
        if fire not in self.open:
            return None
        row, entry = self.open.pop(fire)
        _remove(entry, row)
        row.state, row.outcome, row.ended = State.RAN, outcome, now
        row.detail, row.output = detail, output
        self._port.record(row)
        if outcome in FAILED and entry.schedule.on_failure:
            self._port.tell("failure", row, entry.schedule)
        self.go_on(entry, now)
        return entry

    def go_on(self, entry: Entry, now: float) -> None:
        """Start what waited for a fire that is over."""
        if entry.retired is not None:
            return
        while entry.waiting and not entry.running:
            row = entry.waiting[0]
            if (late := expired(entry.schedule, row.due, now)) is not None:
                self.drop(entry, row, late, now)
            else:
                _remove(entry, row)
                self.begin(entry, row, now)
        self.fill_back(entry, now)

    # ------------------------------------------------------------ backfills

    def plan(self, backfill: Backfill) -> None:
        """Nominal times of the past are to run, some at a time."""
        self.backfills.setdefault(backfill.schedule, []).append(backfill)
        self._port.keep_backfill(backfill)

    def fill_back(self, entry: Entry, now: float) -> None:
        """Start as many fires of a backfill as may run."""
        while len(entry.backfilling or ()) < entry.at_once and self._one_waits(entry):
            waiting = entry.backfilled or []
            self.begin(entry, waiting.pop(0), now)
            entry.backfilled = waiting or None

    def _one_waits(self, entry: Entry) -> bool:
        """Whether a fire of a backfill waits to begin; rows are made when there are none left."""
        name = entry.name
        while not entry.backfilled and name in self.backfills:
            backfill = max(self.backfills[name], key=Backfill.newest)
            for nominal in backfill.take():
                row = self.row(entry, nominal, Kind.BACKFILL, backfill.mark)
                if row.fire_id not in self.open:
                    self.wait(entry, row, "backfilled")
            self._port.keep_backfill(backfill)
            self._forget_if_taken(backfill)
        return bool(entry.backfilled)

    def drop_backfills(self, entry: Entry, fate: Fate, now: float) -> None:
        """What has no rows yet gets one for all, and never runs."""
        for backfill in list(self.backfills.get(entry.name, ())):
            left = backfill.slices[backfill.taken :]
            row = self.row(entry, left[-1][-1], Kind.BACKFILL, backfill.mark)
            row.until = left[0][0] + 1
            self.finish(row, fate, now)
            backfill.taken = len(backfill.slices)
            self._port.keep_backfill(backfill)
            self._forget_if_taken(backfill)

    def _forget_if_taken(self, backfill: Backfill) -> None:
        if backfill.taken == len(backfill.slices):
            of_schedule = self.backfills[backfill.schedule]
            of_schedule.remove(backfill)
            if not of_schedule:
                del self.backfills[backfill.schedule]


def _append(entry: Entry, name: str, row: Row) -> None:
    rows = getattr(entry, name)
    if rows is None:
        setattr(entry, name, [row])
    else:
        rows.append(row)


def _remove(entry: Entry, row: Row) -> None:
    """Take a row out of whichever list it is in; empty ones are given up."""
    for name in ("running", "waiting", "backfilling", "backfilled"):
        rows = getattr(entry, name)
        if rows is not None and row in rows:
            rows.remove(row)
            if not rows:
                setattr(entry, name, None)
