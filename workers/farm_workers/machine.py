"""What this machine has for tasks that need it: memory and GPUs.

AMD's runtime keeps to ``CUDA_VISIBLE_DEVICES``, too: one variable does for both vendors.
"""

import logging
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from farm.resources import GPU, MEMORY
from farm_workers.cpus import groups_of, read, walk

__all__ = ["Has", "find", "find_gpus", "memory_bytes"]

logger = logging.getLogger("farm.host")

ASK_SECONDS = 10.0
"""How long the driver's tool may take; it can take seconds for the first question."""
VISIBLE = "CUDA_VISIBLE_DEVICES"
TOOLS = (
    (
        ("nvidia-smi", "--query-gpu=index", "--format=csv,noheader"),
        re.compile(r"(?m)^\s*(\d+)\s*$"),
    ),
    (("rocm-smi", "--showid", "--json"), re.compile(r'"card(\d+)"')),
)
"""What each vendor's driver is asked, and how its answer names a GPU."""


class Has(NamedTuple):
    """What a host has, and what its GPUs are called."""

    resources: dict[str, float]
    devices: tuple[str, ...]


def find(said: Mapping[str, float]) -> Has:
    """What is said, and of memory and GPUs what is there if nothing is said of them."""
    resources = dict(said)
    if MEMORY not in resources:
        resources[MEMORY] = float(memory_bytes())
    if GPU not in resources:
        devices = find_gpus()
        resources[GPU] = float(len(devices))
        return Has(resources, devices)
    count = int(resources[GPU])
    visible = _visible()
    numbers = tuple(map(str, range(count)))
    return Has(resources, visible[:count] if visible and len(visible) >= count else numbers)


def memory_bytes(root: str = "/") -> int:
    """The memory of this machine, or what the cgroups of this process allow if that is less."""
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    base = Path(root)
    for version, path in groups_of("memory", base):
        top = base / ("sys/fs/cgroup" if version > 1 else "sys/fs/cgroup/memory")
        name = "memory.max" if version > 1 else "memory.limit_in_bytes"
        limits = walk(top, path, lambda folder, name=name: _limit(folder / name))  # type: ignore[misc]
        found += [int(limit) for limit in limits if limit]
    return min(found)


def _limit(path: Path) -> float:
    """A limit in bytes; 0 where there is none."""
    text = read(path).strip()
    return float(text) if text.isdecimal() else 0.0


def find_gpus() -> tuple[str, ...]:
    """The GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them.

    None where the driver's tool is missing, fails, or takes too long.
    """
    found: tuple[str, ...] = ()
    for question, pattern in TOOLS:
        if not found and (tool := shutil.which(question[0])):
            found = _ask([tool, *question[1:]], pattern)
    visible = _visible()
    return found if visible is None else visible[: len(found)]


def _ask(question: list[str], pattern: re.Pattern[str]) -> tuple[str, ...]:
    """The numbers of the GPUs that a vendor's tool names."""
    try:
        answer = subprocess.run(
            question, capture_output=True, text=True, timeout=ASK_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        logger.warning("no GPUs are offered: %s", error)
        return ()
    return tuple(dict.fromkeys(pattern.findall(answer.stdout)))


def _visible() -> tuple[str, ...] | None:
    """The devices that somebody has chosen for this process; None if nobody has."""
    text = os.environ.get(VISIBLE)
    return None if text is None else tuple(filter(None, (one.strip() for one in text.split(","))))
