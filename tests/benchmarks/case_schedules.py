"""Many schedules in one process: how soon they are there, what they cost, how fast they fire."""

import gc
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import psutil

from tests.benchmarks.case import FARM, Case, Goal, Order

__all__ = ["CASE"]

COLD, WARM = "cold_start_seconds", "warm_start_seconds"
TAKEOVER = "takeover_seconds"
MEMORY = "memory_bytes"
TAKEOVER_WORK = "takeover_processor_seconds"
TICK = "tick_late_seconds"
TICK_WORK = "tick_processor_seconds"
NEXT = "next_fire_seconds"
BURST = "burst_seconds"
BURST_FIRES = 1000
TICKS = 10
NEXT_FIRES = 20_000
EVERY_SECOND = """
[schedules.tick]
cron = "@every 1s"
run = "math:sqrt"
args = [2]
overlap = "allow"
"""
"""So that whoever starts or takes over has something to make up for, and tasks that run."""
ZONES = ("America/New_York", "Europe/Berlin", "UTC", "Asia/Tokyo")


def measure(order: Order) -> dict[str, float]:
    """Seconds until a scheduler decides, at first, again, and for another; memory; fires."""
    file = order.folder / "schedules.toml"
    file.write_text("".join([EVERY_SECOND, *map(_entry, range(order.size))]))
    with TemporaryDirectory(prefix="farm-") as sockets, _coordinator(sockets) as address:
        cold = _alone(_start, str(file), address)
        warm = _alone(_start, str(file), address)
        taken = _take_over(file, address)
        ticks = _alone(_tick, str(file), address)
        return {
            COLD: cold["seconds"],
            WARM: warm["seconds"],
            TAKEOVER: taken["seconds"],
            TAKEOVER_WORK: taken["processor"],
            MEMORY: max(cold["bytes"], warm["bytes"], taken["bytes"]),
            TICK: ticks["late"],
            TICK_WORK: ticks["processor"],
            NEXT: _alone(_next),
            BURST: _alone(_burst, str(order.folder / "burst.toml"), address),
        }


def _entry(number: int) -> str:
    return (
        f'[schedules.job{number}]\ncron = "{number % 60} {number // 60 % 24} * * *"\n'
        f'tz = "{ZONES[number % len(ZONES)]}"\nrun = "math:sqrt"\nargs = [{number}]\n'
    )


