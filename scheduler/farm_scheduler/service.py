"""The scheduler that has its turn: reads files, decides, submits, keeps account.

What a turn decides is committed before anything of it is submitted, and what was submitted and not
heard of is asked for, or submitted again with its key, by whoever takes over.
"""

import logging
import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from heapq import heappop, heappush
from pathlib import Path
from typing import Any, Literal

from farm.client.client import Client
from farm.errors import Busy, ConfigError, FarmError
from farm_scheduler.clock import Alarm, Watched, utc_text
from farm_scheduler.collection import no_collection
from farm_scheduler.core import Backfill, Entry, Machine, Row, Schedule
from farm_scheduler.core import State as Fate
from farm_scheduler.hooks import Hooks
from farm_scheduler.loading import Loader
from farm_scheduler.refreshing import Refresher
from farm_scheduler.settings import SchedulerSettings, catalog_beside
from farm_scheduler.state import FORGET_MAX, State
from farm_scheduler.submitting import KEY_SECONDS, Ended, Submitter
from farm_scheduler.wishes import Wishes
from farm_scheduler.words import counted

__all__ = ["Scheduler"]

logger = logging.getLogger("farm.scheduler")

SETTLE_SECONDS = 0.3
"""How long whoever takes over waits to hear of tasks that ended meanwhile."""
FORGET_SECONDS = 3600.0
"""How often old rows are dropped."""
FORGET_AGAIN_SECONDS = 1.0
"""The same, while there are more of them than are dropped at a time."""
INSTANTS = frozenset(("begin", "end", "until"))
"""What of an order is a time."""
AHEAD = (
    "a clock that was ahead decided about %s: these fire again after the times that "
    "have their rows, %s after %s; set the clock right if it is wrong, or give a schedule that "
    "must not wait another name"
)


