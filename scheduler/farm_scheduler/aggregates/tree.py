"""The combine tree: which nodes an aggregate has, what each is made of, and its address. Pure.

A node's key is a hash of what it is made from: of a leaf, the content of its partition and how it
is read; of any other, the keys of its children; and always of the measure and the format. Equal
keys are equal nodes, so what is there already is never computed again, and a change of one
partition changes the keys on its own path only. Leaves of a chunk are grouped by a hash of their
names when they are many, so that the path is short and partitions may come and go.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from farm_scheduler.aggregates.code import hash_of
from farm_scheduler.aggregates.kinds import Columns
from farm_scheduler.aggregates.windows import Level, Levels, chunk_of, chunk_span

if TYPE_CHECKING:
    from farm_scheduler.aggregates.measures import Measure

__all__ = ["FAN", "Leaf", "LeafKeys", "Node", "Shape", "grow", "leaf_id", "leaf_keys", "shape_of"]

FORMAT = 1
"""Counts changes of what nodes are, but for measures, which count their own."""
FAN = 16
"""The most leaves that are merged at once."""


class Leaf(NamedTuple):
    """A partition in the tree: ``id`` stands for its content, ``chunks`` are those with rows."""

    name: str
    id: str
    chunks: Iterable[str]


class Shape(NamedTuple):
    """What, beside its leaves, decides how a tree looks; ``shape_of`` makes one.

    By measure: ``identities``, of their states, and ``shown``, of their values.
    """

    levels: Levels
    identities: Mapping[str, str]
    shown: Mapping[str, str]
    kinds: Columns


def shape_of(levels: Levels, measures: "Mapping[str, Measure]", kinds: Columns) -> Shape:
    """The shape of an aggregate's tree."""
    identities = {name: hash_of(plain(one.identity()))[:16] for name, one in measures.items()}
    return Shape(levels, identities, {name: repr(one) for name, one in measures.items()}, kinds)


class Node(NamedTuple):
    """A node: ``part`` is empty for a whole chunk. Children are nodes, or leaves of the chunk.

    ``keys`` and ``states`` are its addresses; ``values``, of a whole chunk, that of its values. A
    node with one child of its own level is that child, and needs no work.
    """

    level: Level
    chunk: str
    part: str
    children: tuple["Node | LeafKeys", ...]
    keys: str
    states: dict[str, str]
    values: str

    @property
    def is_same(self) -> bool:
        """Whether it is just its only child."""
        return len(self.children) == 1 and self.keys == self.children[0].keys


class LeafKeys(NamedTuple):
    """The addresses of what a partition has of a chunk."""

    keys: str
    states: dict[str, str]


def plain(value: Any) -> str:
    """Plain data as text, the same each time."""
    return json.dumps(value, sort_keys=True, default=repr)


def leaf_id(
    source: Sequence[Any],
    by: Sequence[str],
    every: Level,
    values: Mapping[str, str],
    fingerprint: str,
) -> str:
    """What stands for the content of a partition, read in a certain way."""
    return hash_of("leaf", plain([FORMAT, source, by, str(every), values]), fingerprint)


def leaf_keys(leaf: str, chunk: str, identities: Mapping[str, str]) -> LeafKeys:
    """The addresses of a chunk of a leaf."""
    keys = hash_of(leaf, chunk)
    return LeafKeys(keys, _states(keys, identities))


def _states(keys: str, identities: Mapping[str, str]) -> dict[str, str]:
    """The addresses of states: what they are made from is known by the keys beside them."""
    return {name: f"{keys}:{one}" for name, one in identities.items()}


def grow(shape: Shape, leaves: Iterable[Leaf]) -> list[Node]:
    """All nodes, children before parents."""
    by_chunk: dict[str, list[Leaf]] = defaultdict(list)
    for leaf in leaves:
        for chunk in leaf.chunks:
            by_chunk[chunk].append(leaf)
    nodes: list[Node] = []
    at_level: dict[Level, list[Node]] = {}
    every, *above = shape.levels.all
    at_level[every] = [
        _first_level(shape, chunk, sorted(by_chunk[chunk]), nodes) for chunk in sorted(by_chunk)
    ]
    for level in above:
        children: dict[str, list[Node]] = defaultdict(list)
        for node in at_level[shape.levels.below[level]]:
            for chunk in _parents(shape.levels, level, node):
                children[chunk].append(node)
        at_level[level] = [
            _node(shape, level, chunk, "", tuple(children[chunk])) for chunk in sorted(children)
        ]
        nodes += at_level[level]
    return nodes


def _first_level(shape: Shape, chunk: str, leaves: list[Leaf], nodes: list[Node]) -> Node:
    """A chunk of the finest level, after the parts that it is made of."""
    every = shape.levels.all[0]

    def gather(part: str, some: list[Leaf]) -> Node:
        if len(some) <= FAN:
            keys = tuple(leaf_keys(leaf.id, chunk, shape.identities) for leaf in some)
            node = _node(shape, every, chunk, part, keys)
        else:
            groups: dict[str, list[Leaf]] = defaultdict(list)
            for leaf in some:
                groups[part + _place(leaf.name, len(part))].append(leaf)
            parts = tuple(gather(one, groups[one]) for one in sorted(groups))
            node = _node(shape, every, chunk, part, parts)
        nodes.append(node)
        return node

    return gather("", leaves)


def _place(name: str, depth: int) -> str:
    """In which of four parts a leaf is, of those at this depth."""
    digit = int(hash_of(name)[depth // 2], 16)
    return str(digit >> 2 if depth % 2 == 0 else digit & 3)


def _node(shape: Shape, level: Level, chunk: str, part: str, children: tuple[Any, ...]) -> Node:
    own = level == shape.levels.all[0]
    if own and len(children) == 1:
        keys, states = children[0].keys, dict(children[0].states)
    else:
        about = plain([FORMAT, str(level), chunk, "" if level.step else shape.levels.zone.key])
        keys = hash_of("keys", about, *(one.keys for one in children))
        states = _states(keys, shape.identities)
    values = ""
    if not part:
        told = [[name, one, states[name]] for name, one in sorted(shape.shown.items())]
        values = hash_of("values", plain([FORMAT, told, sorted(shape.kinds.items())]), keys)
    return Node(level, chunk, part, children, keys, states, values)


def _parents(levels: Levels, level: Level, node: Node) -> list[str]:
    """The chunks of a level in which windows of a chunk of the level below may lie."""
    if node.chunk == "all":
        return ["all"]
    since, until = chunk_span(node.chunk)
    first = chunk_of(level, levels.start(level, since))
    last = chunk_of(level, levels.start(level, until - 1))
    return [first] if first == last else [first, last]
