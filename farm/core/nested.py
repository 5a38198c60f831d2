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
        self._by_parent: dict[TaskKey, dict[Batch, None]] = {}
        self._by_depth: dict[int, dict[Batch, None]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._by_depth.values()))

    def __contains__(self, batch: Batch) -> bool:
        return batch in self._by_depth.get(batch.template.depth, ())

    def open(self, batch: Batch) -> None:
        """A batch is there."""
        if (parent := batch.template.parent) is not None:
            self._by_parent.setdefault(parent, {})[batch] = None
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
        if not self._by_parent or not tasks:
            return []
        above: dict[bytes, RangeSet] = {}
        for session, first, count in tasks:
            above.setdefault(session, RangeSet()).add(first, first + count)
        found: dict[Batch, None] = {}
        grows = True
        while grows:  # once for each level
            grows = False
            for (session, counter), batches in self._by_parent.items():
                if session in above and counter in above[session]:
                    for batch in batches.keys() - found.keys():
                        found[batch] = None
                        own = above.setdefault(batch.session.id, RangeSet())
                        own.add(batch.first, batch.stop)
                        grows = True
        return [(batch.session.id, batch.first, batch.count) for batch in self._ordered(found)]

    def _ordered(self, batches: dict[Batch, None]) -> list[Batch]:
        return [batch for batch in self.deepest() if batch in batches]


Key = TypeVar("Key")


def _remove(index: dict[Key, dict[Batch, None]], key: Key, batch: Batch) -> None:
    del index[key][batch]
    if not index[key]:
        del index[key]
