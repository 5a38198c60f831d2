"""How many tasks a host wants to hold, and when its coordinator should know of its load."""

from farm_workers.host_lending import State
from farm_workers.host_pace import Pace
from farm_workers.host_reports import Reports
from farm_workers.host_slices import HostSettings
from farm_workers.host_work import Work

__all__ = ["NOTHING", "Hold", "is_news", "load_of", "spare_of", "window_of"]

NOTHING: State = (0, False, [])
"""What a coordinator takes a host to lend that has not said so."""
ROUND_TRIPS = 2
"""So long before a worker has nothing to do what has ended is reported: an answer may be late."""

RIPE = 0.75
"""After this share of its time a report waits for no turn of its own: it leaves in the next."""
FOREVER = float("inf")


class Hold:
    """A report that waits for others; ``until`` it must leave, in monotonic seconds."""

    def __init__(self) -> None:
        self.until = FOREVER
        self._since = 0.0

    def waits(self, now: float, spare: float) -> bool:
        """Whether it does; ``spare``: how many seconds it may from now on."""
        if self.until == FOREVER:
            self._since = now
        self.until = min(self.until, now + spare)
        return now - self._since < RIPE * (self.until - self._since)

    def over(self) -> None:
        """It has left, or there is none."""
        self.until = FOREVER


def window_of(settings: HostSettings, work: Work, pace: Pace, reports: Reports) -> int:
    """Its window, while nothing speaks against work here; what is not noted counts against it.

    While slots are lent nothing waits here behind others: what is deeper must find room.
    """
    roster, lending = work.roster, work.lending
    live, free, fencing = roster.census()
    if fencing:
        return 0
    if roster.broken:
        if not settings.has_initializer:
            return lending.counted[1]  # others may do better
        # With an initializer the whole farm hears of it; while tasks wait here, only what these
        # wait for is to: of others the coordinator gives none to so few.
        tasks, slots = lending.counted
        return slots + (tasks or settings.slots)
    if reports.bytes >= settings.unnoted_bytes_max:
        return 0
    room = settings.unnoted_max - reports.units
    if not lending.is_strained:
        window = min(live, settings.slots) + pace.lookahead(min(free, settings.slots))
        return max(0, min(window, settings.window_max, room))
    usable = min(settings.slots, live if roster.may_start else live - lending.waiting)
    return max(0, lending.counted[1] + max(0, min(usable, settings.window_max, room)))


def is_news(window: int, told: int, slots: int) -> bool:
    """Whether a window is worth a report of its own: it halves, or grows up to the slots."""
    return told < min(window, slots) or window * 2 < told


def spare_of(work: Work, pace: Pace, reports: Reports, now: float) -> float:
    """How many seconds a report may wait for others; 0 or less if it may not.

    It is small, and no worker will miss what the coordinator has for it: there is more here, or
    each has enough until an answer comes.
    """
    if not reports.is_small or pace.is_dense or work.roster.draining:
        return 0.0
    if work.backlog.waiting:
        return pace.hold
    if not reports.has_ends or pace.round_trip < 0:
        return 0.0
    spare = pace.hold
    for slot in work.roster.slots:
        spare = min(spare, slot.left(now) - ROUND_TRIPS * pace.round_trip)
        if spare <= 0.0:
            return 0.0
    return spare


def load_of(pace: Pace, work: Work) -> dict[str, float]:
    """What is said in beats: the round trip, and leases that did not fit, if there were any."""
    found = {"round_trip": pace.round_trip, "misfits": float(work.needs.misfits or -1)}
    return {name: value for name, value in found.items() if value >= 0}
