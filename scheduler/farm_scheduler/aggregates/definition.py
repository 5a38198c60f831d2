"""An aggregate: what is computed of which rows, by what, how often, and what is promised of it."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from farm.errors import ConfigError
from farm.imports import for_the_farm
from farm.model import Duration, seconds
from farm_scheduler.aggregates.measures import Count, Measure
from farm_scheduler.aggregates.sources import Source, check_source
from farm_scheduler.aggregates.windows import WORDS, Levels, parse_level

__all__ = ["Definition"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True)
class Definition:
    """What an aggregate is, without what can be done with it; see ``Aggregate``."""

    name: str
    source: Source
    by: Sequence[str] = ()
    every: str = "1h"
    rollup: Sequence[str] = ()
    measures: Mapping[str, Measure] = field(default_factory=lambda: {"rows": Count()})
    schedule: str = ""
    lateness: Duration = 0.0
    drop_after: Duration | None = None
    fresh_within: Duration | None = None
    zone: str = "UTC"
    keep: Duration = "7d"

    def __post_init__(self) -> None:
        try:
            for what in ("by", "rollup"):
                object.__setattr__(self, what, _texts(what, getattr(self, what)))
            self._check()
        except ConfigError as error:
            raise ConfigError(f"aggregate {self.name!r}: {error}") from None

    def _check(self) -> None:
        if not isinstance(self.name, str) or not NAME.fullmatch(self.name):
            raise ConfigError("its name must be letters, digits, '.', '_' and '-', 100 at most")
        _checked("its source", lambda: check_source(self.source))
        if not isinstance(self.measures, Mapping):
            raise ConfigError(f"measures is {self.measures!r}; write {{'rows': Count()}}")
        if not self.measures:
            raise ConfigError("it has no measures, as in measures={'rows': Count()}")
        for name, measure in self.measures.items():
            if not isinstance(measure, Measure):
                raise ConfigError(f"measure {name!r} is {measure!r}; write for instance Count()")
            _checked(f"measure {name!r}", measure.check)
        _check_zone(self.zone)
        words = {*WORDS, "window", "fresh", "as_of", "version"}
        for column in self.by:
            if column in words:
                raise ConfigError(f"by has {column!r}, which in a read names a window of time")
        if not self.levels.all[0].step:
            raise ConfigError(f"every is {self.every!r}; the finest windows are shorter than a day")
        self._check_columns()
        self._check_durations()

    def _check_columns(self) -> None:
        """Tables have a column for each of ``by``, the window and each measure."""
        taken: set[str] = {one.word if one.times == 1 else "window" for one in self.levels.all}
        for column in self.by:
            if column in taken:
                raise ConfigError(f"by has {column!r} twice")
            taken.add(column)
        for name in self.measures:
            if name in taken:
                raise ConfigError(
                    f"measure {name!r} is called as a column of tables is already; call it "
                    "something else"
                )

    def _check_durations(self) -> None:
        for what in ("lateness", "drop_after", "fresh_within", "keep"):
            value = getattr(self, what)
            if value is not None:
                seconds(value, what)
        if self.schedule and not for_the_farm():  # whose scheduler stops this entry alone
            _check_cron(self.schedule)

    @cached_property
    def levels(self) -> Levels:
        """The levels of time."""
        every = parse_level(self.every)
        return Levels(every, [parse_level(one, "rollup") for one in self.rollup], self.zone)

    def described(self) -> dict[str, Any]:
        """What a reader needs to know who has a version only."""
        return {
            "by": list(self.by),
            "levels": [str(one) for one in self.levels.all],
            "zone": self.zone,
            "measures": {name: str(one) for name, one in self.measures.items()},
            "schedule": self.schedule,
            "lateness": seconds(self.lateness),
            "keep": seconds(self.keep),
            "fresh_within": None if self.fresh_within is None else seconds(self.fresh_within),
            "source": self.source.identity(),
        }


def _checked(what: str, check: Callable[[], object]) -> None:
    """Whatever the user's own code raises there is what is wrong with the aggregate."""
    try:
        check()
    except ConfigError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise ConfigError(f"{what} cannot be checked: {reason}") from error


def _texts(what: str, given: object) -> tuple[str, ...]:
    """One text, or several."""
    found = (given,) if isinstance(given, str) else given
    if isinstance(found, Sequence) and all(isinstance(one, str) for one in found):
        return tuple(found)
    example = "['channel']" if what == "by" else "['1d', '1mo']"
    raise ConfigError(f"{what} is {given!r}; write {what}={example}")


def _check_zone(zone: str) -> None:
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError):
        raise ConfigError(
            f"there is no time zone {zone!r}; write for instance Europe/Berlin"
        ) from None


def _check_cron(expression: str) -> None:
    from farm_scheduler.cron import parse  # noqa: PLC0415 - workers need no cron

    if not isinstance(expression, str):
        raise ConfigError(f"schedule is {expression!r}; write a cron expression, '0 * * * *'")
    try:
        parse(expression)
    except ValueError as error:
        raise ConfigError(f"schedule: {error}") from None
