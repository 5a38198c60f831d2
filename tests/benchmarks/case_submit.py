"""No-op tasks submitted one by one by one client, and all their results read."""

from time import perf_counter

from tests.benchmarks.case import FARM, POOL, PPE, Case, Goal, Order
from tests.benchmarks.contenders import opened
from tests.benchmarks.functions import noop

__all__ = ["CASE"]

RATE = "tasks_per_second"


def measure(order: Order) -> dict[str, float]:
    """Tasks a second, from the first submit to the last result."""
    with opened(order) as contender:
        began = perf_counter()
        if order.contender == POOL:
            replies = [contender.apply_async(noop) for _ in range(order.size)]
            for reply in replies:
                reply.get()
        else:
            futures = [contender.submit(noop) for _ in range(order.size)]
            for future in futures:
                future.result()
        took = perf_counter() - began
    return {RATE: order.size / took}


CASE = Case(
    name="submit",
    title="no-op submit each",
    contenders=(FARM, PPE, POOL),
    size=20_000,
    quick=200,
    measure=measure,
    goals=(Goal(RATE, over=(PPE,), at_least=6.0), Goal(RATE, over=(POOL,))),
)
