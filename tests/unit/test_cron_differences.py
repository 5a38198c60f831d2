"""Cron expressions by another library, croniter: where it differs, that is explained."""

import random
import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter

from farm_scheduler.cron import next_fires, parse
from farm_scheduler.cron.stretches import Stretches
from tests.conftest import REPOSITORY
from tests.unit.cron_reference import CHANGES, NY, day, random_expression, random_field

NEVER = datetime(9999, 1, 1, tzinfo=UTC)
TABLE = REPOSITORY / "docs" / "decisions" / "0186-where-croniter-differs.md"
EXPLAINED = re.findall(r"^\| (a [^|]+|near [^|]+) \|", TABLE.read_text(), re.MULTILINE)
"""Every difference from croniter is of one of these kinds."""


@pytest.mark.parametrize(
    ("kind", "expression", "tz", "after", "ours", "theirs"),
    [
        (0, "30 0 */2 * MON", "UTC", day(2026, 3, 10), "2026-03-23 00:30", "2026-03-11 00:30"),
        (1, "5-5 * * * *", "UTC", day(2026, 3, 7, 12), "2026-03-07 12:05", "2026-03-07 12:01"),
        (2, "30 1 * * *", NY, day(2026, 11, 1, 5, 40), "2026-11-02 01:30", "2026-11-01 01:30"),
        (
            2, "0 10 * * *", "Pacific/Apia", day(2011, 12, 29, 21),
            "2011-12-31 10:00", "2011-12-31 00:00",
        ),
    ],
)  # fmt: skip
def test_the_table_of_differences_is_true(kind, expression, tz, after, ours, theirs):
    local = after.astimezone(ZoneInfo(tz))
    found = croniter(expression, local).get_next(datetime)
    (own,) = next_fires(expression, tz, after, 1)
    assert (f"{own:%Y-%m-%d %H:%M}", f"{found:%Y-%m-%d %H:%M}") == (ours, theirs)
    assert kind_of_difference(expression, ZoneInfo(tz), after, own, found) == EXPLAINED[kind]


def kind_of_difference(expression, zone, after, ours, theirs):
    parts = expression.split()[-5:]
    restricted = parts[2] != "*" and parts[4] != "*"
    if restricted and any(part.startswith("*/") for part in (parts[2], parts[4])):
        return EXPLAINED[0]
    if re.search(r"\b(\d+)-\1\b", expression):
        return EXPLAINED[1]
    stretches = Stretches.of(zone)
    first, last = min(ours, theirs).timestamp(), max(ours, theirs).timestamp()
    begin = int(min(first, after.timestamp())) - 86_400
    if stretches.at(begin).end <= last + 86_400:
        return EXPLAINED[2]
    return None


def special_expression(rng):
    """One with what only some crons know, and the same as croniter writes it."""
    parts = random_expression(rng).split()
    weekday = rng.randrange(7)
    place, ours, theirs = rng.choice(
        [
            (2, "L", "L"),
            (4, f"{weekday}L", f"L{weekday}"),
            (4, f"{weekday}#{rng.randint(1, 5)}", None),
            (4, rng.choice(["MON-FRI", "SAT,SUN", "TUE#2"]), None),
            (3, rng.choice(["JAN", "MAR-OCT", "FEB,NOV"]), None),
        ]
    )
    if "L" in ours or "#" in ours:
        parts[2] = parts[4] = "*"
    second = rng.choice([[], [], [random_field(rng, 0, 59)]])
    own, other = ([*parts[:place], one, *parts[place + 1 :]] for one in (ours, theirs or ours))
    return " ".join([*second, *own]), " ".join([*other, *second])


def some_instant(rng, zone):
    """At any time; or near one at which the clocks of a zone were changed."""
    near = [begin for tz, begin in CHANGES if tz == zone.key]
    if near and rng.random() < 0.3:
        return rng.choice(near) + timedelta(minutes=rng.randrange(-1440, 2880))
    return datetime.fromtimestamp(rng.randint(1_500_000_000, 1_900_000_000), UTC)


def test_croniter_differs_only_where_that_is_explained():
    rng = random.Random(6)
    zones = [ZoneInfo(tz) for tz in sorted({tz for tz, _ in CHANGES} | {"UTC"})]
    compared, differences = 0, dict.fromkeys(EXPLAINED, 0)
    while compared < 1000:
        expression = written = random_expression(rng)
        if compared % 2:
            expression, written = special_expression(rng)
        zone = rng.choice(zones)
        after = some_instant(rng, zone)
        try:
            parse(expression)
        except ValueError:
            continue
        compared += 1
        theirs = croniter(written, after.astimezone(zone)).get_next(datetime)
        (ours,) = next_fires(expression, zone, after, 1) or [NEVER]
        if ours.timestamp() != theirs.timestamp():
            kind = kind_of_difference(expression, zone, after, ours, theirs)
            assert kind is not None, (expression, zone, after, ours, theirs)
            differences[kind] += 1
    assert all(differences.values()), differences
    assert max(differences.values()) < compared // 10, differences
