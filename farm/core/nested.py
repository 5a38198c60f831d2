"""Open tasks that other tasks have submitted: by these, and the deepest first."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

from farm.core.batch import Batch
from farm.protocol.parts import TaskRun
from farm.ranges import RangeSet

__all__ = ["Nested"]

TaskKey = tuple[bytes, int]
"""``(session, counter)``."""


class Nested:
    """Bounded by admission: each batch that is open and has a parent is here."""

    def __init__(self) -> None:
        self._by_parent: dict[TaskKey, dict[Batch, int]] = {}  # numbered as they were opened
        self._by_depth: dict[int, dict[Batch, None]] = {}
        self._opened = 0

    def __len__(self) -> int:
        return sum(map(len, self._by_depth.values()))

    def __contains__(self, batch: Batch) -> bool:
        return batch in self._by_depth.get(batch.template.depth, ())

    def open(self, batch: Batch) -> None:
        """A batch is there."""
        if (parent := batch.template.parent) is not None:
            self._opened += 1
            self._by_parent.setdefault(parent, {}).setdefault(batch, self._opened)
            self._by_depth.setdefault(batch.template.depth, {})[batch] = None

    def close(self, batch: Batch) -> None:
        """All its tasks are over."""
        if (parent := batch.template.parent) is not None and batch in self:
            _remove(self._by_parent, parent, batch)
            _remove(self._by_depth, batch.template.depth, batch)

    def deepest(self) -> Iterator[Batch]:
        """All of them, those first that have the most tasks above them, then the oldest."""
        for depth in sorted(self._by_depth, reverse=True):
            yield from self._by_depth[depth]

    def below(self, tasks: Sequence[TaskRun]) -> list[TaskRun]:
        """What these tasks have submitted, and what that has, and so on."""
        found: dict[Batch, int] = {}
        level = list(tasks) if self._by_parent else []
        while level:
            news: dict[Batch, int] = {}
            for parent in self._parents(level):
                news.update(self._by_parent[parent])
            level = [(b.session.id, b.first, b.count) for b in news if b not in found]
            found |= news
        ordered = sorted(found, key=lambda batch: (-batch.template.depth, found[batch]))
        return [(batch.session.id, batch.first, batch.count) for batch in ordered]

    def _parents(self, tasks: Sequence[TaskRun]) -> list[TaskKey]:
        """Which of these have submitted any: the fewer are looked at, they or all that have."""
        if sum(count for _, _, count in tasks) <= len(self._by_parent):
            keys = ((session, first + i) for session, first, count in tasks for i in range(count))
            return [key for key in keys if key in self._by_parent]
        within: dict[bytes, RangeSet] = {}
        for session, first, count in tasks:
            within.setdefault(session, RangeSet()).add(first, first + count)
        return [key for key in self._by_parent if key[0] in within and key[1] in within[key[0]]]


Key = TypeVar("Key")
Value = TypeVar("Value")


def _remove(index: dict[Key, dict[Batch, Value]], key: Key, batch: Batch) -> None:
    del index[key][batch]
    if not index[key]:
        del index[key]
