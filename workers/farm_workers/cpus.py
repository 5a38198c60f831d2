"""How many CPUs this process may use."""

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["default_slots", "groups_of", "read", "walk"]


def default_slots(root: str = "/") -> int:
    """The CPUs of this process by affinity and by cgroup quota (v1 and v2); at least 1.

    A quota of 2.5 CPUs counts as 3: a worker that is throttled now and then wastes less than one
    that is not there. ``root`` is where ``proc`` and ``sys`` are.
    """
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        count = os.cpu_count() or 1
    quota = _quota(Path(root))
    return max(1, min(count, math.ceil(quota)) if quota else count)


def _quota(root: Path) -> float:
    """The smallest quota of this process's cgroup and those above it, in CPUs; 0 if none."""
    quotas = []
    for version, path in groups_of("cpu", root):
        top = root / ("sys/fs/cgroup" if version > 1 else "sys/fs/cgroup/cpu")
        quotas += walk(top, path, _quota_v2 if version > 1 else _quota_v1)
    return min((quota for quota in quotas if quota > 0), default=0.0)


def groups_of(controller: str, root: Path) -> Iterator[tuple[int, str]]:
    """The cgroups of this process that may limit it: of which version, and the path."""
    for line in read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if not controllers:
            yield 2, path
        elif controller in controllers.split(","):
            yield 1, path


def walk(top: Path, path: str, read: Callable[[Path], float]) -> list[float]:
    """What ``read`` finds in a cgroup's folder and in all above it.

    In a container the path may be the host's, and only the top is there.
    """
    folder = top / path.strip("/")
    found = []
    while True:
        found.append(read(folder))
        if folder == top or top not in folder.parents:
            return found
        folder = folder.parent


def _quota_v2(folder: Path) -> float:
    return _share(*[*read(folder / "cpu.max").split(), "", ""][:2])


def _quota_v1(folder: Path) -> float:
    return _share(
        read(folder / "cpu.cfs_quota_us").strip(), read(folder / "cpu.cfs_period_us").strip()
    )


def _share(quota: str, period: str) -> float:
    """A quota over its period; 0 for ``max``, -1 and whatever is no number."""
    return int(quota) / int(period) if quota.isdecimal() and int(period or 0) > 0 else 0.0


def read(path: Path) -> str:
    """A file of the kernel; empty if there is none."""
    try:
        return path.read_text("ascii")
    except (OSError, UnicodeDecodeError):
        return ""
