"""Which blobs the records of a store need: what a coordinator would look for that loads them.

A record outlives what it names. A blob of arguments is let go when the outcomes of its tasks are
committed, long before the record of their submission; one of a result when its tasks are
forgotten, though the record may hold outcomes of others, too. Only all records together say it.
"""

from collections import defaultdict
from collections.abc import Container, Iterable, Iterator
from typing import Any, NamedTuple

from farm.model import BLOB_BYTES, Blob
from farm.protocol.parts import Group, Result
from farm.protocol.records import Arguments, Buried, Finished, Record, Submitted
from farm.ranges import RangeSet

__all__ = ["BlobFiles"]


class _Run(NamedTuple):
    """Tasks of a record, and the blobs that each of them needs."""

    session: bytes
    first: int
    stop: int
    blobs: list[Blob]


class _Same(NamedTuple):
    """Submitted tasks ``[first, stop)``, each of which ends as another does, from ``start`` on."""

    session: bytes
    first: int
    stop: int
    owner: bytes
    start: int


class BlobFiles:
    """The files in ``kept`` of the blob folder; see ``farm.store.sides.NamedFiles``."""

    def __init__(self) -> None:
        self._submitted: dict[int, list[_Run]] = {}
        self._same: dict[int, list[_Same]] = {}
        self._finished: dict[int, list[_Run]] = {}
        self._buried: dict[int, list[_Run]] = {}

    def add(self, ref: int, record: Record) -> None:
        """A record of the store."""
        match record:
            case Submitted():
                self._submitted[ref] = list(_runs((record.session, g) for g in record.groups))
                self._same[ref] = [
                    _Same(record.session, g.first, g.first + g.count, *g.same)
                    for g in record.groups
                    if g.same is not None
                ]
            case Finished():
                self._finished[ref] = list(_runs((e.session, e) for e in record.entries))
            case Buried() | Arguments():
                self._buried[ref] = list(_runs([(record.session, record.group)]))

    def needed(self, refs: Container[int]) -> dict[str, tuple[int, int]]:
        """The files that are needed when these records are there: ``(ref, size)`` by name."""
        kinds: tuple[dict[int, Any], ...]
        kinds = self._submitted, self._same, self._finished, self._buried
        for kind in kinds:
            for ref in [ref for ref in kind if ref not in refs]:
                del kind[ref]
        known, over = _tasks(self._submitted), _tasks(self._finished)
        for same in (same for found in self._same.values() for same in found):
            # Those that have an outcome of their own were cancelled, each by itself.
            for a, b in over[same.session].gaps(same.first, same.stop):
                start = same.start + a - same.first
                known[same.owner].add(start, start + b - a)
        found: dict[str, tuple[int, int]] = {}
        for ref, run in _naming(self._submitted):
            if over[run.session].gaps(run.first, run.stop):
                _note(found, ref, run)
        for ref, run in _naming(self._finished):
            if known[run.session].overlap(run.first, run.stop):
                _note(found, ref, run)
        for ref, run in _naming(self._buried):
            _note(found, ref, run)
        return found


def _runs(entries: Iterable[tuple[bytes, Group | Result]]) -> Iterator[_Run]:
    for session, entry in entries:
        first, stop = entry.first, entry.first + entry.count
        blobs = [(i, one) for i, one in enumerate(entry.payloads) if isinstance(one, Blob)]
        if entry.size < BLOB_BYTES or not blobs:
            yield _Run(session, first, stop, [])
        elif entry.packed:
            yield _Run(session, first, stop, [blob for _, blob in blobs])
        else:
            yield _Run(session, first, stop, [])
            for i, blob in blobs:
                yield _Run(session, first + i, first + i + 1, [blob])


def _tasks(records: dict[int, list[_Run]]) -> defaultdict[bytes, RangeSet]:
    found: defaultdict[bytes, RangeSet] = defaultdict(RangeSet)
    for run in (run for runs in records.values() for run in runs):
        found[run.session].add(run.first, run.stop)
    return found


def _naming(records: dict[int, list[_Run]]) -> Iterator[tuple[int, _Run]]:
    return ((ref, run) for ref, runs in records.items() for run in runs if run.blobs)


def _note(found: dict[str, tuple[int, int]], ref: int, run: _Run) -> None:
    for blob in run.blobs:
        found[blob.name.partition("/")[2]] = ref, blob.size
