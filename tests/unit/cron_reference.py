"""What a cron expression means, the slow and obvious way: every minute is looked at."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache

MINUTE = timedelta(minutes=1)
NONE = timedelta(0)
CORRECTION = timedelta(hours=3)
LOW_HIGH = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))


def values(text, low, high):
    """The set that a plain field names."""
    found = set()
    for term in text.split(","):
        span, _, step = term.partition("/")
        if span == "*":
            lo, hi = low, high
        elif "-" in span:
            lo, hi = map(int, span.split("-"))
        else:
            lo = int(span)
            hi = high if step else lo
        found.update(range(lo, hi + 1, int(step or 1)))
    return found


class Plain:
    """An expression of numbers, ranges, steps and lists."""

    def __init__(self, text):
        self.parts = text.split()
        fields = [values(part, *LOW_HIGH[i]) for i, part in enumerate(self.parts)]
        self.minutes, self.hours, self.days, self.months, weekdays = fields
        self.weekdays = {day % 7 for day in weekdays}
        self.fixed = not any(part.startswith("*") for part in self.parts[:2])
        self.both = any(part.startswith("*") for part in (self.parts[2], self.parts[4]))

    def matches(self, wall):
        if (
            wall.minute not in self.minutes
            or wall.hour not in self.hours
            or wall.month not in self.months
        ):
            return False
        day = wall.day in self.days
        weekday = (wall.weekday() + 1) % 7 in self.weekdays
        return (day and weekday) if self.both else (day or weekday)


@lru_cache(1)
def shown(zone, begin, end):
    """Each minute, what the clocks show then, and by how much that is not the next minute."""
    found, before = [], None
    at = begin
    while at < end:
        wall = at.astimezone(zone).replace(tzinfo=None)
        jump = NONE if before is None else wall - before - MINUTE
        found.append((at, wall, jump))
        before = wall
        at += MINUTE
    return found


def fires(text, zone, begin, end, dst="cron"):
    """Every instant in ``(begin, end)``, by going through what the clocks show."""
    plain = Plain(text)
    fills, repeats = {
        "cron": (plain.fixed, not plain.fixed),
        "skip": (False, False),
        "both": (True, True),
    }[dst]
    found, seen = set(), set()
    for at, wall, jump in shown(zone, begin - timedelta(days=2), end):
        if jump:
            if MINUTE <= jump <= CORRECTION and fills:
                left_out = (wall - n * MINUTE for n in range(1, jump // MINUTE + 1))
                if any(plain.matches(one) for one in left_out):
                    found.add(at)
            if jump < -CORRECTION:
                seen.clear()
        if plain.matches(wall) and (repeats or wall not in seen):
            found.add(at)
        seen.add(wall)
    return sorted(one.astimezone(UTC) for one in found if begin < one < end)


def day(*numbers):
    return datetime(*numbers, tzinfo=UTC)
