"""Aggregates: the expensive answer, ready before anyone asks.

Source, partitions, states made of these on workers, a fixed tree in which states are merged,
values, and a version that is published as a whole. Every node of the tree is known by a hash of
what it is made from, so that a run costs what has changed, and a read costs microseconds.
"""

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
