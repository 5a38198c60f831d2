"""What a benchmark case is: how to measure it, for whom, and what is to be reached.

A case is measured for several contenders, each time in a process of its own that does nothing
else. ``measure`` returns numbers by metric; the last part of a metric's name is its unit.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["BARE", "FARM", "MEMORY", "POOL", "PPE", "UNDURABLE", "WORKERS", "Case", "Goal", "Order"]

WORKERS = 2

FARM = "farm"
MEMORY = "farm in memory"
UNDURABLE = "farm durable=False"
PPE = "ProcessPoolExecutor"
POOL = "Pool"
BARE = "two bare processes"


@dataclass(frozen=True)
class Order:
    """One measurement to make: ``size`` is the case's count, ``spin`` 20 ms of ``spin``."""

    case: str
    contender: str
    size: int
    spin: int
    folder: Path

    def turn(self) -> None:
        """Wait until it is this contender's turn, before each part of a case that has parts."""
        print(flush=True)
        sys.stdin.readline()


@dataclass(frozen=True)
class Goal:
    """A number to reach, by the medians.

    ``metric`` of ``contender``, divided by the best of ``over`` if there are any, is to be at least
    or at most ``target``; without a target it is only shown.
    """

    metric: str
    contender: str = FARM
    over: tuple[str, ...] = ()
    at_least: float | None = None
    at_most: float | None = None

    @property
    def more_is_better(self) -> bool:
        """Whether a greater number is the better one."""
        return self.metric.endswith("per_second")


@dataclass(frozen=True)
class Case:
    """One thing to measure. ``size``: tasks, items or seconds; ``quick`` is one to try it out.

    ``rounds_max``: what takes minutes is measured no more often than that. ``why_not`` says why it
    cannot be measured here, if so. ``limit``: how many seconds one measurement may take.
    ``parts``: with more than one, all contenders are there at once and do their parts by turns.
    """

    name: str
    title: str
    contenders: tuple[str, ...]
    size: int
    quick: int
    measure: Callable[[Order], Mapping[str, float]]
    goals: tuple[Goal, ...]
    rounds_max: int | None = None
    limit: float = 300.0
    parts: int = 1
    why_not: Callable[[], str] = lambda: ""
