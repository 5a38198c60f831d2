"""The attempts of tasks that are not as those of their siblings.

A packed task may have tens of thousands of items, and all that wait or run are given back together:
what is true of a run of tasks is one object, which they have in common until they differ.
"""

from collections.abc import Iterator, Mapping
from copy import copy
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from farm.protocol.parts import Failure

__all__ = ["Divergence", "alike"]


class Divergence:
    """The attempts of a task that differ from its batch's.

    ``attempt`` is the current or next attempt; ``fence`` the lowest epoch whose tokens count;
    ``ref`` the journal record that last said so. ``shared``: other tasks may have it, too; what is
    changed then is a copy. Such tasks have left no evidence with long parts, for that is counted.
    """

    __slots__ = (
        "attempt", "attempts", "begun", "begun_on", "charged", "due", "failure", "fence", "losses",
        "ref", "retries", "shared", "tried",
    )  # fmt: skip

    def __init__(self, fence: int) -> None:
        self.attempt = 1
        self.begun = 0  # the attempt that the journal says may have run
        self.begun_on = b""  # and by which instance of a host
        self.retries = 0
        self.losses = 0
        self.charged: list[bytes] = []  # instances of hosts that cost a loss each; never changed
        self.fence = fence
        self.due: float | None = None
        self.ref = 0
        self.failure: Failure | None = None  # without its long parts
        self.attempts: list[Failure] = []
        self.tried = False  # an attempt may have begun
        self.shared = False

    def copied(self, *, shared: bool) -> "Divergence":
        """The same, for other tasks."""
        made = copy(self)
        made.attempts = list(self.attempts)
        made.shared = shared
        return made


def alike(
    diverged: Mapping[int, Divergence], lo: int, hi: int
) -> Iterator[tuple[int, int, Divergence | None]]:
    """``[lo, hi)`` cut into runs of tasks that have a divergence in common, or all have none."""
    if not diverged:
        yield lo, hi, None
        return
    get, at = diverged.get, lo
    own = get(lo)
    for index in range(lo + 1, hi):
        if (found := get(index)) is not own:
            yield at, index, own
            at, own = index, found
    if at < hi:
        yield at, hi, own
