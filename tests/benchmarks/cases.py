"""All cases, in the order in which they are measured."""

from tests.benchmarks import (
    case_aggregates,
    case_backlog,
    case_bytes,
    case_fairness,
    case_far_host,
    case_first_result,
    case_keys,
    case_many_hosts,
    case_map,
    case_overload,
    case_pure_python,
    case_round_trip,
    case_scaling,
    case_schedules,
    case_short_behind_long,
    case_submit,
)
from tests.benchmarks.case import Case

__all__ = ["CASES"]

CASES: dict[str, Case] = {
    module.CASE.name: module.CASE
    for module in (
        case_submit,
        case_keys,
        case_map,
        case_round_trip,
        case_pure_python,
        case_bytes,
        case_first_result,
        case_backlog,
        case_fairness,
        case_short_behind_long,
        case_overload,
        case_schedules,
        case_aggregates,
        case_many_hosts,
        case_scaling,
        case_far_host,
    )
}
