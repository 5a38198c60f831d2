"""What was ordered of the past: nominal times that are to run, of which only some have rows yet."""

from collections.abc import Iterator, Sequence
from itertools import islice

__all__ = ["SLICE", "Backfill", "slices_of"]

SLICE = 100
"""Nominal times of a backfill that are given rows at a time."""


class Backfill:
    """An order. ``slices``: its nominal times, newest first; the first ``taken`` have rows.

    ``number``: that of the order; ``mark`` makes the ids of its fires. ``kept``: whether the slices
    are on disk, so that only ``taken`` has to be written.
    """

    __slots__ = ("kept", "mark", "number", "schedule", "slices", "taken")

    def __init__(
        self, number: int, schedule: str, mark: str, slices: Sequence[Sequence[int]], taken: int = 0
    ) -> None:
        self.number = number
        self.schedule = schedule
        self.mark = mark
        self.slices = slices
        self.taken = taken
        self.kept = False

    def __len__(self) -> int:
        """How many nominal times have no rows yet."""
        return sum(map(len, islice(self.slices, self.taken, None)))

    def newest(self) -> int:
        """The newest of those."""
        return self.slices[self.taken][0]

    def take(self) -> Sequence[int]:
        """The newest slice of those; whoever asks makes rows of it."""
        self.taken += 1
        return self.slices[self.taken - 1]


def slices_of(times: Sequence[int]) -> Iterator[Sequence[int]]:
    """Nominal times, newest first, cut up."""
    for begin in range(0, len(times), SLICE):
        yield times[begin : begin + SLICE]
