"""How large the tasks of a ``map`` are, from what is measured while it runs.

One item a task at first; then about 50 ms of work, reached by steps of at most eight times. How
long an item takes is not measured where it runs but reckoned from the whole: with ``slots``
workers and items finishing at a rate, an item takes ``slots / rate``. That is too long a time if
the farm is shared or waited for the client, so tasks may come out smaller than they could be,
never larger.
"""

from farm.protocol.messages import BATCH_BYTES, ITEMS_PER_TASK_MAX

__all__ = ["Pace"]

TARGET_SECONDS = 0.05
"""The work of one task: what its own cost is small against, and a worker's last one ends soon."""
GROWTH = 8
"""A task has at most this many times the items of one that has been measured."""
ITEMS_MAX = min(8192, ITEMS_PER_TASK_MAX)
"""Above this a task's cost per item does not shrink any more, but the last tasks get long."""
MEASURE_SECONDS = 0.002
"""Shorter intervals are dominated by the coming and going of messages."""
MEASURE_TASKS_PER_SLOT = 2
"""With fewer ends in it, an interval says when tasks ended, not how long they took."""
MEASURE_SECONDS_MAX = 0.2
"""After this, fewer have to do."""
WINDOW_MIN = 64
WINDOW_PER_SLOT = 4
GROWING_WINDOW_MIN = 8
GROWING_WINDOW_PER_SLOT = 2
"""Fewer while sizes grow: the first task of a new size waits behind all those of the old one."""


class Pace:
    """Sizes and windows of one ``map``; ``size`` is the number of items for the next task.

    ``slots`` is how many workers the farm is thought to have. Times are monotonic seconds.
    """

    def __init__(self, size: int | None = None) -> None:
        self.slots = 1
        self._fixed = size
        self._size = size or 1
        self._item_bytes = 0.0
        self._seconds: float | None = None  # of one item, smoothed
        self._outstanding = 0  # items
        self._since = 0.0
        self._done = 0
        self._largest = 1
        self._growing = size is None  # tasks should be larger than GROWTH allows yet

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

    def submitted(self, items: int, size: int, now: float) -> None:
        """A task of so many items, and of so many payload bytes, was submitted."""
        if not self._outstanding:
            self._since, self._done = now, 0
        self._outstanding += items
        self._item_bytes = max(size / items, 0.75 * self._item_bytes)

    def finished(self, items: int, task_items: int, now: float) -> None:
        """So many items of a task of ``task_items`` have ended."""
        self._outstanding -= items
        self._done += items
        self._largest = max(self._largest, task_items)
        elapsed = now - self._since
        enough = MEASURE_TASKS_PER_SLOT * self.slots * self._largest
        if elapsed < (MEASURE_SECONDS if self._done >= enough else MEASURE_SECONDS_MAX):
            return
        seconds = elapsed * self.slots / self._done
        # What is reckoned is too long rather than too short: a shorter time is believed at once.
        self._seconds = min(seconds, (seconds + (self._seconds or seconds)) / 2)
        if self._fixed is None:
            wanted = int(TARGET_SECONDS / self._seconds)
            largest = min(GROWTH * self._largest, ITEMS_MAX)
            self._growing = largest < min(wanted, ITEMS_MAX)
            self._size = max(1, min(wanted, largest))
        self._since, self._done, self._largest = now, 0, 1
