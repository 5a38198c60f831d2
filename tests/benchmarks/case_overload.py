"""Three times the work that can be done: what becomes of memory, throughput and tasks."""

import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

from tests.benchmarks.case import FARM, PPE, WORKERS, Case, Goal, Order
from tests.benchmarks.curve import FIRST_PART, SAMPLE_SECONDS, Curve
from tests.benchmarks.functions import hold
from tests.benchmarks.measurement import ROOT
from tests.benchmarks.producer import OUTSTANDING, PAYLOAD_BYTES, TASK_SECONDS

__all__ = ["CASE"]

RATE = "tasks_per_second"
CALM = "of_calm_share"
GROWTH = "growth_share"
MEMORY = "memory_bytes"
LOST = "lost_tasks"
TIMES = 3
PRODUCERS = 3
CALM_SECONDS_MIN = 0.5
BOUNDS = {
    "max_tasks": 20_000,
    "max_bytes": 1 << 30,
    "resident_payload_bytes": 64 << 20,
}
"""So that the farm is full within some seconds, and most of what it has is in the store alone."""


def measure(order: Order) -> dict[str, float]:
    """Overload for ``size`` seconds, and a calm time before and after."""
    curve = Curve(order.contender)
    numbers = _pool(order, curve) if order.contender == PPE else _farm(order, curve)
    if Path.cwd() == ROOT:  # not of the commit to compare with
        curve.write(order.folder.parent)
    return numbers | {RATE: curve.rate, GROWTH: curve.growth, MEMORY: curve.bytes[-1]}


def _farm(order: Order, curve: Curve) -> dict[str, float]:
    import farm
    from farm.core import CoreSettings
    from farm.local import LocalFarm

    core = {name: value for name, value in BOUNDS.items() if name in CoreSettings.__struct_fields__}
    local = LocalFarm(
        slots=WORKERS, store=str(order.folder / "farm.db"), coordinator={"core": core}
    )
    local.start()
    try:
        with farm.Client(local.address) as client, _producers(local.address) as producers:

            def ended() -> int:
                counters: Mapping[str, int] = client.query("status")["counters"]
                return counters.get("ok", 0)

            calm = max(CALM_SECONDS_MIN, order.size / FIRST_PART)
            before = _calm(producers, calm, ended)
            told = {"seconds": order.size, "rate": TIMES * before / PRODUCERS}
            for one in producers:
                one.say(told)
            curve.sample(local.pids[0], order.size, ended)
            answers = [one.hear() for one in producers]
            after = _calm(producers, calm, ended)
    finally:
        local.stop()
    lost = sum(accepted - right for accepted, right, _ in answers)
    if lost:
        print(*(text for _, _, errors in answers for text in errors), sep="\n", file=sys.stderr)
    return {CALM: curve.rate / ((before + after) / 2), LOST: lost}


def _calm(producers: list["_Producer"], seconds: float, ended: Any) -> float:
    """Tasks a second while no more are submitted than are done."""
    for one in producers:
        one.say({"seconds": seconds})
    calm = Curve("calm")
    calm.sample(os.getpid(), seconds, ended)
    for one in producers:
        one.hear()
    return calm.rate


class _Producer:
    """A process that submits."""

    def __init__(self, address: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.producer", address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def say(self, order: Mapping[str, float]) -> None:
        assert self.process.stdin is not None
        print(json.dumps(order), file=self.process.stdin, flush=True)

    def hear(self) -> Any:
        """Its answer, when all that was accepted has ended."""
        while isinstance(found := self._line(), str):
            pass
        return found

    def _line(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())


@contextmanager
def _producers(address: str) -> Iterator[list[_Producer]]:
    started = [_Producer(address) for _ in range(PRODUCERS)]
    try:
        for one in started:
            one._line()  # it has connected
        yield started
    finally:
        for one in started:
            one.process.kill()
            one.process.wait()


def _pool(order: Order, curve: Curve) -> dict[str, float]:
    """The same with an executor, which takes everything: what is left at the end is dropped."""
    fill = bytes(PAYLOAD_BYTES)
    with ProcessPoolExecutor(WORKERS) as executor:
        calm = max(CALM_SECONDS_MIN, order.size / FIRST_PART)
        before = _calm_pool(executor, fill, calm)
        began, due, submitted, ended = perf_counter(), 0.0, 0, 0
        process = _Memory()
        waiting: deque[Any] = deque()
        while (passed := perf_counter() - began) < order.size:
            if passed >= due:
                curve.add(passed, process.rss, ended)
                due += SAMPLE_SECONDS
            if submitted < TIMES * before * passed:
                payload = submitted.to_bytes(8, "big") + fill[8:]
                waiting.append(executor.submit(hold, TASK_SECONDS, payload))
                submitted += 1
            while waiting and waiting[0].done():
                ended += waiting.popleft().result() == PAYLOAD_BYTES
        executor.shutdown(cancel_futures=True)
    return {CALM: curve.rate / before}


class _Memory:
    """What this process has."""

    def __init__(self) -> None:
        import psutil

        self._process = psutil.Process()

    @property
    def rss(self) -> int:
        return self._process.memory_info().rss


def _calm_pool(executor: Any, fill: bytes, seconds: float) -> float:
    waiting = deque(executor.submit(hold, TASK_SECONDS, fill) for _ in range(OUTSTANDING))
    began, count = perf_counter(), 0
    while (passed := perf_counter() - began) < seconds:
        waiting.popleft().result()
        waiting.append(executor.submit(hold, TASK_SECONDS, fill))
        count += 1
    for future in waiting:
        future.result()
    return count / passed


CASE = Case(
    name="overload",
    title="three times what can be done",
    contenders=(FARM, PPE),
    size=60,
    quick=1,
    measure=measure,
    goals=(
        Goal(GROWTH, at_most=0.05),
        Goal(CALM, at_least=0.95),
        Goal(LOST, at_most=0.0),
        Goal(GROWTH, PPE),
    ),
    rounds_max=2,
)
