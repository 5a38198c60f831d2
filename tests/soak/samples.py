"""What a process holds, again and again, and how fast that grows."""

from dataclasses import dataclass, field

import psutil

__all__ = ["BOUNDS", "Bound", "Series", "sample_process", "slope"]


@dataclass(frozen=True)
class Bound:
    """How much a quantity may grow in a whole run after its first minute: so much, or so a share.

    Noise of a healthy process is below both; a leak of one object a second is not.
    """

    unit: str
    absolute: float
    share: float = 0.0

    def allows(self, growth: float, level: float) -> bool:
        return growth <= max(self.absolute, self.share * level)


BOUNDS = {
    "resident memory": Bound("KiB", 6 * 1024, 0.08),
    "open files": Bound("files", 4),
    "threads": Bound("threads", 1),
    "store": Bound("KiB", 24 * 1024, 0.25),
    "store in use": Bound("KiB", 4 * 1024, 0.25),
    "history": Bound("rows", 2_000, 0.25),
}


@dataclass
class Series:
    """One quantity of one process over time, in seconds since the load began."""

    times: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def add(self, at: float, value: float) -> None:
        self.times.append(at)
        self.values.append(value)

    def after(self, begin: float) -> "Series":
        """What was measured from then on."""
        kept = [(t, v) for t, v in zip(self.times, self.values, strict=True) if t >= begin]
        return Series([t for t, _ in kept], [v for _, v in kept])


def slope(series: Series) -> float:
    """The slope of the straight line through a series, per second; 0 for less than two points."""
    count = len(series.times)
    if count < 2:
        return 0.0
    mean_time, mean = sum(series.times) / count, sum(series.values) / count
    spread = sum((t - mean_time) ** 2 for t in series.times)
    if not spread:
        return 0.0
    pairs = zip(series.times, series.values, strict=True)
    return sum((t - mean_time) * (v - mean) for t, v in pairs) / spread


def sample_process(process: psutil.Process) -> dict[str, float]:
    """What a process holds now; raises ``psutil.Error`` if it is gone."""
    with process.oneshot():
        return {
            "resident memory": process.memory_info().rss / 1024,
            "open files": process.num_fds(),
            "threads": process.num_threads(),
        }
