"""From wall-clock times to instants, through the days on which clocks are changed."""

from collections.abc import Callable
from typing import Literal, NamedTuple

from farm_scheduler.cron.stretches import Stretches

__all__ = ["CALENDAR_END", "LOOK_SECONDS", "POLICIES", "DstPolicy", "Rule", "next_instant"]

DstPolicy = Literal["cron", "skip", "both"]
"""What becomes of wall-clock times that a change of the clocks leaves out or repeats.

``cron``: as Debian's cron documents it. What has a fixed time of day runs at the first instant
after a gap in which its time would have been, and once, the first time, when its time comes twice;
what has a ``*`` for its minute or hour follows real time: it leaves out and repeats. ``skip``:
nothing in the gap, and the first time only. ``both``: at the first instant after the gap, and both
times. A change of more than three hours is no daylight saving time but a correction: the new time
counts, whatever the policy.
"""
POLICIES: tuple[DstPolicy, ...] = ("cron", "skip", "both")
"""All of them, the default first."""

CORRECTION_SECONDS = 3 * 3600
CALENDAR_END = 253_000_000_000
"""In the year 9987: nothing fires after this."""
LOOK_SECONDS = 60 * 366 * 86_400
"""How far to look: what has its only time in a gap that comes every year never fires."""


class Rule(NamedTuple):
    """``fills``: a time in a gap fires after it. ``repeats``: one that comes twice fires twice."""

    fills: bool
    repeats: bool

    @classmethod
    def of(cls, policy: DstPolicy, *, fixed: bool) -> "Rule":
        """The rule for an expression that names a fixed time of day, or does not."""
        if policy not in POLICIES:
            raise ValueError(f"dst is {policy!r}; it must be one of {', '.join(POLICIES)}")
        if policy == "cron":
            return cls(fills=fixed, repeats=not fixed)
        return cls(fills=policy == "both", repeats=policy == "both")


def next_instant(
    next_wall: Callable[[int], int | None], stretches: Stretches, after: int, rule: Rule
) -> int | None:
    """The first instant after ``after`` at which something fires, or None: not in sixty years.

    ``next_wall`` gives the first wall-clock time after another one that matches; wall-clock times
    are seconds since 1970 as a clock in the zone would have counted them. Goes from stretch to
    stretch: within one, clocks run evenly.
    """
    if after >= CALENDAR_END:  # there zones may have no time to show
        return None
    begin, end, offset, shift = stretches.at(after)
    wall = after + offset
    found: int | None = None
    while begin < min(CALENDAR_END, after + LOOK_SECONDS):
        if -CORRECTION_SECONDS <= shift < 0 and not rule.repeats:
            wall = max(wall, begin + offset - shift - 1)  # what the clocks had shown before
        if found is None or found <= wall or shift < 0:
            found = next_wall(wall)
        if found is None:
            return None
        if found - offset < end:
            return found - offset
        skipped = end + offset  # the first wall-clock time that this stretch has not
        begin, end, offset, shift = stretches.at(end)
        if rule.fills and 0 < shift <= CORRECTION_SECONDS and found < skipped + shift:
            return begin
        wall = begin + offset - 1
    return None
