"""The fields of a cron expression: checked one by one, and what cronsim lacks spelled out."""

import calendar
import re
from hashlib import sha256
from typing import NamedTuple

from cronsim.cronsim import CronSimError
from cronsim.cronsim import Field as CronSimField

__all__ = [
    "DAY",
    "FIELDS",
    "MACROS",
    "NO_DAY",
    "WEEKDAY",
    "Field",
    "nearest_weekday",
    "spell_out",
    "without_nearest",
]

MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


class Field(NamedTuple):
    """``low`` and ``high``: what ``H`` chooses from. ``hint``: what else may stand there."""

    name: str
    low: int
    high: int
    hint: str


FIELDS = (
    Field("second", 0, 59, "0-59"),
    Field("minute", 0, 59, "0-59"),
    Field("hour", 0, 23, "0-23"),
    Field("day of the month", 1, 28, "1-31, L, LW or 15W"),
    Field("month", 1, 12, "1-12 or JAN-DEC"),
    Field("day of the week", 0, 6, "0-7 or SUN-SAT, 5L or 5#3"),
)
DAY = 3
WEEKDAY = 5
NO_DAY = "0"
_HASHED = re.compile(r"H(?:\((\d+)-(\d+)\))?(?:/(\d+))?")
_NEAREST = re.compile(r"(\d{1,2})W")
_FROM = re.compile(r"([^-*,/]+)/(\d+)")
_RANGE = re.compile(r"([^-*,/]+)-([^-*,/]+)/\d+")


def spell_out(text: str, name: str) -> str:
    """The same as six plain fields, in capitals; raises ``ValueError`` naming a field that is bad.

    Each ``H`` becomes what the hash of the name, and of the place in which it stands, chooses.
    """
    parts = text.upper().split()
    if len(parts) == len(FIELDS) - 1:
        parts.insert(0, "0")
    if len(parts) != len(FIELDS):
        raise ValueError(
            f"{text!r} has {len(parts)} fields; a cron expression has five (minute, hour, day of "
            "the month, month, day of the week), or six with seconds first"
        )
    return " ".join(
        ",".join(_term(index, term, part, name) for term in part.split(","))
        for index, part in enumerate(parts)
    )


def _term(index: int, term: str, part: str, name: str) -> str:
    """One of the terms of a field, checked and without ``H``."""
    field = FIELDS[index]
    if match := _HASHED.fullmatch(term):
        return _without_step(index, _hashed(field, match, name))
    if index == DAY and (match := _NEAREST.fullmatch(term)) and 1 <= int(match[1]) <= 31:  # noqa: PLR2004
        return term
    try:
        CronSimField(index).parse(term)
    except CronSimError:
        where = "" if term == part else f" in {part!r}"
        raise ValueError(
            f"{field.name}: {term!r}{where} is not one; write * or {field.hint}, ranges a-b, steps "
            "x/n, lists x,y, or H"
        ) from None
    if index == WEEKDAY and (match := _FROM.fullmatch(term)):
        # To Saturday: for cronsim the week ends with a second Sunday, 7.
        term = f"{CronSimField.DOW.int(match[1]) % 7}-{field.high}/{match[2]}"
    return _without_step(index, term)


def _without_step(index: int, term: str) -> str:
    """The same, or the one value of a range that has one: cronsim would step on from there."""
    match = _RANGE.fullmatch(term)
    own = CronSimField(index).int
    return match[1] if match and own(match[1]) == own(match[2]) else term


def _hashed(field: Field, match: re.Match[str], name: str) -> str:
    low, high = field.low, field.high
    if match[1] is not None:
        low, high = int(match[1]), int(match[2])
        widest = 31 if field is FIELDS[DAY] else field.high
        if not field.low <= low <= high <= widest:
            raise ValueError(
                f"{field.name}: {match[0]!r} has no such range; write H(a-b) with "
                f"{field.low} <= a <= b <= {widest}"
            )
    step = int(match[3]) if match[3] else 0
    if match[3] and not 1 <= step <= high - low + 1:
        raise ValueError(f"{field.name}: {match[0]!r} has a step of {step}; it must fit the range")
    digest = sha256(f"{name}\0{field.name}".encode()).digest()
    number = int.from_bytes(digest[:8], "big")
    if not step:
        return str(low + number % (high - low + 1))
    return f"{low + number % step}-{high}/{step}"


def without_nearest(text: str) -> tuple[str, frozenset[int]]:
    """The expression without its ``W`` terms, and the days of those; ``0`` if nothing is left."""
    parts = text.split()
    terms = parts[DAY].split(",")
    nearest = frozenset(int(match[1]) for term in terms if (match := _NEAREST.fullmatch(term)))
    rest = [term for term in terms if not _NEAREST.fullmatch(term)]
    parts[DAY] = ",".join(rest) or NO_DAY
    return " ".join(parts), nearest


def nearest_weekday(year: int, month: int, day: int) -> int | None:
    """The day from Monday to Friday that is nearest to one, in its month; None if there is none.

    A Saturday gives way to the Friday before, a Sunday to the Monday after, unless that is in
    another month: then the 1st gives way to the 3rd, and the last day to two days before.
    """
    first, last = calendar.monthrange(year, month)
    if day > last:
        return None
    weekday = (first + day - 1) % 7
    if weekday == calendar.SATURDAY:
        return day - 1 if day > 1 else day + 2
    if weekday == calendar.SUNDAY:
        return day + 1 if day < last else day - 2
    return day
