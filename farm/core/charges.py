"""Losses that were charged to an agent, to be given back should it return: it was only cut off."""

from farm.core.batch import Batch
from farm.model import State

__all__ = ["Charges"]

CHARGED_MAX = 10_000
"""Losses remembered of one agent."""


class Charges:
    """Losses by the instance of the agent that they are charged to.

    An agent that is known no more may return for ``ttl`` seconds; then they stay spent. Another
    agent of its name is no proof that it is dead: what two connections bring comes in any order.
    """

    def __init__(self, ttl: float) -> None:
        self._ttl = ttl
        self._losses: dict[bytes, list[tuple[Batch, int]]] = {}
        self._until: dict[bytes, float] = {}  # of agents that are known no more

    def __len__(self) -> int:
        """To how many agents any loss is charged."""
        return len(self._losses)

    def add(self, instance: bytes, batch: Batch, index: int) -> None:
        """A task spent a loss on this agent."""
        losses = self._losses.setdefault(instance, [])
        if len(losses) < CHARGED_MAX:
            losses.append((batch, index))

    def take(self, instance: bytes) -> list[tuple[Batch, int]]:
        """The agent is back: what it is charged with of tasks that are not over, and no more."""
        self._until.pop(instance, None)
        return [loss for loss in self._losses.pop(instance, ()) if _is_open(*loss)]

    def part(self, instance: bytes, now: float) -> None:
        """An agent is known no more."""
        if instance in self._losses:
            self._until[instance] = now + self._ttl

    def drop(self, now: float) -> None:
        """Forget agents that did not return in time, and losses of tasks that are over."""
        for instance, losses in list(self._losses.items()):
            losses[:] = [loss for loss in losses if _is_open(*loss)]
            if not losses or now >= self._until.get(instance, now + 1):
                self.take(instance)


def _is_open(batch: Batch, index: int) -> bool:
    return not batch.gone and batch.states[index] < State.SUCCEEDED
