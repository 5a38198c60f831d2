"""Which tasks of a session that have not ended were submitted by the same task of its process."""

from collections.abc import Collection, Iterable

from farm.protocol.messages import Group
from farm.ranges import RangeSet

__all__ = ["Siblings"]

Parent = tuple[bytes, int] | None
"""The session and counter of the task that submitted others; None: no task did."""


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