class Scheduler:
    """One scheduler, from when it has its turn; runs in one thread, and is the machine's port."""

    def __init__(
        self,
        settings: SchedulerSettings,
        client: Client,
        alarm: Alarm,
        state: State | None = None,
    ) -> None:
        self.state = State(Path(settings.state)) if state is None else state
        self.machine = Machine(self)
        self._loader = Loader(settings.files, self.state)
        self._alarm = alarm
        self._inbox: deque[Ended] = deque()  # bounded by the fires that run
        self._submitter = Submitter(client, self._hear)
        catalog = catalog_beside(Path(settings.state))
        self._refresher = Refresher(catalog, client, self._hear)
        self._hooks = Hooks()
        self._aside = ThreadPoolExecutor(1, "farm-stops")
        self._wishes = Wishes(self.machine, self.state)
        self._rows: dict[str, Row] = {}
        self._entries: dict[str, Entry] = {}
        self._backfills: dict[int, Backfill] = {}
        self._to_start: list[tuple[Row, Schedule]] = []
        self._to_stop: list[str] = []
        self._to_tell: list[tuple[str, Row, Schedule]] = []
        self._answers: list[tuple[int, Any]] = []
        self._later: list[tuple[float, int, Row, Schedule]] = []
        self._serial = 0
        self._next_forget = time.time() + FORGET_AGAIN_SECONDS
        self._clock = Watched(time.time(), time.monotonic())
        self._followed = False
        self._decides = False
        self.reload = False

    # ------------------------------------------------------------ from other threads

    def _hear(self, ended: Ended) -> None:
        self._inbox.append(ended)
        self._alarm.wake()

    # ------------------------------------------------------------ the machine's port

    def record(self, row: Row) -> None:
        """Keep a row, with this turn."""
        self._rows[row.fire_id] = row

    def keep(self, entry: Entry) -> None:
        """Keep an entry, with this turn."""
        self._entries[entry.name] = entry

    def keep_backfill(self, backfill: Backfill) -> None:
        """Keep what a backfill has left, with this turn."""
        self._backfills[backfill.number] = backfill

    def start(self, row: Row, schedule: Schedule) -> None:
        """Submit a fire, after this turn is committed."""
        self._to_start.append((row, schedule))

    def stop(self, row: Row) -> None:
        """Stop a fire, after this turn is committed."""
        self._to_stop.append(row.fire_id)

    def tell(self, what: Literal["failure", "late"], row: Row, schedule: Schedule) -> None:
        """Call a hook, after this turn is committed."""
        self._to_tell.append((what, row, schedule))

    # ------------------------------------------------------------ a life

    def follow(self) -> int:
        """Standing by: read what the one that decides has kept meanwhile; how many there are."""
        self._followed = True
        if changed := self._loader.follow():
            self.machine.follow(changed)
            self._loader.warm_up()
        return len(self._loader.file)

    def take_over(self) -> None:
        """Go on where the one before was stopped.

        Who stood by decides first, and then reads the files, as if it were told to.
        """
        began = time.monotonic()
        self.state.own()
        self.machine.follow(self._loader.follow())
        self.machine.follow_gone(self._loader.gone(), time.time())
        rows = self.state.open_rows()
        self.machine.restore(rows, self.state.backfills())
        self._look_at_zones()
        self._settle([row for row in rows if row.state is Fate.RUNNING], time.time())
        self._listen(time.time())
        if not self._followed:
            self._read_files(time.time())
        self.machine.on_settled(time.time())
        self.turn()
        took = time.monotonic() - began
        schedules = counted(len(self._loader.file), "schedule")
        logger.info("decides about %s, after %.1f s", schedules, took)
        self._decides = True
        self._tell_of_the_future()
        if self._followed:
            self._read_files(time.time())
            self.turn()

    def _look_at_zones(self) -> None:
        if version := self._loader.zones():
            self.machine.look_up_again()
            self._commit()
            self.state.meta("zones", version)

    def _tell_of_the_future(self) -> None:
        """Say so if a clock was ahead of today's when the last scheduler decided."""
        soon = time.time() + 1
        ahead = {
            name: entry.cursor
            for name, entry in self.machine.entries.items()
            if entry.cursor > soon and entry.retired is None
        }
        if ahead:
            name, until = max(ahead.items(), key=lambda one: one[1])
            logger.warning(AHEAD, counted(len(ahead), "schedule"), name, utc_text(until))

    def turn(self) -> float | None:
        """Do all that is to be done now; returns when there is more."""
        while True:
            now = time.time()
            if said := self._clock.jumped(now, time.monotonic()):
                logger.warning("%s", said)
            self._listen(now)
            if self.reload:
                self.reload = False
                self._read_files(now)
            self._take_orders(now)
            self.machine.on_tick(now)
            while self._later and self._later[0][0] <= now:
                _, _, row, schedule = heappop(self._later)
                self._to_start.append((row, schedule))
            self._commit()
            if now >= self._next_forget:
                self._forget(now)
            if not self._act(now):
                break
        times = [self.machine.next_deadline(), self._next_forget]
        times += [self._later[0][0]] if self._later else []
        times += [now] if self._wishes.is_planning else []
        return min(at for at in times if at is not None)

    def let_go(self) -> bool:
        """Decide nothing more; whether another one may, or a catalog is still being written.

        What runs runs on.
        """
        self._aside.shutdown(wait=False, cancel_futures=True)
        self._refresher.close()
        self.state.close()
        return not self._refresher.writes

    def close(self) -> None:
        """The same, and wait for hooks that have begun."""
        self.let_go()
        self._hooks.close()

    # ------------------------------------------------------------ parts of a turn

    def _listen(self, now: float) -> None:
        while self._inbox:
            fire, outcome, detail, output = self._inbox.popleft()
            if not outcome:
                self.machine.on_refused(fire, detail, now)
            elif outcome == "unknown":
                self._not_known(fire, detail, now)
            else:
                self.machine.on_ended(fire, outcome, detail, now, output)

    def _not_known(self, fire: str, detail: str, now: float) -> None:
        """The farm has no task of that id: it was never accepted, or is forgotten."""
        entry = self.machine.running(fire)
        if entry is None:
            return
        row, schedule = entry
        if row.begun is not None and now - row.begun < KEY_SECONDS:
            self._to_start.append((row, schedule))
        else:
            self.machine.on_ended(fire, "lost", detail, now)

    def _settle(self, running: list[Row], now: float) -> None:
        """Hear what became of fires that another scheduler has started."""
        futures = [self._submitter.attach(row) for row in running if row.task]
        for row in running:
            if not row.task:
                self._not_known(row.fire_id, "nobody knows whether it was submitted", now)
        wait(futures, SETTLE_SECONDS)

    def _read_files(self, now: float) -> None:
        with no_collection():
            self._take_in_files(now)

    def _take_in_files(self, now: float) -> None:
        try:
            schedules = self._loader.read(self.machine.entries.values())
        except ConfigError as error:
            if not self.machine.entries:
                raise
            logger.error("%s; the schedules stay as they are", error)  # noqa: TRY400
            return
        if schedules is not None:
            self.machine.set_schedules(schedules, now)
            self._commit()
            self._loader.finish()
            for problem in self._loader.problems:
                logger.error("%s: %s; this entry is stopped", problem.file, problem.message)
        if self._decides:
            logger.info("its files have %s", counted(len(self._loader.file), "schedule"))

    def _take_orders(self, now: float) -> None:
        for number, at, what, arguments in self.state.waiting_orders():
            answer = self._wishes.fulfil(number, min(at, now), what, arguments, now)
            if answer is None:
                continue
            self._answers.append((number, answer))
            if self._backfills:
                self._commit()  # what is planned next leaves out what this one runs
            logger.info(
                "%s %s: %s", what, arguments.get("name", ""), _told({**arguments, **answer})
            )

    def _commit(self) -> None:
        if self._rows or self._entries or self._answers:
            keep = {
                name: self.machine.entries[name].schedule.keep
                for name in {row.schedule for row in self._rows.values()}
            }
            file = self._loader.file
            entries = [(one, file.get(name, "")) for name, one in self._entries.items()]
            backfills = [*self._backfills.values()]
            self.state.commit(self._rows.values(), entries, keep, self._answers, backfills)
            self._rows, self._entries, self._answers, self._backfills = {}, {}, [], {}

    def _forget(self, now: float) -> None:
        dropped = self.state.forget(now)
        self._next_forget = now + (FORGET_SECONDS if dropped < FORGET_MAX else FORGET_AGAIN_SECONDS)
        if dropped:
            logger.info("dropped %s of the ledger, kept long enough", counted(dropped, "row"))

    def _act(self, now: float) -> bool:
        """Do what the turn decided; whether something came of it that is to be kept."""
        starts, self._to_start = self._to_start, []
        stops, self._to_stop = self._to_stop, []
        tells, self._to_tell = self._to_tell, []
        for row, schedule in starts:
            self._submit(row, schedule, now)
        for fire in stops:
            self._stop(fire)
        for what, row, schedule in tells:
            hook = schedule.on_failure if what == "failure" else schedule.on_late
            self._hooks.call(hook, what, row)
        return bool(starts)

    def _stop(self, fire: str) -> None:
        """Stop a task; a fire for which the farm had no room yet ends here."""
        if self._refresher.stop(fire):
            return
        left = [one for one in self._later if one[2].fire_id != fire]
        if len(left) == len(self._later):
            self._aside.submit(self._submitter.stop, fire)
        else:
            self._later = sorted(left)
            self._hear(Ended(fire, "cancelled", "before the farm had room for it"))

    def _submit(self, row: Row, schedule: Schedule, now: float) -> None:
        try:
            aggregate = self._refresher.aggregate_of(schedule)
            if aggregate is not None:
                self._refresher.start(row.fire_id, aggregate)
                task = ""  # whoever takes over begins it again
            else:
                task = self._submitter.submit(row, schedule, now)
        except Busy as busy:
            self._serial += 1
            heappush(self._later, (now + busy.retry_after, self._serial, row, schedule))
        except (ValueError, TypeError, FarmError) as error:
            logger.error("schedule %s: %s", row.schedule, error)  # noqa: TRY400
            self.machine.on_refused(row.fire_id, str(error), now)
        else:
            self.machine.on_submitted(row.fire_id, task)


def _told(facts: Mapping[str, Any]) -> str:
    """What is to be known of an order that was carried out, for the log."""
    return " ".join(
        f"{key}={utc_text(value) if key in INSTANTS else value}"
        for key, value in facts.items()
        if key != "name" and value not in {None, ""}
    )
