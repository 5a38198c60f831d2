"""The fuse of a worker: the kernel's limit on the memory of its task, a little above its own.

The agent's samples are the rule, and count what a task has for itself. The kernel counts otherwise:
it has the pages of files, which it takes back before it ends anything; files in memory (a tmpfs),
which it cannot; and nothing of what this process had before it entered its group. So the fuse is
the task's limit and a margin, on top of what the group cannot give back when the task begins.

The worker sets it itself: in order with its tasks, and if the kernel first has to take pages back,
the task waits for that and not the agent.
"""

from farm.protocol.messages import PAYLOAD_BYTES_MAX
from farm_workers.cgroups import Group

__all__ = ["Fuse", "margin"]

MARGIN_BYTES = 64 << 20
"""The least room above a limit: for what the kernel keeps for a process, and late samples."""
MARGIN_SHARE = 4
"""And a quarter of a large one."""


def margin(limit: int) -> int:
    """How far above a limit the fuse is."""
    return max(MARGIN_BYTES, limit // MARGIN_SHARE)


class Fuse:
    """Of a process that may be in no group, and then it does nothing. Nothing here raises.

    ``held``: there is a limit now.
    """

    def __init__(self, group: Group | None) -> None:
        self.held = False
        self._group = group
        self._entered = False
        self._limit = 0  # of the task that it was set for last
        self._floor = 0  # what there was without that task
        self._size = 0
        self._kills = 0
        self._blown = False  # seen before the fuse was widened

    def set(self, limit: int | None) -> None:
        """Before a task: hold it to its limit, or to none."""
        if limit is not None:
            self._hold(limit)
        elif self.held:
            self._lift()

    @property
    def is_blown(self) -> bool:
        """Whether the kernel has ended something here for the limit of the task that ends now."""
        if self._group is None or not self.held:
            return False
        try:
            kills, reached = self._group.ooms()
        except (OSError, ValueError):
            return self._blown
        known, self._kills = self._kills, kills
        return self._blown or (reached and kills > known)

    def _hold(self, limit: int) -> None:
        group = self._group
        if group is None:
            return
        try:
            if not self._entered:
                group.make()
                group.enter()
                self._entered = True
            room = margin(limit)
            # To read all counters costs as much as some tasks do: only if there is something new.
            if limit != self._limit or abs(group.usage() - self._floor) > room // 2:
                self._floor = group.floor()
            self._limit = limit
            self._put(group, self._floor + limit + room)
        except (OSError, ValueError):
            self._give_up()

    def widen(self) -> None:
        """Before the result is written, which may be in memory once more, as a file for others."""
        if self._group is not None and self.held:
            self._blown = self.is_blown
            if self._blown:
                return  # a wider one would not seem to have been reached
            try:
                size = self._floor + self._limit + margin(self._limit)
                self._put(self._group, size + PAYLOAD_BYTES_MAX)
            except (OSError, ValueError):
                self._give_up()

    def _lift(self) -> None:
        self.held = False
        self._size = 0
        if self._group is not None:
            try:
                self._group.limit(-1)
            except OSError:
                self._group = None

    def _put(self, group: Group, size: int) -> None:
        self.held = True
        if size != self._size:
            group.limit(size)
            group.watch()
            self._size = size

    def _give_up(self) -> None:
        """The group does not do what it should: the samples remain."""
        if self._entered:
            self._lift()
        self.held = False
        self._group = None
