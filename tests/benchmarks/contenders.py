"""Opens what is compared, each with two workers, and warms it up.

Warm-up is the same for all: enough waiting tasks for both workers to have started, then no-ops.
"""

import gc
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

from tests.benchmarks.case import MEMORY, POOL, PPE, UNDURABLE, WORKERS, Order
from tests.benchmarks.functions import nap, noop

__all__ = ["opened"]

NAPS = 16
NAP_SECONDS = 0.02
NOOPS = 1000


@contextmanager
def opened(order: Order) -> Iterator[Any]:
    """The order's executor or pool, warm; its processes are gone afterwards."""
    with _open(order.contender, order) as contender:
        naps, noops = min(NAPS, order.size), min(NOOPS, order.size)
        if order.contender == POOL:
            replies = [contender.apply_async(nap, (NAP_SECONDS,)) for _ in range(naps)]
            replies += [contender.apply_async(noop) for _ in range(noops)]
            for reply in replies:
                reply.get()
        else:
            futures = [contender.submit(nap, NAP_SECONDS) for _ in range(naps)]
            futures += [contender.submit(noop) for _ in range(noops)]
            for future in futures:
                future.result()
            del futures, future
        gc.collect()
        yield contender


@contextmanager
def _open(name: str, order: Order) -> Iterator[Any]:
    if name == POOL:
        with multiprocessing.Pool(WORKERS) as pool:
            yield pool
    elif name.startswith(PPE):
        with ProcessPoolExecutor(WORKERS) as executor:
            yield executor
    else:
        # Here, so that the processes that are forked above know nothing of it.
        import farm

        directory = None if name == MEMORY else order.folder / "state"
        with farm.local(workers=WORKERS, directory=directory) as client:
            yield client.options(durable=False) if name == UNDURABLE else client
