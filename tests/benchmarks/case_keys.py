"""No-op tasks over TCP on loopback, with keys and without: what it costs to seal every message.

Both farms are there at once, and by turns each does a short part of the work. So whatever slows the
machine down for longer than a part, and that is much more than keys do, slows both alike.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter, process_time
from typing import Any

import psutil

from tests.benchmarks.case import FARM, WORKERS, Case, Goal, Order
from tests.benchmarks.functions import nap, noop
from tests.processes import free_ports

__all__ = ["CASE"]

RATE, BARE_RATE = "with_keys_tasks_per_second", "without_keys_tasks_per_second"
CPU, BARE_CPU = "with_keys_task_cpu_us", "without_keys_task_cpu_us"
SHARE, CPU_TIMES = "throughput_over_without_keys", "cpu_over_without_keys"
NAPS, NAP_SECONDS, NOOPS = 16, 0.02, 1000
PARTS = 40
"""Even: each of the two is as often the first of a pair as the second."""


@dataclass
class _Contender:
    """A farm and what it has done: the seconds that its parts took, and its processor time."""

    client: Any
    processes: list[psutil.Process]
    parts: list[float] = field(default_factory=list)
    cpu_seconds: float = 0.0

    def run(self, tasks: int) -> None:
        """One part of the work, from the first submit to the last result."""
        used, began = self._used(), perf_counter()
        futures = [self.client.submit(noop) for _ in range(tasks)]
        for future in futures:
            future.result()
        self.parts.append(perf_counter() - began)
        self.cpu_seconds += self._used() - used

    def _used(self) -> float:
        """Processor seconds of this process, and of all that belong to the farm."""
        times = [process.cpu_times() for process in self.processes]
        return process_time() + sum(one.user + one.system for one in times)


def measure(order: Order) -> dict[str, float]:
    """Tasks a second, and processor time a task; the shares are medians over pairs of parts."""
    part = max(1, order.size // PARTS)
    with ExitStack() as stack:
        keys, bare = (
            stack.enter_context(_opened(order, has_keys=has_keys)) for has_keys in (True, False)
        )
        for number in range(PARTS):
            for contender in (keys, bare) if number % 2 else (bare, keys):
                contender.run(part)
    done = PARTS * part
    cpu, bare_cpu = (one.cpu_seconds / done * 1e6 for one in (keys, bare))
    return {
        RATE: part / median(keys.parts),
        BARE_RATE: part / median(bare.parts),
        SHARE: median(one / other for one, other in zip(bare.parts, keys.parts, strict=True)),
        CPU: cpu,
        BARE_CPU: bare_cpu,
        CPU_TIMES: cpu / bare_cpu,
    }


@contextmanager
def _opened(order: Order, *, has_keys: bool) -> Iterator[_Contender]:
    """A farm of its own, warm."""
    from farm.client.client import Client
    from farm.keys import LOCAL_TOKEN, KeyStore
    from farm.local import LocalFarm, host_settings

    place = order.folder / ("keys" if has_keys else "none")
    place.mkdir()
    folder = place / "keys"
    if has_keys:
        KeyStore(folder).ensure_local()  # before a host looks for them
    way = {"token": str(folder / LOCAL_TOKEN) if has_keys else "none", "keys": str(folder)}
    farm = LocalFarm(
        slots=WORKERS,
        store=str(place / "farm.db"),
        listen=f"tcp://127.0.0.1:{free_ports()}",
        coordinator={"keys": str(folder)} if has_keys else {},
        host=host_settings(None, ()) | way,
    )
    farm.start()
    try:
        with Client(farm.address, connect_timeout=30.0, **way) as client:
            warm = [client.submit(nap, NAP_SECONDS) for _ in range(min(NAPS, order.size))]
            warm += [client.submit(noop) for _ in range(min(NOOPS, order.size))]
            for future in warm:
                future.result()
            mine = [psutil.Process(pid) for pid in farm.pids]
            workers = [one for process in mine for one in process.children(recursive=True)]
            yield _Contender(client, mine + workers)
    finally:
        farm.stop()


CASE = Case(
    name="keys",
    title="no-op submit each over TCP",
    contenders=(FARM,),
    size=400_000,
    quick=200,
    measure=measure,
    goals=(Goal(SHARE, at_least=0.9), Goal(CPU_TIMES)),
)
