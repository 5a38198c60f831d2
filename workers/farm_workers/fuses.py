"""The agent's side of its workers' fuses: a memory cgroup for each worker, where there can be any.

The groups are made when the first task with a limit comes, and removed with their workers. Those
of an agent are in one of its own, which is locked as long as it lives: what is not, the next agent
removes, and ends what is still in there. Nothing here raises.
"""

import itertools
import logging
import os
import time

import msgspec

from farm_workers import cgroups
from farm_workers.cgroups import Group, Place
from farm_workers.channel import Setup

__all__ = ["Fuses"]

logger = logging.getLogger("farm.host")

REMOVALS_MAX = 20
REMOVE_SECONDS = 0.01
"""At the end, how often and when to see if the processes of the groups are gone."""
TRIES = 3
"""An agent that tidies up may take a group for left in the instant before it is locked."""


class Fuses:
    """``base`` is the group of this agent, whether it is there or not; empty: it has none."""

    def __init__(self, place: Place | None, base: str = "") -> None:
        self.base = base
        self._place = place
        self._lock: int | None = None  # once the group is there, or cannot be: -1
        self._serials = itertools.count(1)
        self._groups: dict[int, Group] = {}  # by slot
        self._kills: dict[int, int] = {}  # by slot, of workers that were given a task with a limit
        self._left: list[str] = []  # to be removed once their processes are gone
        if place:
            cgroups.tidy(place)

    @property
    def says(self) -> str:
        """What ``HostHello.memory_limits`` is to say."""
        return f"cgroup v{self._place.version}" if self._place else cgroups.SAMPLED

    def setup(self, slot: int, setup: Setup) -> Setup:
        """What a new worker is told; its group is its own matter, and made when it needs it."""
        if self._place is None:
            return setup
        group = Group(self._place.version, f"{self.base}/{slot}.{next(self._serials)}")
        self._groups[slot] = group
        return msgspec.structs.replace(setup, group=(group.version, group.folder))

    def begin(self, slot: int) -> None:
        """A worker is about to be given a task with a memory limit."""
        if slot in self._groups:
            if self._lock is None:
                self._lock = self._prepare()
            if self._lock >= 0:
                self._kills.setdefault(slot, 0)

    def blown(self, slot: int) -> bool:
        """Whether the kernel has ended something in a worker's group for a limit of its task."""
        if slot not in self._kills:
            return False
        try:
            kills, reached = self._groups[slot].ooms()
        except (OSError, ValueError):
            return False  # it has not come to make one, or could not
        if kills > self._kills[slot] and reached:
            return True
        self._kills[slot] = kills  # for want of memory elsewhere
        return False

    def end(self, slot: int) -> None:
        """A worker is gone, with all that it has started; whoever got away from that ends now."""
        group = self._groups.pop(slot, None)
        if group is not None and self._kills.pop(slot, None) is not None:
            self._left.append(group.folder)
            self._left = [folder for folder in self._left if not cgroups.remove(folder)]

    def close(self) -> None:
        """End what is still in there, and remove all groups; from any thread."""
        lock, self._lock = self._lock, -1
        if lock is not None and lock >= 0:
            for _ in range(REMOVALS_MAX):
                if cgroups.remove(self.base):
                    break
                time.sleep(REMOVE_SECONDS)
            os.close(lock)

    def _prepare(self) -> int:
        """Make this agent's group; the descriptor of its lock, or -1."""
        why = "another process uses it"
        try:
            for _ in range(TRIES):
                if self._place is not None:
                    cgroups.prepare(self._place, self.base)
                if (fd := cgroups.lock(self.base)) >= 0:
                    return fd
        except (OSError, ValueError) as error:
            why = str(error)
        logger.warning("memory limits are only sampled: no cgroup can be made: %s", why)
        return -1
