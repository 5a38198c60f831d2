"""What a coordinator process counts about itself; shown by ``farm status``."""

import os
import resource
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from farm.transport import Router

if TYPE_CHECKING:
    from farm.coordinator.guard import Guard

__all__ = ["Counters", "resident_bytes"]


class Counters:
    """Counts of this process since its start; ``snapshot`` has them as plain data.

    ``guard``: who keeps peers out, where keys are in use.
    """

    def __init__(
        self,
        routers: Sequence[Router],
        guard: "Guard | None" = None,
        *,
        insecure: bool = False,
    ) -> None:
        self.turns = 0
        self.bugs = 0
        """Messages and ticks on which the core raised."""
        self._routers = routers
        self._guard = guard
        self._insecure = insecure
        self._since = time.monotonic()

    def snapshot(self) -> dict[str, int | float]:
        """Everything, by name; sizes in bytes, times in seconds."""
        totals: dict[str, int | float] = {
            "uptime_seconds": round(time.monotonic() - self._since, 3),
            "cpu_seconds": round(time.process_time(), 3),
            "resident_bytes": resident_bytes(),
            "turns": self.turns,
            "bugs": self.bugs,
            "connections": sum(len(router) for router in self._routers),
        }
        if self._insecure:
            totals["insecure"] = 1
        if self._guard is not None:
            refused = self._guard.refused
            totals["refused"] = sum(refused.values())
            totals |= {f"refused_{why}": count for why, count in refused.items() if count}
            if self._guard.unreadable:
                totals["keys_unreadable"] = 1
        for router in self._routers:
            for name, count in router.counters.items():
                totals[name] = totals.get(name, 0) + count
        return totals


def resident_bytes() -> int:
    """The memory of this process that is in RAM; elsewhere than on Linux the most it ever was."""
    try:
        with open("/proc/self/statm", "rb") as statm:  # noqa: PTH123 - read on every status
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
