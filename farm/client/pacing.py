"""How large the tasks of a ``map`` are, from what is measured while it runs.

One item a task at first; then about 50 ms of work. How long items take is measured where they run
and comes with their results, so it is known after a round trip, however fast the farm is. But items
may differ: a task never has more than a few times the items that were measured of late.
"""

from farm.protocol.messages import BATCH_BYTES, ITEMS_PER_TASK_MAX

__all__ = ["Pace"]

TARGET_SECONDS = 0.05
"""The work of one task: what its own cost is small against, and a worker's last one ends soon."""
GROWTH = 64
"""A task has at most this many times the items measured of late, which are those of four tasks."""
ITEMS_MAX = min(16_384, ITEMS_PER_TASK_MAX)
"""Above this a task's cost per item does not shrink any more, but the last tasks get long."""
GROWING = 2
"""Tasks that should be larger by more than this are on the way to it."""
LEARNING_SECONDS = 0.005
"""With less work measured a size is a guess: a worker's first call of a function is its slowest."""
SMOOTHING = 0.75
"""What the tasks before weigh, when a task has ended."""
WINDOW_MIN = 64
WINDOW_PER_SLOT = 4
GROWING_WINDOW_MIN = 8
GROWING_WINDOW_PER_SLOT = 2
"""Fewer while sizes grow: the first task of a new size waits behind all those of the old one."""


class Pace:
    """Sizes and windows of one ``map``; ``size`` is the number of items for the next task.

    ``slots`` is how many workers the farm is thought to have.
    """

    def __init__(self, size: int | None = None) -> None:
        self.slots = 1
        self._fixed = size
        self._size = size or 1
        self._growing = size is None  # tasks are far from as large as they should be
        self._item_bytes = 0.0
        # Of the tasks of late: what they had, and how long that took.
        self._items = self._seconds = 0.0

    @property
    def size(self) -> int:
        """How many items the next task should have."""
        if self._fixed or self._item_bytes * self._size <= BATCH_BYTES:
            return self._size
        return max(1, int(BATCH_BYTES / self._item_bytes))

    @property
    def window(self) -> int:
        """How many tasks to have on the way, so that no worker waits for the client."""
        if self._growing and self.size == self._size:
            return max(GROWING_WINDOW_MIN, GROWING_WINDOW_PER_SLOT * self.slots)
        return max(WINDOW_MIN, WINDOW_PER_SLOT * self.slots)

    def submitted(self, items: int, size: int) -> None:
        """A task of so many items, and of so many payload bytes, was submitted."""
        self._item_bytes = max(size / items, 0.75 * self._item_bytes)

    def finished(self, items: int, task_items: int, seconds: float) -> None:
        """So many items of a task of ``task_items`` took so long; 0 or less if nobody knows."""
        if self._fixed or not seconds > 0:  # no number is not above 0 either
            return
        before = SMOOTHING ** (items / task_items)
        self._items = before * self._items + items
        self._seconds = before * self._seconds + seconds
        wanted = min(TARGET_SECONDS * self._items / self._seconds, ITEMS_MAX)
        allowed = GROWTH * self._items
        self._growing = GROWING * allowed < wanted or self._seconds < LEARNING_SECONDS
        self._size = max(1, int(min(wanted, allowed)))
