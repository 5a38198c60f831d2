"""Times, fires and their fates as people read and write them."""

import json
import shlex
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from farm.cli.words import seconds_text

if TYPE_CHECKING:
    from farm_scheduler.core import Row

__all__ = ["FilesArgument", "duration", "fate", "instant", "local", "local_zone", "written"]

UNITS = (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1))

FilesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="FILE...",
        help="Schedules: *.toml, *.py, or the name of a module. Default: schedules.toml.",
        show_default=False,
    ),
]


def instant(text: str, option: str) -> int:
    """Seconds since 1970 of a date or time as ISO writes it; in UTC unless it says otherwise."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{option} is {text!r}; write 2026-03-08, 2026-03-08T02:30 or 2026-03-08T02:30-05:00"
        ) from None
    return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp())


def local(at: float, tz: str) -> str:
    """An instant as clocks in a zone show it, with their offset."""
    from farm_scheduler.cron import zone

    return datetime.fromtimestamp(at, UTC).astimezone(zone(tz)).isoformat(" ", "seconds")


def duration(seconds: float) -> str:
    """A duration as files have it: ``90d``, ``30s``, ``250ms``."""
    for unit, size in UNITS:
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size:.0f}{unit}"
    return f"{seconds * 1000:.0f}ms"


def written(value: Any) -> str:
    """An option of a schedule as a person reads it: a command as a shell has it."""
    if isinstance(value, float):
        return duration(value)
    if isinstance(value, tuple | list) and all(isinstance(one, str) for one in value):
        return shlex.join(value)
    if isinstance(value, str):
        return value
    return json.dumps(value, default=str, ensure_ascii=False)


def local_zone() -> str:
    """The zone of this machine, if it can be known; else UTC."""
    import os
    from pathlib import Path

    named = os.environ.get("TZ", "").removeprefix(":")
    if named and not named.startswith("/"):
        return named
    target = str(Path("/etc/localtime").resolve())
    return target.partition("zoneinfo/")[2] or "UTC"


def fate(row: "Row", into: str = "") -> str:
    """What became of a fire, in a line; ``into`` is the time of the one that ran in its stead."""
    if row.state == "ran":
        took = seconds_text(max((row.ended or 0) - (row.begun or 0), 0))
        return f"ran: {row.outcome}, {took}" + (f": {row.detail}" if row.detail else "")
    if row.state == "coalesced":
        return f"coalesced into {into or row.into}"
    if row.state == "skipped":
        return f"skipped: {row.reason}" + (f": {row.detail}" if row.detail else "")
    return str(row.state)
