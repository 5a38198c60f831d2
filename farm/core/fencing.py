"""Fencing: from which epoch on a token counts."""

from farm.core.batch import Batch
from farm.model import State
from farm.protocol.parts import TaskRun
from farm.ranges import RangeSet

__all__ = ["fence", "of_sessions"]


def of_sessions(runs: list[TaskRun]) -> dict[bytes, RangeSet]:
    """The tasks of these runs, by session."""
    found: dict[bytes, RangeSet] = {}
    for session, first, count in runs:
        found.setdefault(session, RangeSet()).add(first, first + count)
    return found


def fence(batch: Batch, epoch: int, adopted: dict[bytes, RangeSet], *, tried: bool) -> None:
    """Attempts of older epochs are fenced off, except those that were adopted.

    ``tried``: some of them may have begun, and nobody knows which. Of tasks that run once it is
    written down.
    """
    if batch.same is not None:  # none of them is ever run
        return
    if tried and batch.fence < epoch and not batch.runs_once:
        batch.tried = True
    kept = _indices(batch, adopted)
    for index in kept:
        if batch.states[index] < State.SUCCEEDED:
            batch.diverge(index)  # it keeps the fence that the batch had
    for index, own in batch.diverged.items():
        if index not in kept:  # and so is whoever has it, too
            own.fence = max(own.fence, epoch)
    batch.fence = max(batch.fence, epoch)


def _indices(batch: Batch, adopted: dict[bytes, RangeSet]) -> set[int]:
    own = adopted.get(batch.session.id)
    runs = [] if own is None else own.overlap(batch.first, batch.stop)
    return {counter - batch.first for first, stop in runs for counter in range(first, stop)}
