"""What schedules would do in a span of time: the machine itself, on a clock of numbers."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from heapq import heappop, heappush
from typing import Literal, NamedTuple

from farm_scheduler.core import Backfill, Entry, Machine, Pause, Row, Schedule

__all__ = ["Outage", "Simulation"]


class Outage(NamedTuple):
    """No scheduler is there in ``[begin, end)``, seconds since 1970. Tasks run on."""

    begin: float
    end: float


class Simulation:
    """Plays schedules from ``begin`` to ``end``; ``rows`` is the ledger, by fire.

    ``seconds(row)`` is how long the task of a fire takes, and ``outcome(row)`` how it ends.
    ``told`` has what hooks would have been called: what for, and the fire.
    """

    def __init__(
        self,
        schedules: Mapping[str, Schedule],
        begin: int,
        end: int,
        *,
        outages: Sequence[Outage] = (),
        pauses: Mapping[str, Sequence[Pause]] | None = None,
        seconds: Callable[[Row], float] = lambda _: 0.0,
        outcome: Callable[[Row], str] = lambda _: "succeeded",
    ) -> None:
        self.rows: dict[str, Row] = {}
        self.told: list[tuple[str, str]] = []
        self._end = end
        self._outages = sorted(outages)
        self._seconds = seconds
        self._outcome = outcome
        self._ends: list[tuple[float, int, str, str]] = []  # when, which, of what fire, how
        self._serial = 0
        self._now: float = begin - 1  # so that what is due at the very beginning is played
        self.machine = Machine(self)
        self.machine.set_schedules(schedules, self._now)
        for name, some in (pauses or {}).items():
            for pause in some:
                self.machine.pause(name, pause)

    def run(self) -> None:
        """Play all of it. What is not over at the end stays as it is."""
        for now in self._moments():
            self._now = now
            while self._ends and self._ends[0][0] <= now:
                _, _, fire, outcome = heappop(self._ends)
                self.machine.on_ended(fire, outcome, "", now)
            self.machine.on_tick(now)

    def _moments(self) -> Iterator[float]:
        while True:
            ends = self._ends[0][0] if self._ends else None
            times = [at for at in (self.machine.next_deadline(), ends) if at is not None]
            if not times or (now := self._seen(max(min(times), self._now))) >= self._end:
                return
            yield now

    def _seen(self, at: float) -> float:
        """When the scheduler sees what happens at a time."""
        for outage in self._outages:
            if outage.begin <= at < outage.end:
                at = outage.end
        return at

    # ------------------------------------------------------------ the machine's port

    def record(self, row: Row) -> None:
        """Keep a row."""
        self.rows[row.fire_id] = row

    def keep(self, entry: Entry) -> None:
        """Nothing: the machine lives on."""

    def keep_backfill(self, backfill: Backfill) -> None:
        """Nothing: none is ordered."""

    def start(self, row: Row, schedule: Schedule) -> None:
        """The task of a fire begins."""
        self._over(row, self._now + self._seconds(row), self._outcome(row))

    def stop(self, row: Row) -> None:
        """It ends at once."""
        self._over(row, self._now, "cancelled")

    def tell(self, what: Literal["failure", "late"], row: Row, schedule: Schedule) -> None:
        """A hook would be called."""
        self.told.append((what, row.fire_id))

    def _over(self, row: Row, at: float, outcome: str) -> None:
        self._serial += 1
        heappush(self._ends, (at, self._serial, row.fire_id, outcome))
