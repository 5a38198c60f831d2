"""Tasks that are not to wait for room, but as long as siblings of theirs will make some.

Which tasks of a session that have not ended were submitted by the same task of its process, and
when those that were refused ask again.
"""

from collections.abc import Collection, Iterable

from farm.protocol.messages import Group
from farm.ranges import RangeSet

__all__ = ["HOLD_SECONDS_MIN", "Pauses", "Siblings"]

DOUBLINGS_MAX = 20
Parent = tuple[bytes, int] | None
"""The session and counter of the task that submitted others; None: no task did."""


HOLD_SECONDS_MIN = 0.05
"""After ``Refused(busy)`` nothing is sent for at least so long, unless credit comes."""


class Pauses:
    """When who was refused asks again: soon, then in twice the time, and at last as was said.

    The first times there may be room again although the farm is not drained; one refusal after
    another says that there is none. Whatever goes on here begins anew: what ends has made room.
    """

    def __init__(self) -> None:
        self._refused = 0  # times in a row
        self._since = 0.0

    def until(self, now: float, hold_until: float, retry_after: float) -> float:
        """Something was refused: nothing is sent until then."""
        if now < hold_until:  # together with what was refused just now
            return hold_until
        doubled: float = HOLD_SECONDS_MIN * 2.0 ** min(self._refused, DOUBLINGS_MAX)
        self._refused, self._since = self._refused + 1, now
        return now + max(min(doubled, retry_after), HOLD_SECONDS_MIN)

    def soon(self, hold_until: float, *, goes_on: bool) -> float:
        """Until when nothing is sent if something new is to be, or ``goes_on``."""
        if goes_on:
            self._refused = 0
        return min(hold_until, self._since + HOLD_SECONDS_MIN)


class Siblings:
    """What has not ended, by parent; few parents have any at a time, for a process runs one."""

    def __init__(self) -> None:
        self._of: dict[Parent, RangeSet] = {}
        self._alone: set[Parent] = set()  # theirs were refused when nothing else of theirs was left

    def add(self, group: Group) -> None:
        """Tasks that are, or may be, at the coordinator, or are to be sent there."""
        self._of.setdefault(_parent(group), RangeSet()).add(group.first, group.first + group.count)

    def remove(self, first: int, stop: int) -> None:
        """Tasks that have ended, or will never be sent again."""
        for parent, tasks in list(self._of.items()):
            tasks.remove(first, stop)
            if not tasks:
                del self._of[parent]

    def accepted(self, groups: Iterable[Group]) -> None:
        """The coordinator has room for tasks of these parents."""
        if self._alone:
            self._alone.difference_update(map(_parent, groups))

    def may_wait(self, refused: Collection[Group], unsent: Iterable[Group]) -> bool:
        """Whether tasks that were refused, and are not here any more, may wait for room.

        As long as siblings of theirs are with the coordinator, not ``unsent``: they will make some.
        Others may not, for they may be above these, and wait for them. Once more if there are none:
        they may have ended meanwhile. Of each parent by itself, or of two whose tasks are refused
        in turn one would let the other wait for ever.
        """
        parents = {_parent(group) for group in refused}
        found = RangeSet(run for parent in parents for run in self._of.get(parent, ()))
        for group in unsent:
            found.remove(group.first, group.first + group.count)
        again = parents <= self._alone
        self._alone.intersection_update(self._of)  # nobody asks about any other again
        if found:
            self._alone -= parents
        else:
            self._alone |= parents
        return bool(found) or not again


def _parent(group: Group) -> Parent:
    return None if group.template is None else group.template.parent
