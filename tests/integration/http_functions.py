"""Functions that tests run over HTTP; hosts and gateways import this module by name."""

import time
from pathlib import Path
from typing import Any

import farm

LOOK_SECONDS = 0.005


@farm.task(name="sums.add")
def add(a: int, b: int = 1) -> dict[str, int]:
    """Add two numbers."""
    return {"sum": a + b}


@farm.task(name="fail")
def fail(text: str):
    raise ValueError(text)


@farm.task(name="open")
def opened():
    return object()


@farm.task(name="large")
def large(count: int):
    return "x" * count


@farm.task(name="echo")
def echo(value: Any):
    return value


@farm.task(name="held")
def held(path: str):
    """Begin, and end when the file is there."""
    while not Path(path).exists():
        time.sleep(LOOK_SECONDS)
    return path


@farm.task(name="progress")
def progress(path: str):
    farm.current_task().progress(1, 2, "half")
    return held(path)


@farm.task(name="write")
def write(path: str, line: str, seconds: float = 0.0):
    """Append a line, after a while: what a load test counts."""
    time.sleep(seconds)
    with Path(path).open("a") as file:
        file.write(line + "\n")
    return line


@farm.task(name="sleep")
def sleep(seconds: float):
    time.sleep(seconds)
    return seconds
