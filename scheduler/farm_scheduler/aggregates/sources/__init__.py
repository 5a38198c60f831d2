"""Where rows come from, partition by partition."""

from farm_scheduler.aggregates.sources.base import (
    Opened,
    Partition,
    PartitionError,
    Source,
    check_source,
    reason_of,
)
from farm_scheduler.aggregates.sources.derived import Derived
from farm_scheduler.aggregates.sources.files import Files
from farm_scheduler.aggregates.sources.listed import Partitions
from farm_scheduler.aggregates.sources.sqltable import SqlTable

__all__ = [
    "Derived",
    "Files",
    "Opened",
    "Partition",
    "PartitionError",
    "Partitions",
    "Source",
    "SqlTable",
    "check_source",
    "reason_of",
]
