"""One no-op after the other: how long a caller waits for a result.

All contenders are there at once, and by turns each does 100 round trips: how long one takes changes
from second to second, for all alike.
"""

from time import perf_counter

from tests.benchmarks.case import FARM, MEMORY, PPE, UNDURABLE, Case, Goal, Order
from tests.benchmarks.contenders import opened
from tests.benchmarks.functions import noop

__all__ = ["CASE"]

P50 = "p50_ms"
P99 = "p99_ms"
PARTS = 20


def measure(order: Order) -> dict[str, float]:
    """The median and the 99th percentile of submit and result."""
    times = []
    with opened(order) as contender:
        for _ in range(PARTS):
            order.turn()
            for _ in range(order.size // PARTS):
                began = perf_counter()
                contender.submit(noop).result()
                times.append(perf_counter() - began)
    times.sort()
    return {
        P50: 1000 * times[len(times) // 2],
        P99: 1000 * times[min(len(times) - 1, len(times) * 99 // 100)],
    }


CASE = Case(
    name="round-trip",
    title="round trip of one no-op",
    contenders=(FARM, MEMORY, UNDURABLE, PPE),
    size=2_000,
    quick=20,
    parts=PARTS,
    measure=measure,
    goals=(
        Goal(P50, over=(PPE,), at_most=5.0),
        Goal(P50, contender=MEMORY, over=(PPE,), at_most=3.0),
        Goal(P50, contender=UNDURABLE, over=(PPE,), at_most=3.0),
        *(Goal(P99, contender=contender, over=(PPE,)) for contender in (FARM, MEMORY, UNDURABLE)),
    ),
)
