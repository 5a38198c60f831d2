"""Which blobs the records of a store need: what a coordinator would look for that loads them.

A record outlives what it names. A blob of arguments is let go when the outcomes of its tasks are
committed, long before the record of their submission; one of a result when its tasks are
forgotten, though the record may hold outcomes of others, too. Only all records together say it.
"""

from collections import defaultdict
from collections.abc import Container, Iterable, Iterator
from typing import NamedTuple

from farm.model import BLOB_BYTES, Blob
from farm.protocol.parts import Group, Result
from farm.protocol.records import Buried, Finished, Record, Submitted
from farm.ranges import RangeSet

__all__ = ["BlobFiles"]


class _Run(NamedTuple):
    """Tasks of a record, and the blobs that each of them needs."""

    session: bytes
    first: int
    stop: int
    blobs: list[Blob]


class BlobFiles:
    """The files in ``kept`` of the blob folder; see ``farm.store.sides.NamedFiles``."""

    def __init__(self) -> None:
        self._submitted: dict[int, list[_Run]] = {}
        self._same: dict[int, list[_Run]] = {}  # whose outcomes submitted tasks have
        self._finished: dict[int, list[_Run]] = {}
        self._buried: dict[int, list[_Run]] = {}

    def add(self, ref: int, record: Record) -> None:
        """A record of the store."""
        match record:
            case Submitted():
                self._submitted[ref] = list(_runs((record.session, g) for g in record.groups))
                found = (g.same for g in record.groups if g.same is not None)
                self._same[ref] = [_Run(one, n, n + 1, []) for one, n in found]
            case Finished():
                self._finished[ref] = list(_runs((e.session, e) for e in record.entries))
            case Buried():
                self._buried[ref] = list(_runs([(record.session, record.group)]))

    def needed(self, refs: Container[int]) -> dict[str, tuple[int, int]]:
        """The files that are needed when these records are there: ``(ref, size)`` by name."""
        for kind in (self._submitted, self._same, self._finished, self._buried):
            for ref in [ref for ref in kind if ref not in refs]:
                del kind[ref]
        known, over = _tasks(self._submitted, self._same), _tasks(self._finished)
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


def _tasks(*kinds: dict[int, list[_Run]]) -> defaultdict[bytes, RangeSet]:
    found: defaultdict[bytes, RangeSet] = defaultdict(RangeSet)
    for run in (run for records in kinds for runs in records.values() for run in runs):
        found[run.session].add(run.first, run.stop)
    return found


def _naming(records: dict[int, list[_Run]]) -> Iterator[tuple[int, _Run]]:
    return ((ref, run) for ref, runs in records.items() for run in runs if run.blobs)


def _note(found: dict[str, tuple[int, int]], ref: int, run: _Run) -> None:
    for blob in run.blobs:
        found[blob.name.partition("/")[2]] = ref, blob.size
