"""What attempts that did not succeed have left behind, while their tasks go on.

The journal has all of it; here it is kept for the record that tells how the task ended in the end.
Bounded for each task and in all: of the oldest only the long parts are forgotten.
"""

from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING

from farm.protocol.parts import Failure

if TYPE_CHECKING:
    from farm.core.divergence import Divergence

__all__ = ["ATTEMPTS_MAX", "Evidence", "is_long"]

ATTEMPTS_MAX = 8
"""The attempts of a task of which evidence is kept: the last ones."""


class Evidence:
    """Keeps traceback and output of the last attempts of open tasks, to ``bytes_max`` in all."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes = 0
        self._bytes_max = bytes_max
        self._long: dict[int, Failure] = {}  # those with long parts, the oldest first

    def add(self, own: "Divergence", failure: Failure) -> None:
        """Another attempt of a task has failed."""
        kept = copy(failure)  # records keep the original, and must not change
        own.attempts.append(kept)
        self.release(own.attempts[:-ATTEMPTS_MAX])
        del own.attempts[:-ATTEMPTS_MAX]
        if is_long(kept):
            self._long[id(kept)] = kept
            self.bytes += kept.weight
            while self.bytes > self._bytes_max:
                self._shorten(next(iter(self._long)))

    def release(self, attempts: Sequence[Failure]) -> None:
        """These are not needed any more."""
        for failure in attempts:
            if self._long.pop(id(failure), None) is not None:
                self.bytes -= failure.weight

    def _shorten(self, key: int) -> None:
        failure = self._long.pop(key)
        self.bytes -= failure.weight
        failure.traceback, failure.output = "", b""


def is_long(failure: Failure) -> bool:
    """Whether it has the parts that are counted, and so is evidence of one task alone."""
    return bool(failure.traceback or failure.output)
