"""Where rows come from, partition by partition."""

from farm_scheduler.aggregates.sources.base import Opened, Partition, PartitionError, Source
from farm_scheduler.aggregates.sources.files import Files

__all__ = ["Files", "Opened", "Partition", "PartitionError", "Source"]
