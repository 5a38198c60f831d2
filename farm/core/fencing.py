"""Fencing: from which epoch on a token counts."""

from farm.core.batch import Batch
from farm.model import State
from farm.protocol.parts import TaskRun

__all__ = ["fence"]


def fence(batch: Batch, epoch: int, adopted: list[TaskRun], *, tried: bool) -> None:
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


def _indices(batch: Batch, adopted: list[TaskRun]) -> set[int]:
    return {
        index
        for session, first, count in adopted
        if session == batch.session.id
        for index in range(
            max(0, first - batch.first), min(batch.count, first - batch.first + count)
        )
    }
