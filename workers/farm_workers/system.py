"""What a process of the farm asks of the operating system for itself. All of it is best effort."""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import MutableMapping
from pathlib import Path

__all__ = [
    "adopt_orphans",
    "clean_environment",
    "die_with_parent",
    "is_secret",
    "keep_freed_memory",
    "offer_to_oom_killer",
]

OOM_SCORE = 500
"""A worker is to be ended before the agent, the coordinator and whatever else runs here."""
KEPT_BYTES = 64 << 20
"""Freed memory up to this is kept for the next payload: fresh pages cost more than copying."""
FROM_HEAP_BYTES = 32 << 20
"""Smaller pieces come from what was freed; it is the most that glibc allows."""
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_SECRETS = ("KEY", "SECRET", "TOKEN", "PASSWORD")
_ONE_THREAD = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)

_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def adopt_orphans() -> None:
    """Descendants whose parents end become children of this process, even after ``setsid``."""
    if _libc is not None:
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with_parent(parent: int) -> None:
    """Be killed when the parent ends, or at once if it has.

    The signal comes when the parent's *thread* that started this process ends: only for parents
    with one thread, and as a second line.
    """
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(128 + signal.SIGKILL)


def keep_freed_memory() -> None:
    """Do not give memory back to the system after each large payload, only to fetch it again.

    Only where the C library is glibc, and the user has not set its limits.
    """
    mallopt = getattr(_libc, "mallopt", None)
    if mallopt is not None and not any(name.startswith("MALLOC_") for name in os.environ):
        mallopt(_M_MMAP_THRESHOLD, FROM_HEAP_BYTES)
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)


def offer_to_oom_killer() -> None:
    """If memory runs out, this process goes first."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE), "ascii")


def is_secret(name: str) -> bool:
    """Whether a variable of this name holds a secret of the farm."""
    return name.startswith("FARM_") and any(word in name for word in _SECRETS)


def clean_environment(environment: MutableMapping[str, str]) -> None:
    """For workers: none of the farm's secrets, and one thread a slot where the user does not say.

    Libraries read their number of threads when they are loaded, so it has to stand there before.
    """
    for name in filter(is_secret, [*environment]):
        del environment[name]
    for name in _ONE_THREAD:
        environment.setdefault(name, "1")
