"""Schedules: cron that is exact, accounted for, and safe to run twice.

Every nominal time of a schedule ends as exactly one row of a ledger: it ran, another ran in its
stead, or it was skipped, and why. Submitting the same fire twice is one run. The scheduler is a
client of the farm like any other, and may be stopped, restarted or run twice without harm; the farm
itself does not need this package.

``Schedule`` and ``@schedule`` say what is to run when, in Python; a ``schedules.toml`` says the
same. ``farm_scheduler.cron`` has when a cron expression fires. ``docs/schedules.md`` is the guide.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from farm_scheduler.aggregates import Aggregate
    from farm_scheduler.aggregates.measures import (
        Count,
        Custom,
        Distinct,
        Max,
        Mean,
        Min,
        Quantiles,
        Sum,
        TopK,
        Variance,
    )
    from farm_scheduler.aggregates.remote import open_aggregate as open  # noqa: A004 - a name of this package
    from farm_scheduler.aggregates.sources import Files, Partitions, SqlTable
    from farm_scheduler.calls import Interval
    from farm_scheduler.command import CommandFailed
    from farm_scheduler.core.schedule import Schedule
    from farm_scheduler.declare import schedule

__all__ = [
    "Aggregate",
    "CommandFailed",
    "Count",
    "Custom",
    "Distinct",
    "Files",
    "Interval",
    "Max",
    "Mean",
    "Min",
    "Partitions",
    "Quantiles",
    "Schedule",
    "SqlTable",
    "Sum",
    "TopK",
    "Variance",
    "open",
    "schedule",
]

# Imported when they are asked for: a worker runs commands without what parsing cron needs.
_MEASURES = (
    *("Count", "Custom", "Distinct", "Max", "Mean", "Min", "Quantiles", "Sum", "TopK"),
    "Variance",
)
_NAMES = {"open": "open_aggregate"}
_LAZY = {
    "open": "farm_scheduler.aggregates.remote",
    "Aggregate": "farm_scheduler.aggregates",
    **dict.fromkeys(("Files", "Partitions", "SqlTable"), "farm_scheduler.aggregates.sources"),
    **dict.fromkeys(_MEASURES, "farm_scheduler.aggregates.measures"),
    "CommandFailed": "farm_scheduler.command",
    "Interval": "farm_scheduler.calls",
    "Schedule": "farm_scheduler.core.schedule",
    "schedule": "farm_scheduler.declare",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        value = globals()[name] = getattr(import_module(_LAZY[name]), _NAMES.get(name, name))
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
