"""Which journal records still matter, and why.

A ``Submitted`` record matters while a task of it does. Every other record about tasks (outcomes,
ends of attempts, deliveries) is *mentioned* by the submitted records whose tasks it names, and is
deleted in the same change as the last of those: if outcomes went earlier, a restart would run
their tasks again. What says how attempts go on, without an outcome, may go before: when there is
much of it, younger records say what is left of it.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from farm.core.batch import Batch

__all__ = ["Row", "Rows"]

REPEATS = 1000
"""So many records of attempts, and a few for each task, are kept before they are said anew."""


class Row:
    """A ``Submitted`` record: its ref, its batches and the records that it mentions.

    ``count`` is how many tasks it names; survivors that were copied out to it keep their batch.
    ``since`` is the record that named them first. Of what it mentions, ``attempts`` say that
    attempts began, or ended without an outcome; ``mentions`` are all others.
    """

    __slots__ = ("attempts", "batches", "count", "mentions", "ref", "since")

    def __init__(self, ref: int, since: int) -> None:
        self.ref = ref
        self.since = since
        self.batches: list[Batch] = []
        self.count = 0
        self.mentions: set[int] = set()
        self.attempts: set[int] | None = None  # as a rule there are none

    @property
    def unsettled(self) -> int:
        """How many of them still run, wait, or have an outcome that was not taken."""
        return sum(batch.count - batch.settled for batch in self.batches)

    @property
    def repeats(self) -> bool:
        """Whether attempts of it are so many that fewer records should say what is left of them."""
        return self.attempts is not None and len(self.attempts) > REPEATS + 4 * self.count


class Rows:
    """All submitted records, by ref."""

    def __init__(self) -> None:
        self._rows: dict[int, Row] = {}
        self._mentioned: dict[int, int] = {}  # by how many rows
        self.touched: dict[Row, None] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(list(self._rows.values()))

    @property
    def oldest(self) -> int | None:
        """The smallest ref, or None if there are no rows."""
        return min(self._rows, default=None)

    @property
    def mentioned(self) -> int:
        """How many other records are kept for the rows."""
        return len(self._mentioned)

    def open(self, ref: int, since: int | None = None) -> Row:
        """A new row; ``since``: of tasks that are copied out from that one."""
        row = self._rows[ref] = Row(ref, ref if since is None else since)
        return row

    def mention(self, row: Row, ref: int) -> None:
        """The record ``ref`` says something about tasks of this row."""
        if ref not in row.mentions:
            row.mentions.add(ref)
            self._mentioned[ref] = self._mentioned.get(ref, 0) + 1

    def mention_attempts(self, row: Row, ref: int) -> None:
        """The record ``ref`` says that attempts of tasks of this row began, or ended."""
        if row.attempts is None:
            row.attempts = set()
        if ref not in row.attempts:
            row.attempts.add(ref)
            self._mentioned[ref] = self._mentioned.get(ref, 0) + 1
            if row.repeats:
                self.touched[row] = None

    def release_attempts(self, row: Row, committed: int) -> list[int]:
        """What is committed of a row's attempts is said anew; the refs that may be deleted."""
        old = {ref for ref in row.attempts or () if ref <= committed}
        if row.attempts is not None:
            row.attempts -= old
        return self._release(old)

    def close(self, row: Row) -> list[int]:
        """Forget a row; the refs that may now be deleted, its own among them."""
        del self._rows[row.ref]
        self.touched.pop(row, None)
        return [row.ref, *self._release(row.mentions), *self._release(row.attempts or ())]

    def _release(self, refs: Iterable[int]) -> list[int]:
        free: list[int] = []
        for ref in refs:
            left = self._mentioned[ref] - 1
            if left:
                self._mentioned[ref] = left
            else:
                del self._mentioned[ref]
                free.append(ref)
        return free

    def unmentioned(self, refs: Iterable[int]) -> list[int]:
        """Those of ``refs`` that no row mentions: after loading, records about nothing."""
        return [ref for ref in refs if ref not in self._mentioned]
