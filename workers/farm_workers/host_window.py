"""How many tasks a host wants to hold."""

from farm_workers.host_pace import Pace
from farm_workers.host_reports import Reports
from farm_workers.host_slices import HostSettings
from farm_workers.host_work import Work

__all__ = ["window_of"]


def window_of(settings: HostSettings, work: Work, pace: Pace, reports: Reports) -> int:
    """Its window, while nothing speaks against work here; what is not noted counts against it.

    While slots are lent nothing waits here behind others: what is deeper must find room.
    """
    roster = work.roster
    live, free, fencing = roster.census()
    if fencing:
        return 0
    if roster.broken:
        # With an initializer the whole farm hears of it; else others may do better.
        return settings.slots if settings.has_initializer else 0
    if reports.bytes >= settings.unnoted_bytes_max:
        return 0
    room = settings.unnoted_max - reports.units
    if not work.lending.is_strained:
        window = min(live, settings.slots) + pace.lookahead(min(free, settings.slots))
        return max(0, min(window, settings.window_max, room))
    lent = work.lending.waiting
    usable = min(settings.slots, live if roster.may_start else live - lent)
    # A packed task is one for the coordinator, however many workers have parts of it.
    return max(0, lent + max(0, min(usable, settings.window_max, room)) - work.lending.apart)
