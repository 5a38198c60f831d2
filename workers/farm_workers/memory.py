"""How much memory a process and its descendants have for themselves.

That is: anonymous pages and shared memory that nobody else has, resident or swapped out. Pages of
files, and those that a worker still shares with the fork server it came from, cost nothing.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from farm_workers import kin

__all__ = ["peak_bytes", "private_bytes", "tree_bytes"]

KIB = 1024
_SHARED = ("/dev/shm/", "/memfd:", "/SYSV", "/dev/zero")  # noqa: S108 - as maps name them


def tree_bytes(pid: int, limit: int) -> int:
    """The memory of a process and its descendants; an upper bound if that is within the limit.

    The bound is cheap, being what the kernel counts anyway; only a process tree that seems to be
    too large is looked at page by page.
    """
    pids = [pid, *kin.descendants(pid)]
    bound = sum(map(_bound, pids))
    return bound if bound <= limit else sum(map(private_bytes, pids))


def private_bytes(pid: int) -> int:
    """The memory of one process; 0 if it is gone."""
    rollup = _fields(f"/proc/{pid}/smaps_rollup")
    if "Pss_Anon" not in rollup:
        return _bound(pid)
    own = rollup["Pss_Anon"] + rollup.get("SwapPss", 0)
    return own + (_private_shared(pid) if rollup.get("Pss_Shmem") else 0)


def peak_bytes() -> int:
    """The most memory that this process ever had, pages of files included; 0 if nobody knows."""
    return _fields("/proc/self/status").get("VmHWM", 0)


def _bound(pid: int) -> int:
    """All anonymous and shared pages, whoever else has them."""
    status = _fields(f"/proc/{pid}/status")
    if "RssAnon" in status:
        return status["RssAnon"] + status["RssShmem"] + status["VmSwap"]
    if Path("/proc/self").exists():
        return 0  # it is gone
    import psutil  # noqa: PLC0415 -- not needed on Linux, and slow to load

    try:
        return int(psutil.Process(pid).memory_full_info().uss)
    except psutil.Error:
        return 0


def _private_shared(pid: int) -> int:
    """Shared memory that only this process has."""
    found = 0
    shared = False
    for line in _lines(f"/proc/{pid}/smaps"):
        if line[:1].isupper():
            if shared and line.startswith("Private_"):
                found += int(line.split()[1]) * KIB
        else:
            name = line.split(maxsplit=5)[5:]
            shared = bool(name) and name[0].startswith(_SHARED)
    return found


def _fields(path: str) -> dict[str, int]:
    """The lines of a file that give a number of kilobytes, in bytes."""
    found = {}
    for line in _lines(path):
        if match := re.match(r"(\w+):\s+(\d+) kB", line):
            found[match[1]] = int(match[2]) * KIB
    return found


def _lines(path: str) -> Iterable[str]:
    try:
        return Path(path).read_text("utf-8", "replace").splitlines()
    except OSError:
        return ()
