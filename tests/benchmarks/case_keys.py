"""No-op tasks over TCP on loopback, with keys and without: what it costs to seal every message."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

from tests.benchmarks.case import WORKERS, Case, Goal, Order
from tests.benchmarks.functions import nap, noop
from tests.processes import free_ports

__all__ = ["CASE"]

RATE = "tasks_per_second"
KEYS, NO_KEYS = "farm with keys", "farm without keys"
NAPS, NAP_SECONDS, NOOPS = 16, 0.02, 1000


def measure(order: Order) -> dict[str, float]:
    """Tasks a second, from the first submit to the last result."""
    with _opened(order) as client:
        warm = [client.submit(nap, NAP_SECONDS) for _ in range(min(NAPS, order.size))]
        warm += [client.submit(noop) for _ in range(min(NOOPS, order.size))]
        for future in warm:
            future.result()
        began = perf_counter()
        futures = [client.submit(noop) for _ in range(order.size)]
        for future in futures:
            future.result()
        took = perf_counter() - began
    return {RATE: order.size / took}


@contextmanager
def _opened(order: Order) -> Iterator[Any]:
    from farm.client.client import Client
    from farm.keys import LOCAL_TOKEN
    from farm.local import LocalFarm, host_settings

    folder = order.folder / "keys"
    has_keys = order.contender == KEYS
    way = {"token": str(folder / LOCAL_TOKEN) if has_keys else "none", "keys": str(folder)}
    farm = LocalFarm(
        slots=WORKERS,
        store=str(order.folder / "farm.db"),
        listen=f"tcp://127.0.0.1:{free_ports()}",
        coordinator={"keys": str(folder)} if has_keys else {},
        host=host_settings(None, ()) | way,
    )
    farm.start()
    try:
        with Client(farm.address, connect_timeout=30.0, **way) as client:
            yield client
    finally:
        farm.stop()


CASE = Case(
    name="keys",
    title="no-op submit each over TCP",
    contenders=(KEYS, NO_KEYS),
    size=20_000,
    quick=200,
    measure=measure,
    goals=(Goal(RATE, KEYS, over=(NO_KEYS,), at_least=0.9),),
)
