"""What the measured tasks do; imported by workers, so it imports nothing itself."""

import time

__all__ = ["double", "echo", "nap", "noop", "spin"]


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


def spin(count: int) -> int:
    """Pure Python for a time that grows with ``count``."""
    total = 0
    for number in range(count):
        total += number & 7
    return total