def _alone(function: Any, *arguments: Any) -> Any:
    """What a function returns in a process of its own."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def _start(file: str, address: str) -> dict[str, float]:
    import farm

    client = farm.Client(address)
    began = time.perf_counter()
    scheduler = _scheduler(file, client)
    seconds = time.perf_counter() - began
    found = {"seconds": seconds, "bytes": psutil.Process().memory_info().rss}
    scheduler.close()
    client.shutdown(wait=False)
    return found


def _take_over(file: Path, address: str) -> dict[str, float]:
    """From when the scheduler that decides is killed until another one decides."""
    settings = file.with_suffix(".json")
    told = {"files": [str(file)], "address": address, "state": f"{file}.db", "log_level": "info"}
    settings.write_bytes(msgspec.json.encode(told))
    command = [sys.executable, "-m", "farm_scheduler", "--settings", str(settings)]
    processes = []
    try:
        for said in ("decides about", "ready to take over"):
            one = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
            processes.append(one)
            _hear(one, said)
        first, second = processes
        process = psutil.Process(second.pid)
        used = sum(process.cpu_times()[:2])
        first.kill()
        began = time.perf_counter()
        _hear(second, "decides about")
        return {
            "seconds": time.perf_counter() - began,
            "processor": sum(process.cpu_times()[:2]) - used,
            "bytes": process.memory_info().rss,
        }
    finally:
        for one in processes:
            one.kill()
            one.communicate()


def _hear(process: "subprocess.Popen[str]", text: str) -> None:
    for line in process.stderr or ():
        if text in line:
            return
    raise AssertionError(f"it ended before it said {text!r}")


def _tick(file: str, address: str) -> dict[str, float]:
    """How late a fire is submitted at most, among many that are not due, and what a turn costs."""
    import farm

    client = farm.Client(address)
    scheduler = _scheduler(file, client)
    gc.freeze()  # as the process of a scheduler does
    alarm, submitter, submitted = scheduler._alarm, scheduler._submitter, []
    submit = submitter.submit

    def noted(row: Any, *more: Any) -> str:
        if row.schedule == "tick":
            submitted.append(time.time() - row.due)
        return str(submit(row, *more))

    submitter.submit = noted
    work = 0.0
    while len(submitted) < TICKS:
        due = scheduler.machine.next_deadline() or 0.0
        while time.time() < due:
            alarm.sleep(due)
        began = time.process_time()
        scheduler.turn()
        work += time.process_time() - began
    scheduler.close()
    client.shutdown(wait=False)
    return {"late": max(submitted), "processor": work / TICKS}


def _next() -> float:
    """What it costs to find a nominal time after another: of many expressions, by turns."""
    from farm_scheduler.core import Timing
    from farm_scheduler.cron import plain

    timings = [Timing.of(plain(f"{n % 60} {n // 60} * * *"), zone, "cron")
               for n in range(500) for zone in ZONES]  # fmt: skip
    times: list[int | None] = [1_780_000_000] * len(timings)
    began = time.perf_counter()
    for number in range(NEXT_FIRES):
        at = number % len(timings)
        times[at] = timings[at].next(times[at] or 0)
    return (time.perf_counter() - began) / NEXT_FIRES


def _burst(file: str, address: str) -> float:
    """From when 1,000 fires are due until the farm has acknowledged them all."""
    import farm

    text = '[schedules.fire{}]\ncron = "@every 2s"\nrun = "math:sqrt"\nargs = [2]\n'
    Path(file).write_text("".join(map(text.format, range(BURST_FIRES))))
    client = farm.Client(address)
    scheduler = _scheduler(file, client)
    due = scheduler.machine.next_deadline() or 0.0
    time.sleep(max(due - time.time(), 0.0))
    scheduler.turn()
    client.connection.wait_acknowledged()
    took = time.time() - due
    rows = sum(row.nominal == due for row in scheduler.machine.open_rows())  # not those after
    scheduler.close()
    client.shutdown(wait=False)
    if rows != BURST_FIRES:
        raise AssertionError(f"{rows} fires, not {BURST_FIRES}")
    return took


def _scheduler(file: str, client: Any) -> Any:
    from farm_scheduler.clock import Alarm
    from farm_scheduler.service import Scheduler
    from farm_scheduler.settings import SchedulerSettings

    settings = SchedulerSettings(files=[file], address="", state=f"{file}.db")
    scheduler = Scheduler(settings, client, Alarm())
    scheduler.take_over()
    return scheduler


@contextmanager
def _coordinator(folder: str) -> Iterator[str]:
    import farm

    address = f"ipc://{folder}/farm"
    command = [sys.executable, "-m", "farm", "coordinator", "--listen", address]
    process = subprocess.Popen([*command, "--store", f"{folder}/farm.db", "--log-level", "error"])
    try:
        farm.Client(address).shutdown(wait=False)
        yield address
    finally:
        process.kill()
        process.wait()


CASE = Case(
    name="schedules",
    title="schedules in one scheduler",
    contenders=(FARM,),
    size=100_000,
    quick=200,
    measure=measure,
    goals=(
        Goal(COLD, at_most=15.0),
        Goal(WARM, at_most=3.0),
        Goal(TAKEOVER, at_most=1.0),
        Goal(MEMORY, at_most=200e6),
        Goal(TICK, at_most=50e-3),
        Goal(NEXT, at_most=100e-6),
        Goal(BURST, at_most=1.0),
    ),
)
