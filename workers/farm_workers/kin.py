"""The descendants of a process, and their end."""

import contextlib
import os
import signal
from pathlib import Path

__all__ = ["children", "descendants", "exists", "kill", "terminate"]

ROUNDS_MAX = 10
"""How often to look for descendants that were made while others were stopped."""


def children(pid: int) -> list[int]:
    """The child processes of a process, as they are now; none if it is gone."""
    try:
        tasks = [*Path(f"/proc/{pid}/task").iterdir()]
        found = " ".join([(task / "children").read_text("ascii") for task in tasks])
    except OSError:  # not Linux, or a kernel without the list: look at every process
        import psutil  # noqa: PLC0415 -- worth 30 ms at every start

        try:
            return [child.pid for child in psutil.Process(pid).children()]
        except psutil.Error:
            return []
    return [int(child) for child in found.split()]


def exists(pid: int) -> bool:
    """Whether there is a process of this number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def descendants(pid: int) -> list[int]:
    """Children, their children and so on."""
    found: list[int] = []
    new = [pid]
    while new:
        new = [child for parent in new for child in children(parent)]
        found += new
    return found


def terminate(pid: int) -> set[int]:
    """Ask a process and all its descendants to end; returns who was asked."""
    asked = {pid, *descendants(pid)}
    for one in asked:
        _send(one, signal.SIGTERM)
    return asked


def kill(pid: int) -> None:
    """End a child of this process and all its descendants by force, without waiting.

    All are stopped first, so that they make no more of them meanwhile.
    """
    _send(pid, signal.SIGSTOP)
    seen: set[int] = set()
    for _ in range(ROUNDS_MAX):
        new = set(descendants(pid)) - seen
        if not new:
            break
        for child in new:
            _send(child, signal.SIGSTOP)
        seen |= new
    for one in (*seen, pid):
        _send(one, signal.SIGKILL)


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(OSError):
        os.kill(pid, number)
