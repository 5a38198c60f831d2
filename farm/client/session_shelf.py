"""Groups of tasks, cut and joined, and kept on a shelf in the order of their counters.

A shelf holds disjoint groups. Adding behind the last and taking whole groups, the common cases,
cost constant time; taking a part of a group splits it.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from copy import copy as copy_of

from farm.model import DEFAULT_QUEUE, Ending
from farm.protocol.messages import BATCH_BYTES, TASKS_PER_MESSAGE_MAX, Failure, Group, Result
from farm.ranges import RangeSet

__all__ = [
    "STOPPED",
    "TRIED",
    "Shelf",
    "cancelled_results",
    "copied",
    "join",
    "part",
    "part_of_result",
    "parts_of_result",
    "queue_of",
    "runs_of",
]

STOPPED = Failure("stopped", "it was stopped while it ran")
"""Why a task is cancelled after it may have begun."""
TRIED = Failure("stopped", "it was cancelled when a coordinator that is gone may have begun it")
"""The same of one that the present coordinator does not have."""
_DEAD_MIN = 32


def part(group: Group, first: int, stop: int) -> Group:
    """The tasks ``[first, stop)`` of a group, which has them; the group itself if that is all.

    A part of a packed group names the same payload, and its own items of it.
    """
    count = stop - first
    if count == group.count:
        return group
    at = first - group.first
    if group.packed:
        payloads, size, start = group.payloads, group.size, group.start + at
    else:
        payloads, start = group.payloads[at : at + count], 0
        size = sum(map(len, payloads))
    return Group(
        first=first,
        count=count,
        function=group.function,
        payloads=payloads,
        size=size,
        packed=group.packed,
        start=start,
        job=group.job,
        template=group.template,
        tried=group.tried,
        keys=group.keys[at : at + count],
    )


def part_of_result(entry: Result, first: int, stop: int) -> Result:
    """The tasks ``[first, stop)`` of an entry that is not packed."""
    payloads = entry.payloads[first - entry.first : stop - entry.first]
    count = stop - first
    return Result(
        session=entry.session,
        first=first,
        count=count,
        ending=entry.ending,
        payloads=payloads,
        size=sum(map(len, payloads)),
        failure=entry.failure,
        seconds=entry.seconds * count / entry.count,
        output=entry.output,
    )


def parts_of_result(entry: Result, parts: list[tuple[int, int]]) -> list[Result]:
    """The entry as far as it is of these tasks of it; a packed one stays whole."""
    if not parts or parts == [(entry.first, entry.first + entry.count)] or entry.packed:
        return [entry] if parts else []
    return [part_of_result(entry, first, stop) for first, stop in parts]


def cancelled_results(
    session: bytes, runs: list[tuple[int, int]], failure: Failure | None
) -> list[Result]:
    """The outcomes of cancelled tasks; with a ``failure``, of those that may have begun."""
    cancelled = [Result(session, a, b - a, Ending.CANCELLED, []) for a, b in runs]
    for result in cancelled:
        result.failure = failure
    return cancelled


def queue_of(group: Group) -> str:
    """The queue of a group's tasks, by the name that the coordinator says."""
    return (group.template.queue if group.template is not None else "") or DEFAULT_QUEUE


def copied(group: Group) -> Group:
    """A group to be changed, of the same payloads."""
    copy: Group = copy_of(group)
    copy.payloads = list(group.payloads)
    return copy


def runs_of(groups: Iterable[Group]) -> list[tuple[int, int]]:
    """The counters of the tasks of some groups, in order."""
    return list(RangeSet((group.first, group.first + group.count) for group in groups))


def join(group: Group, after: Group) -> bool:
    """Append the tasks of ``after`` to ``group`` if the two are alike and small; whether it did."""
    if (
        group.packed
        or after.packed
        or after.first != group.first + group.count
        or after.function != group.function
        or after.job != group.job
        or after.template != group.template
        or after.tried != group.tried
        or bool(after.keys) != bool(group.keys)
        or group.count + after.count > TASKS_PER_MESSAGE_MAX
        or group.size + after.size > BATCH_BYTES
    ):
        return False
    group.payloads += after.payloads
    group.keys += after.keys
    group.count += after.count
    group.size += after.size
    return True


