"""A client with a hundred tasks beside one with very many: how long the hundred wait."""

from time import monotonic
from typing import Any

from tests.benchmarks.case import FARM, WORKERS, Case, Goal, Order
from tests.benchmarks.functions import begun

__all__ = ["CASE"]

WAIT = "p99_of_share"
SECONDS = "p99_seconds"
TASK_SECONDS = 0.005
TASKS = 100
FEW_TIMES = 4
"""Of the tasks of the second client, so many times are waited for first, to know the pace."""


def measure(order: Order) -> dict[str, float]:
    """The 99th percentile of the second client's waits, and that by what its share would be.

    A wait is the time from submission to the start in a worker. *Its share*: were the farm split
    evenly between the two, the second would have half of the tasks a second that the whole does,
    and so its 99th task would wait 98 times the time that one of its tasks then takes.
    """
    import farm
    from farm.local import LocalFarm

    local = LocalFarm(slots=WORKERS, store=str(order.folder / "farm.db"))
    local.start()
    try:
        first, second = farm.Client(local.address), farm.Client(local.address)
        # Known before: neither how long such tasks take, nor that workers start, is the question.
        for client in (first, second):
            for future in [client.submit(begun, TASK_SECONDS) for _ in range(TASKS)]:
                future.result()
        mine = [first.submit(begun, TASK_SECONDS) for _ in range(order.size)]
        _await_committed(first)
        pace = _pace(mine, TASKS * FEW_TIMES)
        submitted = []
        futures = []
        for _ in range(TASKS):
            submitted.append(monotonic())
            futures.append(second.submit(begun, TASK_SECONDS))
        starts = [future.result() for future in futures]
        second.shutdown()
        first.shutdown(wait=False, cancel_futures=True)
    finally:
        local.stop(drain=False)
    waits = sorted(start - at for start, at in zip(starts, submitted, strict=True))
    p99 = waits[TASKS * 99 // 100 - 1]
    share = (TASKS * 99 // 100 - 1) / (pace / 2)
    return {WAIT: p99 / share, SECONDS: p99}


def _await_committed(client: Any) -> None:
    """Everything has been accepted, so that the one client's submissions do not cost the other."""
    while client.query("status")["journal"]["behind"]:
        pass


def _pace(futures: list[Any], count: int) -> float:
    """Tasks a second, by when those that run now began."""
    at = sum(future.done() for future in futures[: len(futures) - count])
    starts = sorted(future.result() for future in futures[at : at + count])
    return (len(starts) - 1) / (starts[-1] - starts[0])


CASE = Case(
    name="fairness",
    title="100 tasks beside 200,000 of another",
    contenders=(FARM,),
    size=200_000,
    quick=2_000,
    measure=measure,
    goals=(Goal(WAIT, at_most=2.0), Goal(SECONDS)),
)
