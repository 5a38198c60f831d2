"""A map over many trivial items: the farm's defaults against every usual chunk size."""

from time import perf_counter

from tests.benchmarks.case import FARM, POOL, PPE, Case, Goal, Order
from tests.benchmarks.contenders import opened
from tests.benchmarks.functions import double

__all__ = ["CASE"]

RATE = "items_per_second"
CHUNKED = {f"{PPE} chunksize={size}": size for size in (1, 100, 1000)}
FEWER = 10
"""So many times fewer items where each is a message of its own."""


def measure(order: Order) -> dict[str, float]:
    """Items a second, from the call of map to the last result."""
    chunk = CHUNKED.get(order.contender)
    size = max(1, order.size // FEWER) if chunk == 1 else order.size
    with opened(order) as contender:
        began = perf_counter()
        if chunk:
            results = list(contender.map(double, range(size), chunksize=chunk))
        else:
            results = list(contender.map(double, range(size)))
        took = perf_counter() - began
    if results != [number + number for number in range(size)]:
        raise AssertionError("map gave wrong results")
    return {RATE: size / took}


CASE = Case(
    name="map",
    title="map over trivial items",
    contenders=(FARM, *CHUNKED, POOL),
    size=200_000,
    quick=2_000,
    measure=measure,
    goals=(Goal(RATE, over=tuple(CHUNKED), at_least=1.0), Goal(RATE, over=(POOL,))),
)
