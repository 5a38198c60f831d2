"""How fast a host works: what its slices, its pipes and its window are sized by.

Everything here is an estimate and only paces; nothing depends on it for being right.
"""

from collections import OrderedDict
from math import ceil

from farm.protocol.messages import Grant

__all__ = [
    "HOLD_SECONDS",
    "PIPE_SECONDS",
    "PREFETCH_SECONDS",
    "SLICE_SECONDS",
    "SLICE_TASKS_MAX",
    "Pace",
    "slice_tasks",
]

SLICE_SECONDS = 0.002
"""The work of one slice of short tasks: what a worker's message is worth."""
SLICE_TASKS_MAX = 128
PIPE_SECONDS = 0.005
"""A worker is given a third slice only while the work in its pipe is less than this."""
PREFETCH_SECONDS = 0.1
"""Longer tasks stand alone in a pipe: nothing waits behind them, and they wait behind nothing."""
HOLD_SECONDS = 0.06
"""How long a report of a few tasks may wait for others at most, while there is work to go on with.

A report costs coordinator, disk and client about as much for one task as for a hundred.
"""
HOLD_SECONDS_SHORT = 0.04
"""So long it may where tasks are short:"""
HOLD_TASKS = 3
"""in which each worker ends more than so many."""
LONG_ROUND_TRIPS = 100
"""Tasks longer than this many round trips get no lookahead: nothing waits behind them."""
SECONDS_MIN = 1e-6
"""No item is taken to be shorter: passing it on costs about this."""
FUNCTIONS_MAX = 1024


def slice_tasks(seconds: float) -> int:
    """How many tasks of this expected duration make a slice; 1 if it is unknown (negative)."""
    if not 0 <= seconds < SLICE_SECONDS:
        return 1
    return min(SLICE_TASKS_MAX, int(SLICE_SECONDS / max(seconds, SECONDS_MIN)))


def is_short(seconds: float, count: int) -> bool:
    """Whether a slice of ``count`` items may share a pipe; 0 or less: nobody knows its duration.

    A single task may be longer, since it can be taken back without tearing a slice apart.
    """
    return 0 < seconds < (PREFETCH_SECONDS if count == 1 else PIPE_SECONDS)


class Pace:
    """Measured durations and the round trip to the coordinator, in seconds; -1 if unknown."""

    def __init__(self) -> None:
        # Of the last FUNCTIONS_MAX functions used; seconds for one item.
        self._functions: OrderedDict[bytes, float] = OrderedDict()
        self._unit = -1.0
        self._round_trip = -1.0

    def expected(self, grant: Grant) -> float:
        """How long one item should take: as measured here, else as the coordinator says."""
        seconds = self._functions.get(grant.function, grant.expected)
        return seconds if seconds < 0 else max(seconds, SECONDS_MIN)

    def may_follow(self, grant: Grant) -> bool:
        """Whether what is cut from such a lease may wait behind something else."""
        count = grant.count if grant.packed else 1
        return not grant.limited and is_short(self.expected(grant) * count, count)

    def assigned(self, grant: Grant) -> None:
        """Believe the coordinator about durations until there are some of our own."""
        if self._unit < 0 <= grant.expected:
            self._unit = grant.expected * (grant.count if grant.packed else 1)

    def learn(self, function: bytes, count: int, seconds: float) -> None:
        """``count`` items of a function took this long."""
        known = self._functions.pop(function, -1.0)
        if len(self._functions) >= FUNCTIONS_MAX:
            self._functions.popitem(last=False)
        self._functions[function] = _blend(known, seconds / count, count)

    def learn_unit(self, count: int, seconds: float) -> None:
        """``count`` tasks, as windows count them, took this long."""
        self._unit = _blend(self._unit, seconds / count, count)

    def heard(self, round_trip: float) -> None:
        """A beat came back after this long."""
        self._round_trip = _blend(self._round_trip, round_trip, 2)

    @property
    def round_trip(self) -> float:
        """To the coordinator and back, in seconds; -1 if it was never measured."""
        return self._round_trip

    @property
    def is_dense(self) -> bool:
        """Whether tasks are so short that many of them end together anyway."""
        return self._unit < SLICE_SECONDS

    @property
    def hold(self) -> float:
        """How long a report of a few such tasks may wait for others, in seconds."""
        return min(HOLD_SECONDS, max(HOLD_SECONDS_SHORT, HOLD_TASKS * self._unit))

    def lookahead(self, slots: int) -> int:
        """How many tasks to hold beyond ``slots``, so that these do not wait for the coordinator.

        Little's law for each slot, L = λW, where W is a round trip and the two slices before it.
        For each slot, because slots that began together end together; with them the time that a
        report may wait. 0 as long as durations or
        the round trip are unknown, and for long tasks.
        """
        if self._unit < 0 or self._round_trip < 0:
            return 0
        unit = max(self._unit, SECONDS_MIN)
        if unit > LONG_ROUND_TRIPS * self._round_trip:
            return 0
        wait = self._round_trip + (2 * SLICE_SECONDS if self.is_dense else self.hold)
        return slots * ceil(wait / unit)


def _blend(known: float, value: float, count: int) -> float:
    """A moving average in which ``count`` values weigh more than one."""
    if known < 0:
        return value
    old = 0.8 ** min(count, 32)
    return known * old + value * (1 - old)
