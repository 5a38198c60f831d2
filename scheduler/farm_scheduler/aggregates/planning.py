"""What a run would do: which partitions have changed, and what follows from it."""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from farm_scheduler.aggregates.catalog import Catalog
from farm_scheduler.aggregates.code import hash_of
from farm_scheduler.aggregates.definition import Definition
from farm_scheduler.aggregates.manifest import LeafRecord, Manifest
from farm_scheduler.aggregates.measures import Columns, Kind
from farm_scheduler.aggregates.sources import Partition, PartitionError
from farm_scheduler.aggregates.tree import Leaf, Node, Shape, grow, leaf_id, leaf_keys, shape_of

__all__ = [
    "Change",
    "LeafInfo",
    "Plan",
    "info_key",
    "kinds_of",
    "make_plan",
    "missing",
    "same_meaning",
    "tree_of",
]

GUESS_SECONDS = 0.05
"""What lifting a partition takes, where nothing is known."""


class LeafInfo(msgspec.Struct):
    """What is known of a partition once it was lifted; a node beside its states."""

    kinds: Columns
    undated: int
    last: int | None
    chunks: dict[str, int]
    seconds: float


class Change(NamedTuple):
    """A partition to lift, and why; ``fingerprint`` is empty if it was not read yet."""

    partition: Partition
    why: str
    fingerprint: str


class Plan(NamedTuple):
    """What is to be done, based on ``head``. ``records`` are partitions that stay as they were.

    ``nodes`` is how many will be made again above the leaves, as far as can be told before reading:
    of ``unread`` partitions nothing is known yet. ``seconds`` is how much processor time the leaves
    will take, from what they took before.
    """

    name: str
    as_of: float
    head: Manifest | None
    partitions: int
    changes: list[Change]
    removed: list[str]
    records: dict[str, LeafRecord]
    nodes: int
    seconds: float
    redefined: bool
    """Whether something else is promised of it than is published."""
    remark: str = ""
    """What its author should know of what planning costs."""
    unread: int = 0
    again: Sequence[str] = ()
    """Partitions that are as they were, and are read again for a measure that is not."""

    @property
    def is_empty(self) -> bool:
        """Whether everything is as it was."""
        return not (self.changes or self.removed or self.nodes or self.redefined)

    @property
    def change(self) -> str:
        """What has changed, in words."""
        removed = f", {len(self.removed)} removed" if self.removed else ""
        return f"{len(self.changes)} of {self.partitions} partitions changed{removed}"

    def __str__(self) -> str:
        said = [self.change]
        if self.again:
            said.append(f"{len(self.again)} read again")
        above = [f"{self.nodes} nodes"] if self.nodes or not self.unread else []
        if self.unread:
            above.append(f"the nodes of {self.unread} not read yet")
        said.append(" and ".join(above))
        if self.redefined:
            said.append("defined otherwise")
        return ", ".join(said) + f", about {self.seconds:.1f} s{self.remark and '; ' + self.remark}"


def info_key(leaf: str) -> str:
    """The address of a leaf's ``LeafInfo``."""
    return hash_of(leaf, "info")


def make_plan(aggregate: Definition, catalog: Catalog) -> Plan:
    """Compare the source with what is published. Raises ``ConfigError`` if there is no source."""
    now = time.time()
    head = catalog.manifest(aggregate.name)
    before = {} if head is None else head.partitions
    partitions = aggregate.source.partitions()
    changes: list[Change] = []
    records: dict[str, LeafRecord] = {}
    for partition in partitions:
        record = before.get(partition.name)
        change = _change(aggregate, partition, record, now)
        if isinstance(change, Change):
            changes.append(change)
        else:
            records[partition.name] = change
    listed = {partition.name for partition in partitions}
    removed = sorted(name for name in before if name not in listed)
    shape = shape_of(aggregate.levels, aggregate.measures, {})
    redefined = head is not None and not (
        head.identities == shape.identities  # or code that is as it once was, of which all is there
        and same_meaning(head.definition, aggregate.described())
    )
    same = head is not None and not (redefined or changes or removed)
    nodes = 0  # of what is published all are there
    if not same or head is None or head.identities != shape.identities:
        nodes = _affected(aggregate, catalog, changes, before, records)
    again = _again(catalog, shape, head, records)
    cost = _cost([*(one.partition.name for one in changes), *again], before)
    lifted = {name for name, one in before.items() if one.leaf}
    unread = sum(one.partition.name not in lifted for one in changes)
    return Plan(
        aggregate.name, now, head, len(partitions), changes, removed, records, nodes, cost,
        redefined, getattr(aggregate.source, "remark", ""), unread, again,
    )  # fmt: skip


