"""Who waits for room in a queue with bounds, and may send to it again.

A client that was refused for the sake of one queue keeps what it has for that queue, and goes on
with the others. When the queue has drained below its low water, those that wait share the room:
each is told how many tasks it may send, and again when it has sent them. That is no reservation:
what does not fit after all is refused again, exactly.
"""

from typing import TYPE_CHECKING

from farm.core.ledger import Ledger
from farm.core.queue import Queue
from farm.core.sessions import Session
from farm.core.throughput import retry_after
from farm.protocol.messages import QueueCredit as Message
from farm.protocol.messages import Refused
from farm.protocol.parts import Group

if TYPE_CHECKING:
    from farm.core.policy import QueuePolicy

__all__ = ["QueueCredit", "by_size", "cut", "fitting"]

NEVER = float("inf")
UNUSED_SECONDS = 0.2
"""If there is still room when clients have had so long to use it, others are told of it."""


class QueueCredit:
    """Refuses for queues, and says when there is room."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.waited_for: dict[Queue, tuple[int, int, QueuePolicy] | None] = {}
        """Queues, with what they held when their room was shared last: nothing changed since."""
        self.due = NEVER
        """When room that was not used is to be shared again."""

    def refuse(self, session: Session, queue: Queue, group: Group, now: float) -> None:
        """There is no room for these tasks in their queue."""
        self._ledger.counters["refused"] += group.count
        queue.full = True
        queue.refused.pop(session, None)
        queue.refused[session] = [len(group.payloads[0]), 0]
        self.waited_for[queue] = None
        if session.peer is None:
            return
        policy = queue.policy
        text = f"queue {queue.name} is full"
        if policy.max_tasks is not None:
            text += f": it has {queue.open_tasks} of {policy.max_tasks} tasks"
        if policy.max_bytes is not None:
            text += f": they have {queue.open_bytes} of {policy.max_bytes} bytes"
        refused = Refused(
            group.first, group.count, "busy", self._retry_after(queue, now), text, queue.name
        )
        self._ledger.port.send(session.peer, refused)

    def _retry_after(self, queue: Queue, now: float) -> float:
        """In how many seconds it should have come below its low water."""
        policy, low = queue.policy, self._ledger.settings.low_water
        tasks = size = 0
        if policy.max_tasks is not None:
            tasks = queue.open_tasks - int(low * policy.max_tasks)
        if policy.max_bytes is not None:
            size = queue.open_bytes - int(low * policy.max_bytes)
        seconds = queue.throughput.seconds_for(tasks, size, now)
        return retry_after(seconds, self._ledger.chance())

    def received(self, session: Session, queue: Queue, group: Group) -> None:
        """A session has sent tasks for a queue, perhaps of those that it was told it may."""
        waits = queue.refused.get(session)
        if waits is not None:
            waits[1] = max(0, waits[1] - (1 if group.packed else group.count))
            self.waited_for[queue] = None

    def flush(self, now: float) -> None:
        """Tell those that wait how much they may send, where there is room."""
        lapsed = now >= self.due
        if lapsed:
            self.due = NEVER
        for queue, shared in list(self.waited_for.items()):
            holds = queue.open_tasks, queue.open_bytes, queue.policy
            if shared == holds and not lapsed:
                continue
            self.waited_for[queue] = holds
            self._forget_gone(queue)
            if not queue.refused:
                queue.full = False
                del self.waited_for[queue]
            elif not queue.full or self._has_drained(queue):
                queue.full = False
                self._share(queue, now)
        if not self.waited_for:
            self.due = NEVER

    def _forget_gone(self, queue: Queue) -> None:
        """A client that comes back sends again whatever it has."""
        for session in [one for one in queue.refused if one.peer is None]:
            del queue.refused[session]

    def _has_drained(self, queue: Queue) -> bool:
        policy, low = queue.policy, self._ledger.settings.low_water
        tasks, size = queue.room()
        return (
            tasks > 0
            and size > 0
            and (policy.max_tasks is None or queue.open_tasks <= low * policy.max_tasks)
            and (policy.max_bytes is None or queue.open_bytes <= low * policy.max_bytes)
        )

    def _share(self, queue: Queue, now: float) -> None:
        """In turn, to each that has sent what it might: its share, and one at least."""
        tasks, size = queue.room()
        ready = [s for s, (wanted, may) in queue.refused.items() if not may and wanted <= size]
        each = max(1, tasks // max(1, len(ready)))
        for session in ready:
            if tasks <= 0:
                self.due = now + UNUSED_SECONDS if self.due == NEVER else self.due
                break
            tasks -= each
            waits = queue.refused.pop(session)
            queue.refused[session] = [waits[0], each]
            if session.peer is not None:
                self._ledger.port.send(session.peer, Message(queue.name, each))


def fitting(group: Group, tasks: int, size: int) -> int:
    """How many of a group's tasks fit into the room: those before the first that does not."""
    if group.packed:
        return group.count if tasks > 0 and group.size <= size else 0
    count = min(group.count, tasks)
    if group.size <= size:
        return count
    for index in range(count):
        size -= len(group.payloads[index])
        if size < 0:
            return index
    return count


def cut(group: Group, lo: int, hi: int) -> Group:
    """The part ``[lo, hi)`` of a group."""
    if (lo, hi) == (0, group.count):
        return group
    payloads = group.payloads if group.packed else group.payloads[lo:hi]
    return Group(
        group.first + lo,
        hi - lo,
        group.function,
        payloads,
        sum(map(len, payloads)),
        group.packed,
        group.start + lo,
        group.job,
        group.template,
        group.tried,
        group.keys[lo:hi],
        None if group.same is None else (group.same[0], group.same[1] + lo),
    )


def by_size(group: Group, most: int) -> list[tuple[int, int, bool]]:
    """A group cut into runs of which no payload is larger than that, and single larger ones."""
    if group.packed:
        return [(0, group.count, True)]
    found: list[tuple[int, int, bool]] = []
    for index, payload in enumerate(group.payloads):
        too_large = len(payload) > most
        if found and not too_large and not found[-1][2]:
            found[-1] = (found[-1][0], index + 1, False)
        else:
            found.append((index, index + 1, too_large))
    return found
