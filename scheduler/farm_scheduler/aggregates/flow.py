"""In which order the nodes of a tree are made: each once what it is made of is there. Pure."""

import heapq
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from farm_scheduler.aggregates.tree import Node

__all__ = ["Flow", "Todo"]


class Todo(NamedTuple):
    """A node, by its place in the tree, and the measures that it lacks."""

    at: int
    node: Node
    names: set[str]


class Flow:
    """The nodes that have to be made, given out as soon as they can be.

    Those with most nodes above them come first: what waits for them could not be made beside
    anything else in the end. ``ready`` is how many could be taken.
    """

    def __init__(self, nodes: Sequence[Node], lacking: Mapping[int, set[str]]) -> None:
        """``nodes`` are children before parents; ``lacking`` says by place what is to be made."""
        self._nodes = nodes
        self._lacking = lacking
        self._above: dict[int, list[int]] = defaultdict(list)
        self._waits = dict.fromkeys(lacking, 0)
        places = {id(node): at for at, node in enumerate(nodes)}
        for at in lacking:
            for child in nodes[at].children:
                if (below := places.get(id(child), -1)) in lacking:
                    self._above[below].append(at)
                    self._waits[at] += 1
        self._height: dict[int, int] = {}
        for at in sorted(lacking, reverse=True):
            self._height[at] = max((self._height[up] + 1 for up in self._above[at]), default=0)
        self._ready = [self._ranked(at) for at, count in self._waits.items() if not count]
        heapq.heapify(self._ready)

    @property
    def ready(self) -> int:
        """How many nodes wait for nothing any more."""
        return len(self._ready)

    def take(self, count: int) -> list[Todo]:
        """The first of those that are ready, each given out once."""
        places = [heapq.heappop(self._ready)[-1] for _ in range(min(count, len(self._ready)))]
        return [Todo(at, self._nodes[at], self._lacking[at]) for at in places]

    def made(self, todo: Todo) -> None:
        """A node is there: what waited for it may be ready."""
        for at in self._above[todo.at]:
            self._waits[at] -= 1
            if not self._waits[at]:
                heapq.heappush(self._ready, self._ranked(at))

    def _ranked(self, at: int) -> tuple[int, int, int]:
        return -self._height[at], -len(self._nodes[at].children), at
