"""What a message costs the coordinator's core, by how many hosts there are and how much is queued.

The core alone, with fake hosts in the same process: no sockets, no store; CPU time, with
that of the fakes. ``docs/scaling.md`` has what ``python -m tests.benchmarks --only scaling`` says.
"""

import gc
import tracemalloc
from collections.abc import Callable
from time import process_time

from farm.protocol import messages as m
from tests.benchmarks.case import FARM, Case, Goal, Order
from tests.large_farm import LargeFarm

__all__ = ["CASE"]

SLOTS = 64
MESSAGES = 2000
TASKS_PER_REPORT = 16
QUEUED_PER_HOST = 1000
"""With 2,000 hosts: two million."""
FLAT, FLAT_QUEUE = "most_hosts_over_fewest", "most_queued_over_fewest"
SESSIONS = 1000


def measure(order: Order) -> dict[str, float]:
    """Microseconds a message and a task; bytes for each host, session and queued task."""
    most = order.size
    messages = min(MESSAGES, most)
    found: dict[str, float] = {}
    for share in (100, 10, 1):
        hosts = max(1, most // share)
        one, many = _costs(hosts, hosts * QUEUED_PER_HOST, messages)
        found[f"{hosts}_hosts_message_us"] = one
        found[f"{hosts}_hosts_task_us"] = many / TASKS_PER_REPORT
    few = max(1, most // 100)
    queued = []
    for tasks in (few * QUEUED_PER_HOST, most * QUEUED_PER_HOST):
        queued.append(_costs(few, tasks, messages)[0])
        found[f"{tasks}_queued_message_us"] = queued[-1]
    ends = [found[f"{hosts}_hosts_message_us"] for hosts in (few, most)]
    flat = {FLAT: ends[1] / ends[0], FLAT_QUEUE: queued[1] / queued[0]}
    return found | flat | _memory(most)


def _costs(hosts: int, tasks: int, messages: int) -> tuple[float, float]:
    """Microseconds for a report of one task, and for one of many, each with what it brings about.

    Every slot is taken, and the rest of the tasks is queued.
    """
    farm = LargeFarm(hosts, SLOTS, max_tasks=tasks + 1)
    farm.join_all()
    farm.submit(tasks)
    gc.collect()  # of what was measured before; a coordinator has this behind it, too
    gc.freeze()
    farm.serve(messages // 4, 1)
    began = process_time()
    farm.serve(messages, 1)
    one = process_time() - began
    farm.serve(messages // 8, TASKS_PER_REPORT)
    began = process_time()
    farm.serve(messages // 4, TASKS_PER_REPORT)
    many = process_time() - began
    gc.unfreeze()
    return one / messages * 1e6, many / (messages // 4) * 1e6


def _memory(hosts: int) -> dict[str, float]:
    farm = LargeFarm(hosts, SLOTS)
    tasks = hosts * 100
    return {
        "host_bytes": _grown(farm.join_all) / hosts,
        "session_bytes": _grown(lambda: _open(farm, SESSIONS)) / SESSIONS,
        "queued_task_bytes": _grown(lambda: farm.submit(tasks)) / tasks,
    }


def _open(farm: LargeFarm, sessions: int) -> None:
    for number in range(sessions):
        who = number.to_bytes(16, "big")
        hello = (1, "", "", b"", who, who, 1, 0, b"", 0, 1 << 20, [])
        farm.turn(f"client-{number}", m.ClientHello(*hello))


def _grown(call: Callable[[], object]) -> int:
    """How many bytes more are in use after it."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        call()
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


CASE = Case(
    name="scaling",
    title="hosts and queued tasks",
    contenders=(FARM,),
    size=2000,
    quick=100,
    measure=measure,
    goals=(Goal(FLAT, at_most=1.5), Goal(FLAT_QUEUE, at_most=1.5)),
    rounds_max=3,
)
