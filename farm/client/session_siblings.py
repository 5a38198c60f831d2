"""Which tasks of a session that have not ended were submitted by the same task of its process."""

from collections.abc import Iterable

from farm.protocol.messages import Group
from farm.ranges import RangeSet

__all__ = ["Siblings"]

Parent = tuple[bytes, int] | None
"""The session and counter of the task that submitted others; None: no task did."""


class Siblings:
    """What has not ended, by parent; few parents have any at a time, for a process runs one."""

    def __init__(self) -> None:
        self._of: dict[Parent, RangeSet] = {}

    def add(self, group: Group) -> None:
        """Tasks that are, or may be, at the coordinator, or are to be sent there."""
        self._of.setdefault(_parent(group), RangeSet()).add(group.first, group.first + group.count)

    def remove(self, first: int, stop: int) -> None:
        """Tasks that have ended, or will never be sent again."""
        for parent, tasks in list(self._of.items()):
            tasks.remove(first, stop)
            if not tasks:
                del self._of[parent]

    def of(self, groups: Iterable[Group]) -> RangeSet:
        """Those that have the same parents as these."""
        return RangeSet(
            run
            for parent in {_parent(group) for group in groups}
            for run in self._of.get(parent, ())
        )


def _parent(group: Group) -> Parent:
    return None if group.template is None else group.template.parent
