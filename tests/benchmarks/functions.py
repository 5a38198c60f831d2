"""What the measured tasks do; imported by workers, so it imports next to nothing itself."""

import os
import time

__all__ = ["begun", "double", "echo", "hold", "nap", "noop", "spin", "stay"]


def noop() -> None:
    """Do nothing."""


def double(number: int) -> int:
    """A trivial item of a map."""
    return number + number


def echo(data: bytes) -> bytes:
    """Give the bytes back."""
    return data


def nap(seconds: float) -> None:
    """Hold a worker, so that the next one has to start."""
    time.sleep(seconds)


def begun(seconds: float) -> float:
    """Hold a worker; when it began (monotonic, which is one clock on a machine)."""
    at = time.monotonic()
    time.sleep(seconds)
    return at


def hold(seconds: float, data: bytes) -> int:
    """Hold a worker; how many bytes came along."""
    time.sleep(seconds)
    return len(data)


def stay(seconds: float) -> tuple[int, float, float]:
    """Hold a worker; which, from when, until when."""
    began = time.monotonic()
    time.sleep(seconds)
    return os.getpid(), began, time.monotonic()


def spin(count: int) -> int:
    """Pure Python for a time that grows with ``count``."""
    total = 0
    for number in range(count):
        total += number & 7
    return total
