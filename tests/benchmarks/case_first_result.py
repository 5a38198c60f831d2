"""From nothing to the first result of a farm on this machine."""

from time import perf_counter

from tests.benchmarks.case import FARM, MEMORY, PPE, WORKERS, Case, Goal, Order
from tests.benchmarks.functions import noop

__all__ = ["CASE"]

SECONDS = "first_result_seconds"
CLOSE = "close_seconds"


def measure(order: Order) -> dict[str, float]:
    """Seconds from the call that opens it to the first result, then to close it. Imports apart."""
    if order.contender == PPE:
        from concurrent.futures import ProcessPoolExecutor

        began = perf_counter()
        opened = ProcessPoolExecutor(WORKERS)
    else:
        import farm

        began = perf_counter()
        directory = None if order.contender == MEMORY else order.folder / "state"
        opened = farm.local(workers=WORKERS, directory=directory)
    with opened as contender:
        contender.submit(noop).result()
        first = perf_counter()
    return {SECONDS: first - began, CLOSE: perf_counter() - first}


CASE = Case(
    name="first-result",
    title="farm.local() to first result",
    contenders=(FARM, MEMORY, PPE),
    size=1,
    quick=1,
    measure=measure,
    goals=(
        Goal(SECONDS, at_most=1.0),
        Goal(SECONDS, contender=MEMORY, at_most=1.0),
        Goal(CLOSE),
    ),
)
