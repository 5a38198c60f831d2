"""Short tasks that come after long ones: no slot is free while a short one waits."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from time import monotonic, sleep
from typing import Any

from tests.benchmarks.case import FARM, Case, Goal, Order
from tests.benchmarks.functions import stay

__all__ = ["CASE"]

FREE = "free_seconds"
TOTAL = "of_ideal_share"
HOSTS, SLOTS = 2, 2
LONG, SHORT = 8, 1_000
SHORT_SECONDS = 0.005
POLL_SECONDS = 0.02
Span = tuple[int, float, float]
"""The worker, and when a task began and ended there (monotonic seconds)."""


def measure(order: Order) -> dict[str, float]:
    """8 tasks of ``size`` seconds, then 1,000 of 5 ms, on 4 slots of 2 hosts.

    All slots have long tasks for twice that time, so short ones wait. What must not be is that one
    waits behind a long one while another slot is free: ``free_seconds`` is the longest time for
    which a slot was between two tasks, or had none any more, while a short task waited.
    """
    import farm

    # An ipc path has to be short, and hosts and clients find it by name.
    with _farm(order) as address, farm.Client(address) as client:
        while client.query("status")["slots"] < HOSTS * SLOTS:
            sleep(POLL_SECONDS)
        for future in [client.submit(stay, 0.1) for _ in range(4 * HOSTS * SLOTS)]:
            future.result()  # all workers have started
        long = [client.submit(stay, float(order.size)) for _ in range(LONG)]
        since = monotonic()
        short = [client.submit(stay, SHORT_SECONDS) for _ in range(SHORT)]
        spans = [future.result() for future in (*long, *short)]
    last = max(began for _, began, _ in spans[LONG:])
    ideal = LONG / (HOSTS * SLOTS) * order.size + SHORT * SHORT_SECONDS / (HOSTS * SLOTS)
    took = max(ended for _, _, ended in spans) - min(began for _, began, _ in spans)
    return {FREE: _longest_free(spans, since, last), TOTAL: took / ideal}


def _longest_free(spans: list[Span], since: float, until: float) -> float:
    """The longest time between ``since`` and ``until`` for which a worker had nothing to do."""
    by_worker: dict[int, list[tuple[float, float]]] = {}
    for worker, began, ended in spans:
        by_worker.setdefault(worker, []).append((began, ended))
    if len(by_worker) != HOSTS * SLOTS:
        raise AssertionError(f"{len(by_worker)} workers ran tasks, not {HOSTS * SLOTS}")
    longest = 0.0
    for own in by_worker.values():
        edges = [(since, since), *sorted(own), (until, until)]
        for (_, ended), (began, _) in pairwise(edges):
            longest = max(longest, min(began, until) - max(ended, since))
    return longest


@contextmanager
def _farm(order: Order) -> Iterator[str]:
    """A coordinator and two hosts, as commands."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory(prefix="farm-") as sockets:
        address = f"ipc://{sockets}/farm"
        store = str(order.folder / "farm.db")
        commands: list[list[str]] = [["coordinator", "--listen", address, "--store", store]]
        commands += [
            ["worker", address, "--slots", str(SLOTS), "--name", f"host-{number}"]
            for number in range(HOSTS)
        ]
        started: list[subprocess.Popen[Any]] = []
        try:
            for words in commands:
                command = [sys.executable, "-m", "farm", *words, "--log-level", "error"]
                started.append(subprocess.Popen(command))
            yield address
        finally:
            for process in reversed(started):  # a host says goodbye to a coordinator that hears it
                process.terminate()
                process.wait()


CASE = Case(
    name="short-behind-long",
    title="8 of 10 s, then 1,000 of 5 ms",
    contenders=(FARM,),
    size=10,
    quick=1,
    measure=measure,
    goals=(Goal(FREE, at_most=0.1), Goal(TOTAL)),
)
