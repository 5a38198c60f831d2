"""What the numbers of queues and hosts come from: arrivals, placements, ends, by the message.

Kept for a window of the last half to whole ``WINDOW_SECONDS``, in two halves: what a person steers
by is what happens now. Waits are counted by size, in steps of a fifth or so.
"""

from collections import Counter
from math import exp2, log2
from typing import Any

__all__ = ["Meter"]

WINDOW_SECONDS = 60.0
STEPS = 4
"""Sizes of waits that are told apart between one and its double."""
WAIT_MIN = 1e-4
"""Waits below this, in seconds, are counted as this."""


class _Half:
    """Counts since ``since``; ``area`` is the number of open tasks, summed over the seconds.

    ``busy``: the same of those that can run; ``worked``: seconds that tasks took in their workers.
    """

    __slots__ = (
        "area", "arrived", "busy", "ended", "placed", "since", "spent", "waits", "worked",
    )  # fmt: skip

    def __init__(self, since: float) -> None:
        self.since = since
        self.arrived = self.ended = self.placed = 0
        self.area = self.busy = self.spent = self.worked = 0.0
        self.waits: Counter[int] = Counter()

    def after(self, before: "_Half") -> "_Half":
        """What both have counted."""
        both = _Half(before.since)
        for name in ("arrived", "ended", "placed", "area", "busy", "spent", "worked"):
            setattr(both, name, getattr(before, name) + getattr(self, name))
        both.waits = before.waits + self.waits if before.waits or self.waits else self.waits
        return both


class Meter:
    """Counts what happens to the tasks of one queue or host; a packed task counts as one.

    ``slots`` is how many of the open ones can run at a time: of a host.
    """

    def __init__(self, now: float = 0.0) -> None:
        self.arrived = self.placed = self.ended = 0  # in all, in this life of the coordinator
        self.slots = 0
        self._open = 0
        self._at = now
        self._half = self._before = _Half(now)

    def begin(self, open_tasks: int, now: float) -> None:
        """The coordinator starts, with so many tasks."""
        self._open = open_tasks
        self._at = now
        self._half = self._before = _Half(now)

    def _pass(self, now: float) -> _Half:
        half = self._half
        passed = now - self._at
        if passed <= 0:
            return half
        self._at = now
        if at_once := self._open:
            half.area += at_once * passed
            if slots := self.slots:
                half.busy += (min(slots, at_once)) * passed
        if now - half.since < WINDOW_SECONDS / 2:
            return half
        self._before, self._half = half, _Half(now)
        return self._half

    def arrive(self, tasks: int, now: float) -> None:
        """Tasks are accepted."""
        half = self._pass(now)
        half.arrived += tasks
        self.arrived += tasks
        self._open += tasks

    def place(self, tasks: int, wait: float | None, now: float) -> None:
        """Tasks are given to a host; the first time, with how long they have waited."""
        half = self._pass(now)
        half.placed += tasks
        self.placed += tasks
        if wait is not None:
            half.waits[int(STEPS * log2(max(wait, WAIT_MIN) / WAIT_MIN))] += tasks

    def end(self, tasks: int, seconds: float, now: float, open_tasks: int | None = None) -> None:
        """Tasks have an outcome, so many seconds after they were accepted.

        ``open_tasks`` are open then, whatever was counted.
        """
        half = self._pass(now)
        half.ended += tasks
        half.spent += tasks * seconds
        self.ended += tasks
        self._open = self._open - tasks if open_tasks is None else open_tasks

    def work(self, seconds: float) -> None:
        """Tasks took so long in their workers."""
        self._half.worked += seconds

    def settle(self, open_tasks: int, now: float) -> None:
        """So many tasks are open, whatever was counted."""
        self._pass(now)
        self._open = open_tasks

    def numbers(self, now: float, slots: int = 0) -> dict[str, Any]:
        """Rates a second, waits and times in seconds; None where nothing is known yet.

        ``utilisation`` is the share of its slots that were taken; of a queue, which has none, the
        share of ``slots`` that its tasks, as they ended, had worked on.

        Little's law: where arrivals and ends keep pace, the mean number of open tasks is the rate
        of arrivals times the mean time that they are open.
        """
        half = self._pass(now)
        both = half if self._before is half else half.after(self._before)
        seconds = max(now - both.since, 1e-9)
        mean = both.spent / both.ended if both.ended else None
        arrival_rate = both.arrived / seconds
        return {
            "window_seconds": seconds,
            "arrival_rate": arrival_rate,
            "service_rate": both.ended / seconds,
            "wait_p50": _quantile(both.waits, 0.5),
            "wait_p99": _quantile(both.waits, 0.99),
            "utilisation": self._utilisation(both, seconds, slots),
            "little": {
                "mean_open": both.area / seconds,
                "mean_seconds": mean,
                "arrival_rate_times_seconds": None if mean is None else arrival_rate * mean,
            },
        }

    def _utilisation(self, both: _Half, seconds: float, slots: int) -> float | None:
        if self.slots:
            return both.busy / seconds / self.slots
        if slots:
            return min(1.0, both.worked / seconds / slots)
        return None


def _quantile(waits: Counter[int], share: float) -> float | None:
    if not waits:
        return None
    left = share * waits.total()
    for step in sorted(waits):
        left -= waits[step]
        if left <= 0:
            return WAIT_MIN * exp2((step + 0.5) / STEPS)
    return None
