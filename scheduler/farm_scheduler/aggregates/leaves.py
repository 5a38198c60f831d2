"""The leaves of a run: partitions that have changed are lifted, and what comes late is counted."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import msgspec

from farm.model import seconds
from farm_scheduler.aggregates.catalog import Catalog
from farm_scheduler.aggregates.code import hash_of
from farm_scheduler.aggregates.definition import Definition
from farm_scheduler.aggregates.late import count_late, splice
from farm_scheduler.aggregates.lifting import Failed, Leaf, Recipe, lift
from farm_scheduler.aggregates.manifest import Late, LeafRecord, Manifest
from farm_scheduler.aggregates.measures import Kind
from farm_scheduler.aggregates.planning import Change, LeafInfo, Plan, info_key, joined, leaf_of
from farm_scheduler.aggregates.sources import Partition, PartitionError
from farm_scheduler.aggregates.tree import leaf_keys, shape_of

__all__ = ["Leaves", "Mapper", "lift_some"]


class Mapper(Protocol):
    """What does the work: an executor, or a view of a client."""

    def map(self, fn: Callable[[Any], Any], iterable: Iterable[Any], /) -> Iterator[Any]:
        """Results in order."""


def lift_some(
    aggregate: Definition, workers: Mapper, todo: Sequence[tuple[Partition, tuple[str, ...]]]
) -> Iterator[Leaf | Failed]:
    """Lift some measures of some partitions, in order."""
    if todo:
        every = aggregate.levels.all[0]
        recipe = Recipe(aggregate.source, tuple(aggregate.by), every, aggregate.measures)
        yield from workers.map(partial(lift, recipe), todo)


class Leaves:
    """Brings the leaves of one run up to date. ``failures``, ``late`` and ``lifted`` say how."""

    def __init__(
        self, aggregate: Definition, catalog: Catalog, workers: Mapper, plan: Plan, run: str
    ) -> None:
        self.failures: dict[str, str] = {}
        self.late = Late()
        self.lifted = 0
        self._aggregate = aggregate
        self._catalog = catalog
        self._workers = workers
        self._plan = plan
        self._run = run
        self._before: Mapping[str, LeafRecord] = {}
        self._closed: int | None = None
        if plan.head is not None and _groups_alike(aggregate, plan.head):
            self._before, self._closed = plan.head.partitions, plan.head.watermark
        elif plan.head is not None:  # all is read anew: nothing of it is late, or set aside
            self.late.quarantined -= sum(one.aside for one in plan.head.partitions.values())
        self._identities = shape_of(aggregate.levels, aggregate.measures, {}).identities

    def bring(self) -> dict[str, LeafRecord]:
        """Records of all partitions, as they are now; what an ended run has lifted is found."""
        records = {**self._plan.records, **dict(self._changed())}
        self._refuse_kinds(records)
        for name in self._plan.removed:
            _add(self.late, self._count(self._before.get(name), None, self._closed, None))
        return records

    def _changed(self) -> Iterator[tuple[str, LeafRecord]]:
        plan, before = self._plan, self._before
        todo: list[Partition] = []
        for change in plan.changes:
            record = self._known(change, before.get(change.partition.name))
            if record is None:
                todo.append(change.partition)
            else:
                yield change.partition.name, record
        every = tuple(self._aggregate.measures)
        for found in lift_some(
            self._aggregate, self._workers, [(partition, every) for partition in todo]
        ):
            name, old = found.partition.name, before.get(found.partition.name)
            if isinstance(found, Failed):
                self.failures[name] = found.message
                empty = LeafRecord(found.partition.mark, plan.as_of, dict(found.partition.values))
                yield name, msgspec.structs.replace(old or empty, failed=found.message)
            else:
                leaf = leaf_of(self._aggregate, found.partition, found.fingerprint)
                info = self._keep(leaf, found)
                yield name, self._record(found.partition, found.fingerprint, leaf, info, old)

    def _known(self, change: Change, old: LeafRecord | None) -> LeafRecord | None:
        """The record of content that was lifted before, by whatever run."""
        fingerprint = change.fingerprint
        if not fingerprint:
            if self._plan.head is not None or not self._was_ended():
                return None
            try:
                fingerprint = self._aggregate.source.fingerprint(change.partition)
            except PartitionError:
                return None
        leaf = leaf_of(self._aggregate, change.partition, fingerprint)
        data = self._catalog.nodes([info_key(leaf)])
        if not data:
            return None
        info = msgspec.msgpack.decode(data[info_key(leaf)], type=LeafInfo)
        return self._record(change.partition, fingerprint, leaf, info, old)

    def _was_ended(self) -> bool:
        """Whether a run before this one did not come to its end."""
        runs = self._catalog.runs(self._aggregate.name, 2)
        return any(one.state != "done" for one in runs if one.id != self._run)

    def _keep(self, leaf: str, found: Leaf) -> LeafInfo:
        """Put what was lifted into the catalog."""
        info = LeafInfo(
            found.kinds,
            found.undated,
            found.last,
            {chunk: one.rows for chunk, one in found.chunks.items()},
            found.seconds,
        )
        nodes = {info_key(leaf): msgspec.msgpack.encode(info)}
        for chunk, one in found.chunks.items():
            keys = leaf_keys(leaf, chunk, self._identities)
            nodes[keys.keys] = one.keys
            nodes.update({keys.states[name]: data for name, data in one.states.items()})
        self._catalog.put(nodes)
        self.lifted += 1
        return info

    def _record(
        self, partition: Partition, fingerprint: str, leaf: str, info: LeafInfo,
        old: LeafRecord | None,
    ) -> LeafRecord:  # fmt: skip
        record = self._plain_record(partition, fingerprint, leaf, info)
        if self._closed is not None:
            self._set_aside(old, record, self._closed)
        return record

    def _plain_record(
        self, partition: Partition, fingerprint: str, leaf: str, info: LeafInfo
    ) -> LeafRecord:
        return LeafRecord(
            partition.mark, self._plan.as_of, dict(partition.values), leaf, leaf, fingerprint,
            info.kinds, info.undated, info.last, info.chunks, seconds=info.seconds,
        )  # fmt: skip

    # ------------------------------------------------------------ what comes late

    def _frozen(self, closed: int) -> int | None:
        drop_after = self._aggregate.drop_after
        if drop_after is None:
            return None
        every = self._aggregate.levels.all[0]
        return self._aggregate.levels.start(every, closed - int(seconds(drop_after) * 1e6))

    def _set_aside(self, old: LeafRecord | None, new: LeafRecord, closed: int) -> None:
        """Count what is late; windows that take nothing any more stay as they were.

        A measure that is new can only be made of all rows: those that were set aside come in.
        """
        frozen = self._frozen(closed)
        if frozen is not None and old is not None and not self._has_all(old):
            frozen = None
            self.late.quarantined -= old.aside
        late = self._count(old, new, closed, frozen)
        new.aside = late.quarantined
        new.folded = late.folded + (old.folded if old else 0)
        late.quarantined = max(new.aside - (old.aside if old else 0), 0)
        _add(self.late, late)
        if frozen is None or not new.aside:
            return
        chunks: dict[str, int] = {}
        nodes: dict[str, bytes] = {}
        leaf = hash_of("spliced", new.leaf, old.leaf if old else "", str(frozen))
        for chunk in sorted({*new.chunks, *(old.chunks if old else ())}):
            part = splice(self._sent(old, chunk), self._sent(new, chunk), frozen)
            if part.rows:
                keys = leaf_keys(leaf, chunk, self._identities)
                nodes[keys.keys] = part.keys
                nodes.update({keys.states[name]: data for name, data in part.states.items()})
                chunks[chunk] = part.rows
        self._catalog.put(nodes)
        new.leaf, new.chunks = leaf, chunks

    def _has_all(self, record: LeafRecord) -> bool:
        """Whether there are states of all measures, as they are now, of a partition."""
        chunks = [leaf_keys(record.leaf, chunk, self._identities) for chunk in record.chunks]
        keys = {key for one in chunks for key in one.states.values()}
        return self._catalog.present(keys) == keys

    def _count(
        self, old: LeafRecord | None, new: LeafRecord | None, closed: int | None, frozen: int | None
    ) -> Late:
        total = Late()
        if closed is None:
            return total
        chunks = {*(old.chunks if old else ()), *(new.chunks if new else ())}
        for chunk in sorted(chunks):
            late = count_late(self._keys(old, chunk), self._keys(new, chunk), closed, frozen)
            _add(total, late)
        return total

    def _keys(self, record: LeafRecord | None, chunk: str) -> bytes | None:
        if record is None or chunk not in record.chunks:
            return None
        key = leaf_keys(record.leaf, chunk, {}).keys
        return self._catalog.nodes([key]).get(key)

    def _sent(self, record: LeafRecord | None, chunk: str) -> tuple[bytes, dict[str, bytes]] | None:
        if record is None or chunk not in record.chunks:
            return None
        keys = leaf_keys(record.leaf, chunk, self._identities)
        found = self._catalog.nodes([keys.keys, *keys.states.values()])
        return found[keys.keys], {name: found[key] for name, key in keys.states.items()}

    # ------------------------------------------------------------ states that are not there

    def lift_again(self, absent: set[str], records: dict[str, LeafRecord]) -> bool:
        """Lift what has states or keys among ``absent``; whether leaves are others after that."""
        todo: list[tuple[Partition, tuple[str, ...]]] = []
        every = tuple(self._aggregate.measures)
        for name, record in records.items():
            lacks: set[str] = set()
            for chunk in record.chunks:
                keys = leaf_keys(record.leaf, chunk, self._identities)
                lacks |= {one for one, key in keys.states.items() if key in absent}
                lacks |= set(keys.states) if keys.keys in absent else set()
            if lacks:
                partition = Partition(name, record.mark, record.values)
                # Of one with rows that are set aside nothing that was made of it fits what is new.
                whole = record.leaf != record.origin
                todo.append((partition, every if whole else tuple(sorted(lacks))))
        changed = False
        for found in lift_some(self._aggregate, self._workers, todo):
            record = records[found.partition.name]
            kept, leaf, info = self._kept_again(found)
            if leaf not in (record.leaf, record.origin):  # it has changed since: all of it is new
                (now,) = lift_some(self._aggregate, self._workers, [(kept.partition, every)])
                kept, leaf, info = self._kept_again(now)
            if leaf == record.leaf:
                changed = changed or record.kinds != info.kinds
                made = msgspec.structs.replace(record, kinds=info.kinds)
            else:
                changed = True
                made = self._record(kept.partition, kept.fingerprint, leaf, info, record)
            records[kept.partition.name] = made
        return changed

    def _kept_again(self, found: Leaf | Failed) -> tuple[Leaf, str, LeafInfo]:
        if isinstance(found, Failed):
            raise PartitionError(f"{found.message}, and it is needed to compute what is new")
        leaf = leaf_of(self._aggregate, found.partition, found.fingerprint)
        return found, leaf, self._keep(leaf, found)

    # ------------------------------------------------------------ kinds of columns

    def _refuse_kinds(self, records: dict[str, LeafRecord]) -> None:
        """A partition whose columns are of another kind than everywhere else is not taken."""
        order = [name for name in records if name in self._plan.records]
        order += sorted(name for name in records if name not in self._plan.records)
        seen: dict[str, tuple[Kind, str]] = {}
        for name in order:
            record = records[name]
            wrong = "" if record.failed else _conflict(name, record, seen)
            if wrong:
                self.failures[name] = wrong
                old = self._before.get(name)
                empty = LeafRecord(record.mark, record.checked, record.values)
                records[name] = msgspec.structs.replace(old or empty, failed=wrong)


def _groups_alike(aggregate: Definition, head: Manifest) -> bool:
    """Whether leaves of a version have groups as the aggregate has them now."""
    by, (every, *_) = head.definition["by"], head.definition["levels"]
    return list(aggregate.by) == list(by) and str(aggregate.levels.all[0]) == every


def _add(total: Late, late: Late) -> None:
    total.folded += late.folded
    total.quarantined += late.quarantined
    total.removed += late.removed


def _conflict(name: str, record: LeafRecord, seen: dict[str, tuple[Kind, str]]) -> str:
    """What is wrong with the kinds of a partition's columns; remembers them if nothing is."""
    for column, kind in record.kinds.items():
        known, where = seen.get(column, ("null", ""))
        if joined(known, kind) is None:
            return (
                f"{name}: column {column!r} is {kind} and in other partitions, as {where}, it is "
                f"{known}; put the file right, or say what it is with columns={{{column!r}: …}}"
            )
    for column, kind in record.kinds.items():
        known, where = seen.get(column, ("null", name))
        seen[column] = (joined(known, kind) or kind, where if known != "null" else name)
    return ""
