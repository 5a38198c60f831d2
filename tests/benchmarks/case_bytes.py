"""1 MB of bytes there and back."""

import os
from time import perf_counter

from tests.benchmarks.case import FARM, PPE, Case, Goal, Order
from tests.benchmarks.contenders import opened
from tests.benchmarks.functions import echo

__all__ = ["CASE"]

RATE = "tasks_per_second"
PAYLOAD_BYTES = 1_000_000


def measure(order: Order) -> dict[str, float]:
    """Tasks a second, from the first submit to the last result."""
    data = os.urandom(PAYLOAD_BYTES)
    with opened(order) as contender:
        began = perf_counter()
        futures = [contender.submit(echo, data) for _ in range(order.size)]
        right = sum(future.result() == data for future in futures)
        took = perf_counter() - began
    if right != order.size:
        raise AssertionError(f"{order.size - right} payloads came back changed")
    return {RATE: order.size / took}


CASE = Case(
    name="bytes",
    title="1 MB echoed",
    contenders=(FARM, PPE),
    size=200,
    quick=4,
    measure=measure,
    goals=(Goal(RATE, over=(PPE,), at_least=1.0),),
)
