"""How much memory a process has over time, and how many tasks have ended."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from time import perf_counter, sleep

import psutil

__all__ = ["FIRST_PART", "Curve"]

SAMPLE_SECONDS = 0.25
FIRST_PART = 6
"""What comes before such a part of the time, 10 s of a minute, is filling up."""


@dataclass
class Curve:
    """Samples of one run: seconds since its start, bytes, and tasks that ended in all."""

    who: str
    seconds: list[float] = field(default_factory=list)
    bytes: list[int] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)

    def sample(self, pid: int, seconds: float, ended: Callable[[], int]) -> None:
        """Watch a process for so long."""
        process, began = psutil.Process(pid), perf_counter()
        while (now := perf_counter() - began) < seconds:
            self.add(now, process.memory_info().rss, ended())
            sleep(max(0.0, min(SAMPLE_SECONDS, began + seconds - perf_counter())))
        self.add(now, process.memory_info().rss, ended())

    def add(self, seconds: float, rss: int, ended: int) -> None:
        """One sample."""
        self.seconds.append(seconds)
        self.bytes.append(rss)
        self.ended.append(ended)

    @property
    def _since(self) -> int:
        """The first sample after the first part."""
        return next(i for i, at in enumerate(self.seconds) if at >= self.seconds[-1] / FIRST_PART)

    @property
    def growth(self) -> float:
        """By which share the memory grew from the first third of the rest to the last, in the mean.

        It goes up and down with what is just being written and read.
        """
        rest = self.bytes[self._since :]
        third = -(-len(rest) // 3)
        return fmean(rest[-third:]) / fmean(rest[:third]) - 1.0

    @property
    def rate(self) -> float:
        """Tasks that ended a second, after the first part."""
        since = self._since
        return (self.ended[-1] - self.ended[since]) / (self.seconds[-1] - self.seconds[since])

    def write(self, folder: Path) -> None:
        """Keep it for the plot."""
        path = folder / f"overload-{self.who.replace(' ', '-')}.json"
        path.write_text(json.dumps(asdict(self)), "utf-8")
