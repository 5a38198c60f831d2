"""What a cron expression means, the slow and obvious way; and random ones to try."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache

NY, HOWE = "America/New_York", "Australia/Lord_Howe"
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


CHANGES = [
    ("America/New_York", day(2026, 3, 7)),
    ("America/New_York", day(2026, 10, 31)),
    ("Australia/Lord_Howe", day(2026, 4, 4)),
    ("Australia/Lord_Howe", day(2026, 10, 3)),
    ("Pacific/Apia", day(2011, 12, 29)),
    ("America/Sao_Paulo", day(2018, 11, 3)),
    ("America/Sao_Paulo", day(2018, 2, 17)),
    ("Antarctica/Troll", day(2026, 3, 28)),
    ("Antarctica/Troll", day(2026, 10, 24)),
    ("Europe/Dublin", day(2026, 10, 24)),
    ("Pacific/Chatham", day(2026, 9, 26)),
    ("America/St_Johns", day(2010, 11, 6)),
    ("Africa/Casablanca", day(2026, 3, 21)),
    ("Asia/Kathmandu", day(2026, 3, 21)),
    ("UTC", day(2026, 3, 21)),
]


def random_field(rng, low, high):
    def number():
        return rng.randint(low, high)

    kind = rng.randrange(6)
    if kind == 0:
        return f"*/{rng.randint(1, (high - low) // 2 + 1)}"
    if kind == 1:
        a, b = sorted((number(), number()))
        return f"{a}-{b}" + rng.choice(["", f"/{rng.randint(1, 7)}"])
    if kind == 2:
        return ",".join(str(number()) for _ in range(rng.randint(2, 4)))
    return rng.choice(["*", str(number())])


def random_expression(rng):
    return " ".join(
        [
            random_field(rng, 0, 59),
            random_field(rng, 0, 23) if rng.random() < 0.5 else str(rng.randrange(4)),
            rng.choice(["*", "*", "*", random_field(rng, 1, 31)]),
            rng.choice(["*", "*", "*", random_field(rng, 1, 12)]),
            rng.choice(["*", "*", "*", random_field(rng, 0, 6)]),
        ]
    )
