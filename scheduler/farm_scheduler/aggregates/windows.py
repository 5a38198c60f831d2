"""Windows of time: how long they are, where they begin, and which lie inside which.

A window is half open, ``[start, end)``, and is known by its start in microseconds since 1970, UTC.
Windows shorter than a day are counted from 1970 in UTC; days and longer ones are those of the
calendar in one zone, so that a day may have 23 or 25 hours.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from farm.errors import ConfigError

__all__ = ["CALENDAR_SPAN", "Level", "Levels", "chunk_of", "chunk_span", "instant", "parse_level"]

SECOND = 1_000_000
DAY = 86_400 * SECOND
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
UNITS = {"s": SECOND, "m": 60 * SECOND, "h": 3600 * SECOND}
CALENDAR = ("d", "w", "mo", "q", "y")
WORDS = {
    "second": "s", "minute": "m", "hour": "h", "day": "d",
    "week": "w", "month": "mo", "quarter": "q", "year": "y",
}  # fmt: skip
"""How a window of one unit is asked for in a read."""
CALENDAR_SPAN = tuple(
    (datetime(year, 1, 1, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1) for year in (2, 9999)
)
"""From when on, and until when, an instant has windows of all lengths in every zone."""
INSIDE = {"d": "d", "w": "d w", "mo": "d mo", "q": "d mo q", "y": "d mo q y"}
"""Which calendar units make up which."""


class Level(NamedTuple):
    """A length of windows: ``Level(15, "m")``; ``str()`` writes it as ``parse_level`` reads it."""

    times: int
    unit: str

    def __str__(self) -> str:
        return f"{self.times}{self.unit}"

    @property
    def step(self) -> int:
        """Microseconds; 0 for windows of the calendar."""
        return self.times * UNITS[self.unit] if self.unit in UNITS else 0

    @property
    def word(self) -> str:
        """The word for one such window (``hour``), or the level itself (``15m``)."""
        return next((w for w, u in WORDS.items() if (1, u) == self), str(self))


def parse_level(text: str, what: str = "every") -> Level:
    """Read ``15m``, ``1h``, ``1d``, ``1w``, ``1mo``, ``1q``, ``1y``; raises ``ConfigError``."""
    match = re.fullmatch(r"\s*(\d+)\s*([a-z]+)\s*", str(text))
    level = Level(int(match[1]), match[2]) if match else None
    if level is None or (level.unit not in UNITS and level.unit not in CALENDAR):
        raise ConfigError(
            f"{what} is {text!r}; write a length such as 1m, 15m, 1h, 1d, 1w, 1mo, 1q or 1y"
        )
    if level.unit in CALENDAR:
        if level.times != 1:
            raise ConfigError(f"{what} is {text!r}; days and longer come singly: 1{level.unit}")
    elif level.step <= 0 or DAY % level.step:
        raise ConfigError(f"{what} is {text!r}; a day must be a whole number of such windows")
    elif level.step == DAY:
        raise ConfigError(f"{what} is {text!r}; a day is written 1d")
    return level


class Levels:
    """The levels of one aggregate, the finest first, and the zone of its calendar.

    ``below[level]`` is the level that it is made of: the coarsest whose windows lie inside its own.
    Raises ``ConfigError`` if a level is made of nothing.
    """

    def __init__(self, every: Level, rollup: Sequence[Level], zone: str = "UTC") -> None:
        self.zone = ZoneInfo(zone)
        self.all = (every, *rollup)
        self.below: dict[Level, Level] = {}
        if len(set(self.all)) != len(self.all):
            raise ConfigError("rollup names a level twice, or names that of every again")
        for at, level in enumerate(self.all[1:], 1):
            inside = [one for one in self.all[:at] if self._nests(one, level)]
            if not inside:
                raise ConfigError(self._why_not(every, level))
            self.below[level] = inside[-1]

    def _nests(self, fine: Level, coarse: Level) -> bool:
        if coarse.step:
            return bool(fine.step) and coarse.step % fine.step == 0 and coarse.step > fine.step
        if fine.step:
            return all(offset % fine.step == 0 for offset in _offsets(self.zone.key))
        return fine.unit in INSIDE[coarse.unit].split() and fine != coarse

    def _why_not(self, every: Level, level: Level) -> str:
        if every.step and not level.step:
            return (
                f"windows of {every} in UTC do not fit into days of {self.zone.key}, which is not "
                f"a multiple of {every} away from UTC at all times; use every='15m' or zone='UTC'"
            )
        return f"rollup has {level}, which is not made of whole windows of any level before it"

    def start(self, level: Level, at: int) -> int:
        """The start of the window that has this instant."""
        if level.step:
            return at - at % level.step
        return _calendar_start(self.zone.key, level.unit, at)

    def end(self, level: Level, start: int) -> int:
        """The end of the window with this start."""
        if level.step:
            return start + level.step
        following = _following(level.unit, _local_date(self.zone.key, start))
        return _midnight(self.zone.key, following)

    def windows(self, level: Level, since: int, until: int) -> Iterator[int]:
        """Starts of all windows that have an instant of ``[since, until)``."""
        at = self.start(level, since)
        while at < until:
            yield at
            at = self.end(level, at)

    def parents(self, level: Level, starts: Sequence[int]) -> list[int]:
        """For windows of the level below, the start of the window of ``level`` that has each."""
        found: list[int] = []
        end, own = -(1 << 62), 0
        for start in starts:
            if not own <= start < end:
                own = self.start(level, start)
                end = self.end(level, own)
            found.append(own)
        return found

    def parse(self, level: Level, text: str) -> int:
        """The start of the window that somebody wrote as ``2015-09-12T13``, or as ``2015-09``.

        Local time of the zone unless it says its own. Raises ``ValueError`` naming the text.
        """
        return self.start(level, instant(text, self.zone))

    def show(self, level: Level, start: int) -> str:
        """The start as people write it: a date for days and longer, else with the time in UTC."""
        if level.step:
            moment = EPOCH + timedelta(microseconds=start)
            return moment.strftime("%Y-%m-%dT%H:%M" + (":%SZ" if level.step < UNITS["m"] else "Z"))
        local = _local_date(self.zone.key, start)
        return {"mo": f"{local:%Y-%m}", "q": f"{local:%Y-%m}", "y": f"{local:%Y}"}.get(
            level.unit, f"{local:%Y-%m-%d}"
        )


def chunk_of(level: Level, start: int) -> str:
    """The chunk, a span of the calendar in UTC, that a window is kept in with its neighbours.

    Chunks are what is computed again when something in them changes: up to some thousands of
    windows each, and of longer windows a few dozen.
    """
    moment = EPOCH + timedelta(microseconds=start)
    if level.step and level.step < UNITS["h"]:
        return f"{moment:%Y-%m-%d}"
    if level.step or level.unit == "d":
        return f"{moment:%Y-%m}"
    return "all" if level.unit == "y" else f"{moment:%Y}"


def chunk_span(chunk: str) -> tuple[int, int]:
    """The first and one past the last instant at which a window of a chunk may begin."""
    if chunk == "all":
        return -(1 << 63), (1 << 63) - 1
    day = datetime(*(int(one) for one in (chunk + "-01-01").split("-")[:3]), tzinfo=UTC)  # type: ignore[misc,arg-type]
    unit = {1: "y", 2: "mo", 3: "d"}[chunk.count("-") + 1]
    following = _following(unit, day.replace(tzinfo=None)).replace(tzinfo=UTC)
    return _microseconds(day), _microseconds(following)


def instant(text: str, zone: ZoneInfo) -> int:
    """Microseconds since 1970 of an ISO date or time, which may stop at year, month or hour.

    Raises ``ValueError`` naming the text.
    """
    match = re.fullmatch(r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:[T ](\d\d)(.*))?)?)?", text.strip())
    if not match:
        raise ValueError(
            f"{text!r} is not a time; write 2015, 2015-09, 2015-09-12 or 2015-09-12T13"
        )
    year, month, day, hour, rest = match.groups()
    if rest is not None and not rest.startswith(":"):
        rest = ":00" + rest
    try:
        moment = datetime.fromisoformat(
            f"{year}-{month or '01'}-{day or '01'}T{hour or '00'}{rest or ':00'}"
        )
    except ValueError as error:
        raise ValueError(f"{text!r} is not a time: {error}") from None
    return _microseconds(moment if moment.tzinfo else moment.replace(tzinfo=zone))


def _microseconds(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


@lru_cache(maxsize=256)
def _offsets(zone: str) -> frozenset[int]:
    """Every distance from UTC, in microseconds, that the zone has had or will have 1970 to 2070."""
    info = ZoneInfo(zone)
    found = set()
    for day in range(0, 36525, 7):
        offset = (EPOCH + timedelta(days=day)).astimezone(info).utcoffset()
        found.add((offset or timedelta()) // timedelta(microseconds=1))
    return frozenset(found)


def _local_date(zone: str, at: int) -> datetime:
    """The local date of an instant, as a naive midnight."""
    local = (EPOCH + timedelta(microseconds=at)).astimezone(ZoneInfo(zone))
    return datetime(local.year, local.month, local.day)  # noqa: DTZ001 - a date, in no zone yet


def _first(unit: str, day: datetime) -> datetime:
    if unit == "w":
        return day - timedelta(days=day.weekday())
    if unit == "d":
        return day
    month = {"mo": day.month, "q": day.month - (day.month - 1) % 3, "y": 1}[unit]
    return day.replace(day=1, month=month)


def _following(unit: str, day: datetime) -> datetime:
    if unit in ("d", "w"):
        return day + timedelta(days=1 if unit == "d" else 7)
    months = day.year * 12 + day.month - 1 + {"mo": 1, "q": 3, "y": 12}[unit]
    return day.replace(year=months // 12, month=months % 12 + 1)


@lru_cache(maxsize=65_536)
def _midnight(zone: str, day: datetime) -> int:
    """The first instant of a local date; where midnight does not exist, the first after it.

    A date that the zone leaves out has no instant: its start is that of the date that follows.
    """
    info = ZoneInfo(zone)
    at = _microseconds(day.replace(tzinfo=info))  # before a gap as if it were not there
    back = (EPOCH + timedelta(microseconds=at)).astimezone(info).replace(tzinfo=None)
    if back == day:
        return at
    return _change_after(info, at - DAY - DAY, at + DAY, day)


def _change_after(info: ZoneInfo, low: int, high: int, day: datetime) -> int:
    """The first instant, to the second, at which local time has reached a date."""
    low, high = low // SECOND, high // SECOND
    found = bisect_right(
        range(low, high + 86_400),
        0,
        key=lambda at: int(
            (EPOCH + timedelta(seconds=at)).astimezone(info).replace(tzinfo=None) >= day
        ),
    )
    return (low + found) * SECOND


@lru_cache(maxsize=65_536)
def _calendar_start(zone: str, unit: str, at: int) -> int:
    return _midnight(zone, _first(unit, _local_date(zone, at)))
