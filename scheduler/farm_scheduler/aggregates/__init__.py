"""Aggregates: the expensive answer, ready before anyone asks.

Source, partitions, states made of these on workers, a fixed tree in which states are merged,
values, and a version that is published as a whole. Every node of the tree is known by a hash of
what it is made from, so that a run costs what has changed, and a read costs microseconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from farm_scheduler.aggregates.aggregate import Aggregate, Here
    from farm_scheduler.aggregates.building import Built, NoPartition, build
    from farm_scheduler.aggregates.catalog import Catalog, VersionGone
    from farm_scheduler.aggregates.planning import Plan, make_plan
    from farm_scheduler.aggregates.snapshot import NoSuchRead, Reading, Snapshot
    from farm_scheduler.aggregates.trust import Explained, Verified, explain, verify
    from farm_scheduler.aggregates.view import UnknownAggregate, View

__all__ = [
    "Aggregate",
    "Built",
    "Catalog",
    "Explained",
    "Here",
    "NoPartition",
    "NoSuchRead",
    "Plan",
    "Reading",
    "Snapshot",
    "UnknownAggregate",
    "Verified",
    "VersionGone",
    "View",
    "build",
    "explain",
    "make_plan",
    "verify",
]

# Imported when they are asked for: who lists versions needs neither Arrow nor DuckDB.
_MODULES = {
    "aggregate": ("Aggregate", "Here"),
    "building": ("Built", "NoPartition", "build"),
    "catalog": ("Catalog", "VersionGone"),
    "planning": ("Plan", "make_plan"),
    "snapshot": ("NoSuchRead", "Reading", "Snapshot"),
    "trust": ("Explained", "Verified", "explain", "verify"),
    "view": ("UnknownAggregate", "View"),
}
_LAZY = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        module = import_module(f"{__name__}.{_LAZY[name]}")
        value = globals()[name] = getattr(module, name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
