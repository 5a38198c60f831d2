"""Measures: what is computed of the rows of a group; ``base`` says what one is."""

from farm_scheduler.aggregates.measures.base import (
    Columns,
    Grouped,
    Kind,
    Measure,
    Values,
    given,
    quoted,
)
from farm_scheduler.aggregates.measures.custom import Custom
from farm_scheduler.aggregates.measures.distinct import Distinct
from farm_scheduler.aggregates.measures.quantiles import Quantiles
from farm_scheduler.aggregates.measures.simple import Count, Max, Mean, Min, Sum, Variance
from farm_scheduler.aggregates.measures.topk import TopK

__all__ = [
    "Columns",
    "Count",
    "Custom",
    "Distinct",
    "Grouped",
    "Kind",
    "Max",
    "Mean",
    "Measure",
    "Min",
    "Quantiles",
    "Sum",
    "TopK",
    "Values",
    "Variance",
    "given",
    "quoted",
]