class Shelf:
    """Disjoint groups in the order of their counters; ``tasks`` and ``size`` say how much.

    Who fills it bounds it: nothing is ever dropped here.
    """

    __slots__ = ("_dead", "_firsts", "_groups", "_head", "size", "tasks")

    def __init__(self) -> None:
        self.tasks = 0
        self.size = 0
        self._firsts: list[int] = []
        # Taken groups leave a None behind, swept up when half are: taking from the front of a
        # long list would otherwise move all the rest each time.
        self._groups: list[Group | None] = []
        self._dead = 0
        self._head = 0

    def __len__(self) -> int:
        return self.tasks

    def __contains__(self, counter: int) -> bool:
        at = bisect_right(self._firsts, counter) - 1
        group = self._groups[at] if at >= 0 else None
        return group is not None and counter < group.first + group.count

    def __iter__(self) -> Iterator[Group]:
        return (group for group in self._groups[self._head :] if group is not None)

    def add(self, group: Group, *, joined: bool = False) -> None:
        """Put a group in its place; ``joined``: it may become part of the last one."""
        self.tasks += group.count
        self.size += group.size
        groups = self._groups
        if not groups or group.first > self._firsts[-1]:
            last = groups[-1] if joined and groups else None
            if last is None or not join(last, group):
                self._firsts.append(group.first)
                groups.append(group)
            return
        at = bisect_left(self._firsts, group.first)
        # No trace of a taken group may stay inside: its counter would be looked up there.
        end = bisect_left(self._firsts, group.first + group.count)
        self._dead -= end - at
        self._firsts[at:end] = [group.first]
        groups[at:end] = [group]
        self._head = min(self._head, at)

    def head(self) -> Group | None:
        """The group with the smallest counters, left where it is."""
        groups = self._groups
        while self._head < len(groups):
            group = groups[self._head]
            if group is not None:
                return group
            self._head += 1
        return None

    def take(self, first: int, stop: int) -> list[Group]:
        """Remove the tasks of ``[first, stop)`` that are here, and return them in order."""
        at = bisect_right(self._firsts, first) - 1
        group = self._groups[at] if at >= 0 else None
        if group is not None and group.first == first and group.count == stop - first:
            self._remove(at, group)  # as nearly always; nothing else can be there
            taken = [group]
        else:
            taken = self._take_among(max(at, 0), first, stop)
        if self._dead > _DEAD_MIN and self._dead * 2 > len(self._groups):
            self._sweep()
        return taken

    def _take_among(self, at: int, first: int, stop: int) -> list[Group]:
        """Remove the tasks of ``[first, stop)``, of which none is in a group before ``at``."""
        taken: list[Group] = []
        firsts, groups = self._firsts, self._groups
        while at < len(firsts) and firsts[at] < stop:
            group = groups[at]
            end = 0 if group is None else group.first + group.count
            if group is not None and end > first:
                if first <= group.first and end <= stop:
                    taken.append(group)
                    self._remove(at, group)
                else:
                    a, b = max(group.first, first), min(end, stop)
                    at += self._cut(at, group, a, b) - 1
                    taken.append(part(group, a, b))
            at += 1
        return taken

    def _remove(self, at: int, group: Group) -> None:
        """Remove a whole group."""
        self._groups[at] = None
        self._dead += 1
        self.tasks -= group.count
        self.size -= group.size

    def _cut(self, at: int, group: Group, first: int, stop: int) -> int:
        """Remove some of the tasks of a group; how many groups the others are."""
        ends = ((group.first, first), (stop, group.first + group.count))
        kept = [part(group, x, y) for x, y in ends if x < y]
        self._firsts[at : at + 1] = [one.first for one in kept]
        self._groups[at : at + 1] = kept
        self.tasks -= stop - first
        self.size += sum(one.size for one in kept) - group.size
        return len(kept)

    def take_all(self) -> list[Group]:
        """Remove everything, and return it in order."""
        taken = list(self)
        self._firsts, self._groups = [], []
        self.tasks = self.size = self._dead = self._head = 0
        return taken

    def _sweep(self) -> None:
        self._groups = [group for group in self._groups if group is not None]
        self._firsts = [group.first for group in self._groups if group is not None]
        self._dead = self._head = 0
