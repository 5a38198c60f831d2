"""When a cron expression fires: wall-clock times of a zone in, instants out.

``next_fires`` is for people and tests; ``Cron`` is what a scheduler keeps. Both are pure: the time
is an argument. An expression is five fields (minute, hour, day of the month, month, day of the
week), six with seconds first, or a macro:

====================  ==========================================================================
``*`` ``a`` ``a-b``   every value, one, a range; ``JAN``-``DEC`` and ``SUN``-``SAT`` are names
``x,y`` ``x/n``       several; every n-th of x (of a single number: of all from there on)
``L`` ``LW`` ``15W``  day of the month: the last, the last from Monday to Friday, the day from
                      Monday to Friday that is nearest to the 15th in its month
``5L`` ``5#3``        day of the week: the last Friday of the month, the third
``H`` ``H(a-b)``      one value, or ``H/n`` every n-th, by a stable hash of the schedule's name:
                      so that not all that is hourly begins in the same minute
``@every 90s``        an interval, counted from 1970; ``@hourly``, ``@daily``, ``@weekly``,
                      ``@monthly``, ``@yearly`` are as in every cron
====================  ==========================================================================

If either day field begins with ``*`` a day has to match both, else one of them, as in Debian's
cron. Parsing and stepping is cronsim's; zones, daylight saving time and the rest is done here.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
from difflib import get_close_matches
from functools import lru_cache
from itertools import islice
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from farm_scheduler.cron.expression import Cron, Every, parse, parse_plain, plain
from farm_scheduler.cron.stretches import Stretches
from farm_scheduler.cron.walk import CALENDAR_END, POLICIES, DstPolicy

__all__ = [
    "CALENDAR_END",
    "POLICIES",
    "Cron",
    "DstPolicy",
    "Every",
    "Stretches",
    "next_fires",
    "parse",
    "parse_plain",
    "plain",
    "zone",
]


def zone(name: str) -> ZoneInfo:
    """The time zone of that name; raises ``ValueError`` if there is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(_no_zone(name)) from None


@lru_cache(1024)
def _no_zone(name: str) -> str:
    """What to say of a name that is none."""
    hint = "names are those of the IANA database, such as 'Europe/Berlin' or 'UTC'"
    if near := get_close_matches(name, available_timezones(), 1):
        hint = f"did you mean {near[0]!r}?"
    return f"there is no time zone {name!r}; {hint}"


def next_fires(
    expression: str,
    tz: str | tzinfo,
    after: datetime,
    count: int,
    *,
    name: str = "",
    dst: DstPolicy = "cron",
) -> list[datetime]:
    """The first ``count`` nominal times strictly after ``after``, in the zone ``tz``, ascending.

    ``after`` must be aware. ``name`` is what ``H`` hashes. ``dst`` says what becomes of wall-clock
    times that do not exist, or exist twice; see ``DstPolicy``. Fewer are returned only where none
    comes within sixty years, or the calendar ends. Raises ``ValueError`` naming the field that is
    wrong, the zone that does not exist, or an expression that can never fire.
    """
    if after.tzinfo is None:
        raise ValueError(f"after={after!r} has no time zone; write datetime.now(UTC), for example")
    if count < 0:
        raise ValueError(f"count is {count}; it must be 0 or more")
    where = zone(tz) if isinstance(tz, str) else tz
    fires = _fires(parse(expression, name), Stretches.of(where), after, dst)
    return [datetime.fromtimestamp(at, UTC).astimezone(where) for at in islice(fires, count)]


def _fires(
    cron: Cron | Every, stretches: Stretches, after: datetime, dst: DstPolicy
) -> Iterator[int]:
    at = cron.next(int(after.timestamp() // 1), stretches, dst)  # it fires at whole seconds
    while at is not None:
        yield at
        at = cron.next(at, stretches, dst)
