"""Tasks of 20 ms of pure Python: how much of the machine is left for the work itself."""

import multiprocessing
from multiprocessing.synchronize import Barrier
from statistics import median
from time import perf_counter

from tests.benchmarks.case import BARE, FARM, PPE, WORKERS, Case, Goal, Order
from tests.benchmarks.contenders import opened
from tests.benchmarks.functions import spin

__all__ = ["CASE", "spins_of"]

RATE = "tasks_per_second"
TASK_SECONDS = 0.02
TRIAL = 100_000
TRIALS = 100


def spins_of(seconds: float = TASK_SECONDS) -> int:
    """How far ``spin`` counts in so many seconds, where all workers are busy for a while."""
    with multiprocessing.Pool(WORKERS) as pool:
        return int(TRIAL * seconds / max(pool.map(_trial_seconds, range(WORKERS), chunksize=1)))


def _trial_seconds(_worker: int) -> float:
    """The usual time of a trial."""
    times = []
    for _ in range(TRIALS):
        began = perf_counter()
        spin(TRIAL)
        times.append(perf_counter() - began)
    return median(times)


def measure(order: Order) -> dict[str, float]:
    """Tasks a second, from the first submit to the last result."""
    if order.contender == BARE:
        return {RATE: order.size / _bare(order)}
    with opened(order) as contender:
        began = perf_counter()
        futures = [contender.submit(spin, order.spin) for _ in range(order.size)]
        for future in futures:
            future.result()
        took = perf_counter() - began
    return {RATE: order.size / took}


def _bare(order: Order) -> float:
    """Seconds that two processes take which do nothing but the work, half each."""
    start = multiprocessing.Barrier(WORKERS + 1)
    count = order.size // WORKERS
    processes = [
        multiprocessing.Process(target=_work, args=(start, count, order.spin))
        for _ in range(WORKERS)
    ]
    for process in processes:
        process.start()
    start.wait()
    began = perf_counter()
    for process in processes:
        process.join()
    return perf_counter() - began


def _work(start: Barrier, count: int, *arguments: int) -> None:
    start.wait()
    for _ in range(count):
        spin(*arguments)  # as executors call it: a plain call is compiled to something else


CASE = Case(
    name="pure-python",
    title="tasks of 20 ms of pure Python",
    contenders=(FARM, BARE, PPE),
    size=400,
    quick=8,
    measure=measure,
    goals=(Goal(RATE, over=(BARE,), at_least=0.97), Goal(RATE, over=(PPE,))),
)
