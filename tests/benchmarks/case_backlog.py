"""A long queue and no worker: what a queued task costs in memory, and how fast it is loaded."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, sleep
from typing import Any

import psutil

from tests.benchmarks.case import FARM, Case, Goal, Order
from tests.benchmarks.functions import noop

__all__ = ["CASE"]

GROWTH = "growth_bytes"
LOAD = "load_seconds"
TIMEOUT_SECONDS = 120.0
POLL_SECONDS = 0.02


def measure(order: Order) -> dict[str, float]:
    """Bytes of coordinator memory for each queued task; seconds from its start until it answers."""
    store = order.folder / "farm.db"
    # An ipc path has to be short.
    with TemporaryDirectory(prefix="farm-") as sockets:
        address = f"ipc://{sockets}/farm"
        with _coordinator(address, store) as process:
            growth = _fill(address, process.pid, order.size)
        began = perf_counter()
        with _coordinator(address, store):
            _await_queued(address, order.size)
            load = perf_counter() - began
    return {GROWTH: growth / order.size, LOAD: load}


def _fill(address: str, pid: int, size: int) -> float:
    import farm

    client = farm.Client(address)
    try:
        client.query("status")
        before = psutil.Process(pid).memory_info().rss
        futures = [client.submit(noop) for _ in range(size)]
        _await_tasks(client, size)
        del futures
        return psutil.Process(pid).memory_info().rss - before
    finally:
        client.shutdown(wait=False)


def _await_queued(address: str, size: int) -> None:
    import farm

    with farm.Client(address) as client:
        _await_tasks(client, size)


def _await_tasks(client: Any, size: int) -> None:
    """Return when the coordinator says that so many tasks are queued and committed."""
    until = perf_counter() + TIMEOUT_SECONDS
    while perf_counter() < until:
        status = client.query("status")
        if status["tasks"].get("queued", 0) >= size and not status["journal"]["behind"]:
            return
        sleep(POLL_SECONDS)
    raise TimeoutError(f"{size} tasks were not queued in {TIMEOUT_SECONDS:.0f} s: {status}")


@contextmanager
def _coordinator(address: str, store: Path) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-m", "farm", "coordinator"]
    command += ["--listen", address, "--store", str(store), "--log-level", "error"]
    process = subprocess.Popen(command)
    try:
        yield process
    finally:
        process.kill()  # it owes nobody anything: what it accepted is committed
        process.wait()


CASE = Case(
    name="backlog",
    title="tasks queued with no worker",
    contenders=(FARM,),
    size=200_000,
    quick=500,
    measure=measure,
    goals=(Goal(GROWTH, at_most=700.0), Goal(LOAD, at_most=3.0)),
)
