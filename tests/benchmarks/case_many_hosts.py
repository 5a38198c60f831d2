"""A coordinator with a thousand hosts that all come at once, and tasks for all of them.

With the key that all of them have on this machine, and with an invite, by which each gets its own.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import perf_counter, sleep

import psutil

from farm.transport.credentials import TOKEN_VARIABLE
from tests.benchmarks.case import FARM, Case, Goal, Order
from tests.benchmarks.fake_hosts import KEYS
from tests.benchmarks.functions import double
from tests.processes import free_ports

__all__ = ["CASE"]

JOINED, BACK, ANSWER = "joined_seconds", "back_seconds", "slowest_answer_seconds"
INVITED, INVITED_ANSWER = "invited_seconds", "invited_slowest_answer_seconds"
INVITED_OWN = "invited_coordinator_cpu_seconds"
RATE, MEMORY = "tasks_per_second", "bytes_per_host"
OWN, THEIRS = "coordinator_cpu_seconds", "fakes_cpu_seconds"
"""Processor time until all had joined: they share the machine with those who play the hosts."""
SLOTS = 64
CROWDS = 2
"""Processes that play the hosts."""
TASKS_PER_HOST = 200
TIMEOUT_SECONDS = 60.0
LOOK_SECONDS = 0.05


def measure(order: Order) -> dict[str, float]:
    """How soon all are there: at the start, and after the coordinator was killed; then tasks."""
    store, address = order.folder / "farm.db", f"tcp://127.0.0.1:{free_ports()}"
    os.environ[KEYS] = str(order.folder / "keys")
    with ExitStack() as stack:
        before = _start(address, store)
        stack.callback(_end, before)
        empty, used = _memory(before, address), _cpu(before)
        began = perf_counter()
        share = order.size // CROWDS
        crowds = [
            stack.enter_context(_crowd(address, number * share, share)) for number in range(CROWDS)
        ]
        _await_hosts(address, order.size // CROWDS * CROWDS)
        joined = perf_counter() - began
        own, theirs = _cpu(before) - used, sum(map(_cpu, crowds))
        memory = (_memory(before, address) - empty) / order.size
        _end(before)
        after = _start(address, store)
        stack.callback(_end, after)
        began = perf_counter()
        slowest = _await_hosts(address, order.size // CROWDS * CROWDS)
        back = perf_counter() - began
        rate = _run(address, order.size * TASKS_PER_HOST)
    costs = {OWN: own, THEIRS: theirs, MEMORY: memory}
    return {JOINED: joined, BACK: back, ANSWER: slowest, RATE: rate} | costs | _invited(order)


def _invited(order: Order) -> dict[str, float]:
    """How soon all are there that have an invite, and what it costs that each gets a key."""
    from farm.keys import KeyStore

    address, keys = f"tcp://127.0.0.1:{free_ports()}", KeyStore(order.folder / "keys")
    keys.create(address)
    token = keys.invite("crowd", uses=order.size, expires=3600.0)
    with ExitStack() as stack:
        coordinator = _start(address, order.folder / "invited.db")
        stack.callback(_end, coordinator)
        _memory(coordinator, address)  # it listens
        began, used, share = perf_counter(), _cpu(coordinator), order.size // CROWDS
        for number in range(CROWDS):
            stack.enter_context(_crowd(address, number * share, share, token))
        slowest = _await_hosts(address, order.size // CROWDS * CROWDS)
        joined = perf_counter() - began
        return {
            INVITED: joined,
            INVITED_ANSWER: slowest,
            INVITED_OWN: _cpu(coordinator) - used,
        }


def _run(address: str, tasks: int) -> float:
    import farm

    with farm.Client(address) as client:
        began = perf_counter()
        for future in client.submit_many(double, range(tasks)):
            future.result()
        return tasks / (perf_counter() - began)


def _await_hosts(address: str, count: int) -> float:
    """Return when so many are connected: the longest time that an answer took meanwhile."""
    import farm

    slowest, until = 0.0, perf_counter() + TIMEOUT_SECONDS
    with farm.Client(address) as client:
        while perf_counter() < until:
            asked = perf_counter()
            status = client.query("status")
            slowest = max(slowest, perf_counter() - asked)
            if status["hosts"] >= count:
                return slowest
            sleep(LOOK_SECONDS)
    raise TimeoutError(f"{count} hosts were not there in {TIMEOUT_SECONDS:.0f} s: {status}")


def _memory(process: "subprocess.Popen[bytes]", address: str) -> int:
    import farm

    with farm.Client(address) as client:
        client.query("status")
    return psutil.Process(process.pid).memory_info().rss


def _cpu(process: "subprocess.Popen[bytes]") -> float:
    used = psutil.Process(process.pid).cpu_times()
    return used.user + used.system


def _start(address: str, store: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "farm", "coordinator"]
    command += ["--listen", address, "--store", str(store), "--log-level", "error"]
    return subprocess.Popen(command)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()  # it owes nobody anything: what it accepted is committed
    process.wait()


@contextmanager
def _crowd(
    address: str, first: int, count: int, token: str = ""
) -> Iterator["subprocess.Popen[bytes]"]:
    words = [address, str(first), str(count), str(SLOTS), str(os.getpid())]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.fake_hosts", *words],
        env=os.environ | {TOKEN_VARIABLE: token},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


CASE = Case(
    name="many-hosts",
    title="a thousand hosts",
    contenders=(FARM,),
    size=1000,
    quick=4,
    measure=measure,
    goals=(
        Goal(JOINED, at_most=5.0),
        Goal(BACK, at_most=5.0),
        Goal(RATE, at_least=20_000.0),
        Goal(ANSWER),
        Goal(INVITED),
        Goal(INVITED_ANSWER),
        Goal(INVITED_OWN),
        Goal(OWN),
        Goal(THEIRS),
        Goal(MEMORY),
    ),
)
