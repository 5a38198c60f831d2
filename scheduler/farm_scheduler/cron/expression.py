"""A cron expression, parsed once and shared by all schedules that have it."""

from contextlib import suppress
from copy import copy
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

from cronsim import CronSim, CronSimError

from farm.model import seconds
from farm_scheduler.cron.fields import (
    DAY,
    FIELDS,
    MACROS,
    NO_DAY,
    WEEKDAY,
    nearest_weekday,
    spell_out,
    without_nearest,
)
from farm_scheduler.cron.stretches import Stretches
from farm_scheduler.cron.walk import CALENDAR_END, LOOK_SECONDS, DstPolicy, Rule, next_instant

__all__ = ["Cron", "Every", "parse", "parse_plain", "plain"]

EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - a wall clock, of no zone
LONG_AGO = 946_684_800  # 2000-01-01
EVERY = "@every "
PARSED_KEPT = 4096
"""Expressions that are kept parsed."""


class _Steps(CronSim):
    """cronsim's stepping over wall-clock times, and the nearest weekday, which it lacks."""

    def __init__(self, text: str) -> None:
        plain, self.nearest = without_nearest(text)
        parts = plain.split()
        if parts[DAY] == NO_DAY:
            super().__init__(" ".join([*parts[:DAY], "1", *parts[DAY + 1 :]]), EPOCH)
            self.days = set()
        else:
            super().__init__(plain, EPOCH)
        whole = text.split()  # what a day field begins with may be what was taken out of it
        self.day_and = any(whole[at].startswith("*") for at in (DAY, WEEKDAY))

    def match_dom(self, d: date) -> bool:
        """Whether a day of the month matches."""
        if super().match_dom(d):
            return True
        if not self.nearest:  # as of nearly all: it is asked of every day that is passed
            return False
        return any(d.day == nearest_weekday(d.year, d.month, day) for day in self.nearest)

    def __copy__(self) -> "_Steps":
        """One that steps by itself, over the same fields; a tenth of a step cheaper than usual."""
        twin = _Steps.__new__(_Steps)
        twin.__dict__.update(self.__dict__)
        return twin


class Cron:
    """An expression of fields. ``fixed``: it names a time of day, with no ``*`` in it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.fixed = not any(field.startswith("*") for field in text.split()[1:3])
        self._steps = _Steps(text)

    def next(self, after: int, stretches: Stretches, dst: DstPolicy = "cron") -> int | None:
        """The first nominal time after an instant; both are seconds since 1970. None: never."""
        steps = copy(self._steps)  # so that threads can share it

        def next_wall(wall: int) -> int | None:
            return _step(steps, wall)

        return next_instant(next_wall, stretches, after, Rule.of(dst, fixed=self.fixed))


class Every:
    """``@every``: each multiple of an interval since 1970, whatever clocks show."""

    def __init__(self, interval: int) -> None:
        self.interval = interval
        self.fixed = False

    def next(self, after: int, _stretches: Stretches, _dst: DstPolicy = "cron") -> int | None:
        """The first nominal time after an instant; both are seconds since 1970."""
        found = (after // self.interval + 1) * self.interval
        return found if found < CALENDAR_END else None


def _step(steps: _Steps, wall: int) -> int | None:
    try:
        steps.dt = EPOCH + timedelta(seconds=wall)
        found = next(steps)
    except (StopIteration, OverflowError):  # fifty years without, or the end of the calendar
        return None
    return int((found - EPOCH).total_seconds())


def parse(expression: str, name: str = "") -> Cron | Every:
    """An expression of a schedule of that name; raises ``ValueError`` naming the bad field."""
    return parse_plain(plain(expression, name))


def plain(expression: str, name: str = "") -> str:
    """The same without macros and ``H``, in six fields or as ``@every SECONDS``.

    Whatever the name, it means the same from then on: ``parse_plain`` reads it. Raises
    ``ValueError`` naming the bad field; what can never fire only ``parse_plain`` finds.
    """
    return _plain(expression, name if "H" in expression.upper() else "")


@lru_cache(PARSED_KEPT)
def _plain(expression: str, name: str) -> str:
    text = " ".join(expression.split())
    word, _, rest = text.partition(" ")
    if word.lower() == "@every":
        return f"{EVERY}{_interval(expression, rest)}"
    if text.startswith("@"):
        if text.lower() not in MACROS:
            known = ", ".join((*MACROS, "@every 90s"))
            raise ValueError(f"{expression!r} is not known; there are {known}")
        text = MACROS[text.lower()]
    return spell_out(text, name)


@lru_cache(PARSED_KEPT)
def parse_plain(text: str) -> Cron | Every:
    """What ``plain`` made, parsed; raises ``ValueError`` if it can never fire."""
    if text.startswith(EVERY):
        return Every(int(text.removeprefix(EVERY)))
    with suppress(CronSimError):  # of a day that is in none of the months
        cron = Cron(text)
        if cron.next(LONG_AGO, Stretches.of(UTC)) is not None:
            return cron
    days = zip(FIELDS[DAY:], text.split()[DAY:], strict=True)
    said = " and ".join(f"{field.name} {part}" for field, part in days if part != "*")
    raise ValueError(
        f"{text.removeprefix('0 ')!r} can never fire: no date has {said}; write another day, or L "
        "for the last one of a month"
    )


def _interval(expression: str, rest: str) -> int:
    interval = seconds(rest.strip(), f"the interval of {expression!r}")
    if interval < 1 or interval % 1 or interval > LOOK_SECONDS:
        raise ValueError(
            f"the interval of {expression!r} is {interval:g} s; it must be a whole number of "
            "seconds, at least 1 and at most sixty years"
        )
    return int(interval)
