"""Why a number can be trusted: where it comes from, and whether it comes out the same again."""

import random
from collections.abc import Mapping
from typing import Any, NamedTuple

import pyarrow as pa

from farm_scheduler.aggregates.catalog import Catalog, VersionGone
from farm_scheduler.aggregates.definition import Definition
from farm_scheduler.aggregates.engine import decode
from farm_scheduler.aggregates.leaves import Mapper, lift_some
from farm_scheduler.aggregates.lifting import Failed, Leaf
from farm_scheduler.aggregates.manifest import LeafRecord
from farm_scheduler.aggregates.snapshot import Reading, Snapshot
from farm_scheduler.aggregates.sources import Partition
from farm_scheduler.aggregates.tree import leaf_keys
from farm_scheduler.aggregates.windows import chunk_span

__all__ = ["Contribution", "Explained", "Verified", "explain", "verify"]


class Contribution(NamedTuple):
    """What a partition has in a number: ``rows``, of the content with this fingerprint.

    Of all rows of the partition, ``late`` came late and were folded in, ``aside`` are set aside.
    """

    partition: str
    rows: int
    late: int
    aside: int
    fingerprint: str
    checked: float
    failed: str


class Explained(NamedTuple):
    """A reading, the partitions behind it, and those that would be, had they been readable."""

    reading: Reading
    window: tuple[int, int]
    contributions: list[Contribution]
    failures: dict[str, str]
    run: str


class Verified(NamedTuple):
    """Partitions computed again; ``wrong`` says for each that came out otherwise, how."""

    checked: list[str]
    changed: list[str]
    """Left out, for they have changed since they were published."""
    wrong: dict[str, str]


def explain(snapshot: Snapshot, catalog: Catalog, **where: Any) -> Explained:
    """Find the partitions behind one group; ``where`` as for ``read``."""
    reading = snapshot.read(**where)
    level, start, keys = snapshot.resolve(dict(where))
    end = snapshot.levels.end(level, start)
    manifest = snapshot.manifest
    found = []
    for name, record in sorted(manifest.partitions.items()):
        rows = sum(
            _rows(catalog, record, chunk, (start, end), keys)
            for chunk in record.chunks
            if _overlaps(chunk, start, end)
        )
        if rows:
            late = (record.folded, record.aside)
            found.append(
                Contribution(name, rows, *late, record.fingerprint, record.checked, record.failed)
            )
    return Explained(reading, (start, end), found, dict(manifest.failures), manifest.run)


def _overlaps(chunk: str, start: int, end: int) -> bool:
    if chunk == "all":
        return True
    since, until = chunk_span(chunk)
    return since < end and start < until


def _rows(
    catalog: Catalog, record: LeafRecord, chunk: str, window: tuple[int, int], keys: tuple[Any, ...]
) -> int:
    table = decode(catalog.node(leaf_keys(record.leaf, chunk, {}).keys))
    columns = [table.column(name).to_pylist() for name in ("w", "n", *_key_names(table))]
    return sum(
        n
        for w, n, *own in zip(*columns, strict=True)
        if window[0] <= w < window[1] and tuple(own) == keys
    )


def _key_names(table: pa.Table) -> list[str]:
    return [name for name in table.column_names if name not in ("w", "n")]


def verify(
    aggregate: Definition,
    catalog: Catalog,
    workers: Mapper,
    count: int = 5,
    seed: int | None = None,
) -> Verified:
    """Compute ``count`` random partitions again and compare with what is published of them.

    Raises ``VersionGone`` if nothing is published.
    """
    manifest = catalog.manifest(aggregate.name)
    if manifest is None:
        raise VersionGone(f"nothing of {aggregate.name} is published yet")
    records: Mapping[str, LeafRecord] = manifest.partitions
    names = sorted(name for name, one in records.items() if one.leaf and one.leaf == one.origin)
    chosen = random.Random(seed).sample(names, min(count, len(names)))  # noqa: S311 - a sample
    todo = [
        (Partition(name, records[name].mark, records[name].values), tuple(aggregate.measures))
        for name in sorted(chosen)
    ]
    verified = Verified([], [], {})
    for found in lift_some(aggregate, workers, todo):
        name = found.partition.name
        if isinstance(found, Failed):
            verified.wrong[name] = found.message
        elif found.fingerprint != records[name].fingerprint:
            verified.changed.append(name)
        else:
            verified.checked.append(name)
            if wrong := _difference(catalog, records[name], found, manifest.identities):
                verified.wrong[name] = wrong
    return verified


def _difference(
    catalog: Catalog, record: LeafRecord, found: Leaf, identities: Mapping[str, str]
) -> str:
    if set(found.chunks) != set(record.chunks):
        return f"it has rows in {sorted(found.chunks)}, and had in {sorted(record.chunks)}"
    for chunk, one in found.chunks.items():
        keys = leaf_keys(record.leaf, chunk, identities)
        there = catalog.nodes([keys.keys, *keys.states.values()])
        if keys.keys in there and decode(there[keys.keys]) != decode(one.keys):
            return f"its groups of {chunk} are others"
        for name, key in keys.states.items():
            if (
                name in one.states
                and key in there
                and decode(there[key]) != decode(one.states[name])
            ):
                return f"measure {name!r} of {chunk} comes out otherwise"
    return ""