def _again(
    catalog: Catalog, shape: Shape, head: Manifest | None, records: Mapping[str, LeafRecord]
) -> list[str]:
    """Partitions that have not changed and lack states of a measure that is new."""
    if head is None or set(shape.identities.values()) <= set(head.identities.values()):
        return []
    needed = {
        name: {
            key
            for chunk in record.chunks
            for key in leaf_keys(record.leaf, chunk, shape.identities).states.values()
        }
        for name, record in records.items()
    }
    there = catalog.present(key for keys in needed.values() for key in keys)
    return [name for name, keys in needed.items() if not keys <= there]


def _cost(names: Iterable[str], before: Mapping[str, LeafRecord]) -> float:
    """How long partitions will take, from what they, or else the others, took before."""
    known = [one.seconds for one in before.values() if one.seconds]
    usual = sum(known) / len(known) if known else GUESS_SECONDS
    return sum((before[name].seconds if name in before else 0.0) or usual for name in names)


def same_meaning(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two descriptions are equal, lists and tuples being the same."""
    return msgspec.json.encode(one, order="sorted") == msgspec.json.encode(other, order="sorted")


def _change(
    aggregate: Definition, partition: Partition, record: LeafRecord | None, now: float
) -> Change | LeafRecord:
    """The record of a partition that is as it was, or what is to be done."""
    source = aggregate.source
    if record is None:
        return Change(partition, "new", "")
    if record.failed:
        return Change(partition, f"failed before: {record.failed}", "")
    same = record.mark == partition.mark and source.is_settled(partition, record.checked)
    try:
        fingerprint = record.fingerprint if same else source.fingerprint(partition)
    except PartitionError as error:
        return Change(partition, str(error), "")
    if leaf_of(aggregate, partition, fingerprint) == record.origin:
        return msgspec.structs.replace(
            record, mark=partition.mark, checked=record.checked if same else now
        )
    why = "changed" if fingerprint != record.fingerprint else "is read in another way"
    return Change(partition, why, fingerprint)


def leaf_of(aggregate: Definition, partition: Partition, fingerprint: str) -> str:
    """What stands for the content of a partition."""
    source, every = aggregate.source.identity(), aggregate.levels.all[0]
    return leaf_id(source, aggregate.by, every, partition.values, fingerprint)


def tree_of(aggregate: Definition, records: Mapping[str, LeafRecord], kinds: Columns) -> list[Node]:
    """The nodes over these partitions."""
    shape = shape_of(aggregate.levels, aggregate.measures, kinds)
    return grow(
        shape, [Leaf(name, one.leaf, one.chunks) for name, one in records.items() if one.leaf]
    )


def missing(catalog: Catalog, nodes: list[Node]) -> dict[int, set[str]]:
    """Which nodes, by place, have to be made, and the measures that each lacks.

    Parts of a chunk that is there are not wanted. A node that only lacks values lacks no measure.
    """
    asked = {
        key for node in nodes for key in (node.keys, node.values, *node.states.values()) if key
    }
    there = catalog.present(asked)
    places = {id(node): at for at, node in enumerate(nodes)}
    found: dict[int, set[str]] = {}
    wanted: dict[int, set[str]] = {}
    for at in reversed(range(len(nodes))):
        node = nodes[at]
        names = set(wanted.get(at, ())) if node.part else set(node.states)
        lacks = {name for name in names if node.states[name] not in there}
        if names and node.keys not in there:
            lacks = set(node.states)
        if lacks or (node.values and node.values not in there):
            found[at] = lacks
        for child in node.children:
            if lacks and id(child) in places:
                wanted.setdefault(places[id(child)], set()).update(lacks)
    return found


def kinds_of(records: Mapping[str, LeafRecord]) -> Columns:
    """The kinds of the columns over all partitions."""
    found: Columns = {}
    for record in records.values():
        for column, kind in record.kinds.items():
            found[column] = joined(found.get(column, "null"), kind) or found[column]
    return found


def joined(one: Kind, other: Kind) -> Kind | None:
    """The kind of a column that is of one kind here and another there; None if that cannot be."""
    if other in (one, "null"):
        return one
    if one == "null":
        return other
    return "real" if {one, other} == {"whole", "real"} else None


def _affected(
    aggregate: Definition, catalog: Catalog, changes: list[Change],
    before: Mapping[str, LeafRecord], records: Mapping[str, LeafRecord],
) -> int:  # fmt: skip
    """How many nodes will be made: those missing, if what changed had the same chunks as before."""
    guess = dict(records)
    for change in changes:
        record = before.get(change.partition.name)
        if record is not None and record.chunks:
            guess[change.partition.name] = msgspec.structs.replace(
                record, leaf=f"new {record.leaf}"
            )
    if not guess:
        return 0
    lacking = missing(catalog, tree_of(aggregate, guess, kinds_of(before) or kinds_of(guess)))
    return len(lacking)
