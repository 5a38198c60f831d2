"""The tasks that a session may have to send, and the credit it may send them on.

Every task of the session that is not settled stands on one of four shelves, or on none once it
is accepted by a coordinator that keeps it durably:

    fresh ──► unacked ──► (none)        durable
                 │   └──► retained      not durable: kept until the outcome
      again ◄────┴───────────┘          the connection, or the coordinator, was lost

Only what is fresh is known not to be at the coordinator. Refused tasks become fresh again; those
that their queue has no room for are parked, each queue's by themselves, with what else is fresh of
it, until the coordinator says how many may be sent.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from operator import attrgetter

from farm.client.session_functions import Functions
from farm.client.session_shelf import Shelf, copied, join, part_of_result, queue_of
from farm.client.session_siblings import HOLD_SECONDS_MIN, Pauses, Siblings
from farm.model import Ending
from farm.protocol.messages import (
    BATCH_BYTES,
    TASKS_PER_MESSAGE_MAX,
    Credit,
    Function,
    Group,
    QueueCredit,
    Result,
    Submit,
)
from farm.ranges import RangeSet

__all__ = ["Outbox"]

Send = Callable[[Function | Submit], None]
_ENDING = attrgetter("ending")

HOLD_TIMES = 2
"""Nor for so many times as long as was said: credit comes when there is room, and whoever comes
before it does keeps the farm from draining."""


class Outbox:
    """Four shelves of groups, the functions they use, and what is left of the credit.

    Bounded by its owner: ``fresh`` by blocking submitters, ``unacked`` and ``retained`` by the
    credit, which comes back with the outcome, ``again`` by what the other two held. If it is
    not ``paced``, everything is sent at once, and the credit is only told: what nobody has room for
    comes back.
    """

    def __init__(self, *, paced: bool = True) -> None:
        self._paced = paced
        self._siblings, self._pauses = Siblings(), Pauses()  # of no use if it is
        self.fresh = Shelf()
        self.again = Shelf()
        self.unacked = Shelf()
        self.retained = Shelf()
        self.parked: dict[str, Shelf] = {}  # by queue: fresh, and waiting for room in it
        self._may: dict[str, int] = {}  # how many of them may be sent
        # Of each: when there should be room, and why there is none.
        self.full: dict[str, tuple[float, str]] = {}
        self.hold_until = 0.0
        self._next = 1  # tasks below it were all added, or never will be
        self._functions = Functions(
            lambda: (one.function for shelf in self._shelves for one in shelf)
        )
        self._granted = (0, 0)  # tasks and bytes, in all on this connection
        self._sent_tasks = self._sent_bytes = 0

    @property
    def tasks(self) -> int:
        """Tasks waiting to be sent, but for those that are parked."""
        return self.fresh.tasks + self.again.tasks

    @property
    def size(self) -> int:
        """Payload bytes waiting to be sent, but for those that are parked."""
        return self.fresh.size + self.again.size

    @property
    def parked_tasks(self) -> int:
        """Tasks that wait for room in their queue."""
        return sum(shelf.tasks for shelf in self.parked.values())

    @property
    def has_sendable(self) -> bool:
        """Whether anything waits that credit might let go."""
        return bool(self.fresh.tasks or self.again.tasks or self._may)

    @property
    def _shelves(self) -> tuple[Shelf, ...]:
        return (self.fresh, self.again, self.unacked, self.retained, *self.parked.values())

    @property
    def credit_left(self) -> int:
        """For how many tasks more there is credit."""
        return max(0, self._granted[0] - self._sent_tasks - self.tasks)

    def is_held(self, now: float) -> bool:
        """Whether not even one small task could be sent now."""
        if not self._paced:
            return False
        tasks, size = self._granted
        return now < self.hold_until or tasks <= self._sent_tasks or size <= self._sent_bytes

    def add(
        self,
        groups: Sequence[Group],
        functions: Iterable[Function],
        send: Send | None = None,
        now: float = 0.0,
    ) -> bool:
        """Take new groups, and the functions they name; whether it is sent already.

        With ``send`` a single group is, past the shelves, if nothing else waits to be sent.
        """
        self._functions.keep(functions)
        for group in groups:
            self._next = max(self._next, group.first + group.count)
            if not self._paced:
                self._siblings.add(group)
                self.hold_until = self._pauses.soon(self.hold_until, goes_on=False)
        if at_once := send is not None and len(groups) == 1 and self._passes(groups[0], now):
            [group] = groups
            self._charge(group, send)
            self._post([group], min(self.floor, group.first), send)
        else:
            for group in groups:
                self._shelf(group).add(group, joined=True)
        return at_once

    def _passes(self, group: Group, now: float) -> bool:
        """Whether a new group may be sent now: nothing is before it, and there is credit for it."""
        if self.fresh.tasks or self.again.tasks or self.parked or now < self.hold_until:
            return False
        return self._fitting(group, TASKS_PER_MESSAGE_MAX, BATCH_BYTES, alone=True) == group.count

    # ------------------------------------------------------------ sending

    def welcome(self, tasks: int, size: int, *, lost: bool) -> list[Group]:
        """A connection is open, with its first credit.

        ``lost``: it is another incarnation of the coordinator, which has nothing of what was
        retained. Those groups are to be sent again, and are returned. The last one may have let
        them begin, and whatever else it was sent and did not answer.
        """
        self._granted = (tasks, size)
        self._sent_tasks = self._sent_bytes = 0
        self.hold_until = 0.0
        for group in [group for shelf in self.parked.values() for group in shelf]:
            self.fresh.add(group)
        self.parked.clear()
        self._may.clear()
        self.full.clear()
        moved = self.retained.take_all() if lost else []
        for group in [*self.again.take_all(), *moved] if lost else ():
            tried = copied(group)
            tried.tried = True
            self.again.add(tried)
        return moved

    def credit(self, message: Credit | QueueCredit) -> None:
        """So much may be sent in all on this connection, or of the tasks parked for a queue."""
        if isinstance(message, Credit):
            self._granted = (message.tasks, message.bytes)
            if self._paced:  # to others what was refused comes back, and that says nothing of room
                self.hold_until = 0.0
        elif message.queue in self.parked:
            self._may[message.queue] = self._may.get(message.queue, 0) + message.tasks

    def hold(self, now: float, retry_after: float) -> None:
        """The coordinator is full and may have room after so many seconds."""
        if self._paced:
            self.hold_until = now + max(HOLD_TIMES * retry_after, HOLD_SECONDS_MIN)
        else:
            self.hold_until = self._pauses.until(now, self.hold_until, retry_after)

    def disconnected(self) -> None:
        """What is unacknowledged may have arrived or not."""
        for group in self.unacked.take_all():
            self.again.add(group)

    @property
    def floor(self) -> int:
        """Below this counter nothing will ever be sent again."""
        floor = self._next
        for shelf in self._shelves:
            if shelf.tasks and (head := shelf.head()) is not None and head.first < floor:
                floor = head.first
        return floor

    def pump(self, send: Send, now: float) -> bool:
        """Send what credit allows, older work first; whether anything was sent."""
        if now < self.hold_until:
            return False
        sent = False
        for shelf in (self.again, self.fresh):
            while shelf.tasks and (floor := self.floor) and (batch := self._batch(shelf, send)):
                self._post(batch, floor, send)
                sent = True
        for queue in list(self._may):
            sent = self._pump_parked(queue, send) or sent
        return sent

    def _pump_parked(self, queue: str, send: Send) -> bool:
        """Send what may be sent of what is parked for a queue."""
        shelf, sent = self.parked[queue], False
        while self._may[queue] > 0 and (floor := self.floor):
            before = self._sent_tasks
            batch = self._batch(shelf, send, self._may[queue])
            if not batch:
                break
            self._may[queue] -= self._sent_tasks - before
            self._post(batch, floor, send)
            sent = True
        if not self._may[queue]:
            del self._may[queue]
        self._drop_empty()
        return sent

    def _post(self, batch: list[Group], floor: int, send: Send) -> None:
        """Send the groups of one message, for which there is credit."""
        send(Submit(batch, floor))
        for group in batch:
            self.unacked.add(group)

    def _batch(self, shelf: Shelf, send: Send, most: int = TASKS_PER_MESSAGE_MAX) -> list[Group]:
        """Take the groups of one message off a shelf, after sending the functions they need."""
        batch: list[Group] = []
        entries, size = min(most, TASKS_PER_MESSAGE_MAX), BATCH_BYTES
        while entries > 0 and (head := shelf.head()) is not None:
            count = self._fitting(head, entries, size, alone=not batch)
            if not count:
                break
            [group] = shelf.take(head.first, head.first + count)
            entries -= self._charge(group, send)
            size -= group.size
            # Only what was split here, and never sent, may be joined again.
            if not batch or shelf is self.again or not join(batch[-1], group):
                batch.append(group)
        return batch

    def _charge(self, group: Group, send: Send) -> int:
        """Take the credit for a group, having sent its function; as how many tasks it counts."""
        self._functions.tell(group.function, send)
        units = 1 if group.packed else group.count
        self._sent_tasks += units
        self._sent_bytes += group.size
        return units

    def _fitting(self, group: Group, entries: int, size: int, *, alone: bool) -> int:
        """How many tasks from the head of a group fit the message and the credit."""
        tasks, credit = entries, 1 << 62
        if self._paced:
            tasks = min(tasks, self._granted[0] - self._sent_tasks)
            credit = self._granted[1] - self._sent_bytes
        if tasks <= 0:
            return 0
        if group.packed or group.count == 1:
            return group.count if group.size <= credit and (alone or group.size <= size) else 0
        if group.count <= tasks and group.size <= min(size, credit):
            return group.count
        count = 0
        for payload in group.payloads[:tasks]:
            credit -= len(payload)
            size -= len(payload)
            if credit < 0 or (size < 0 and not (alone and count == 0)):
                break
            count += 1
        return count

    # ------------------------------------------------------------ what became of it

    def accepted(self, first: int, stop: int, *, durable: bool) -> list[Group]:
        """The coordinator has these tasks, durably or not; which of them it had not before."""
        pieces = self.unacked.take(first, stop)
        self._goes_on(pieces)
        for piece in pieces:
            if not durable or (piece.template is not None and not piece.template.durable):
                self.retained.add(piece)
        return pieces

    def refused(self, first: int, stop: int) -> list[Group]:
        """The coordinator does not have these tasks; what they are."""
        pieces = self.unacked.take(first, stop)
        for piece in () if self._paced else pieces:
            self._siblings.remove(piece.first, piece.first + piece.count)
        return pieces

    def put_back(self, pieces: Iterable[Group]) -> None:
        """Refused tasks are to be sent again: they are fresh."""
        for piece in pieces:
            if not self._paced:
                self._siblings.add(piece)
            # A copy: what was sent once may be looked at elsewhere, and fresh groups grow.
            self._shelf(piece).add(copied(piece))

    def _shelf(self, group: Group) -> Shelf:
        """Where what the coordinator does not have belongs."""
        return self.parked.get(queue_of(group), self.fresh) if self.parked else self.fresh

    def park(self, queue: str, retry_at: float, why: str) -> None:
        """A queue has refused tasks: all that is fresh of it waits for room in it."""
        self.full[queue] = retry_at, why
        self._may.pop(queue, None)
        shelf = self.parked.get(queue)
        if shelf is None:
            shelf = self.parked[queue] = Shelf()
            for group in [group for group in self.fresh if queue_of(group) == queue]:
                for piece in self.fresh.take(group.first, group.first + group.count):
                    shelf.add(piece)

    def take_fresh(self, first: int, stop: int, *, tried: bool) -> list[Group]:
        """Take back what no coordinator has, or ever had; the latter not of those ``tried``."""
        taken: list[Group] = []
        for shelf in (self.fresh, *self.parked.values()):
            for piece in shelf.take(first, stop):
                if piece.tried and not tried:
                    shelf.add(piece)
                else:
                    taken.append(piece)
        self._drop_empty()
        return taken

    def _drop_empty(self) -> None:
        """Queues for which nothing is parked any more."""
        for queue in [queue for queue, shelf in self.parked.items() if not shelf]:
            del self.parked[queue]
            self._may.pop(queue, None)
            self.full.pop(queue, None)

    def forget_function(self, pieces: Iterable[Group]) -> None:
        """The coordinator lacks the functions of these groups: they are sent before them."""
        self._functions.lacking(piece.function for piece in pieces)

    def accepted_for_good(self, among: RangeSet) -> RangeSet:
        """Which of these tasks need not be sent again, even if the coordinator restarts."""
        found = RangeSet(among)
        for shelf in self._shelves:
            for group in shelf:
                found.remove(group.first, group.first + group.count)
        return found

    def has(self, counter: int) -> bool:
        """Whether no coordinator has accepted this task yet, nor refused it."""
        shelves = (self.unacked, self.fresh, self.again, *self.parked.values())
        return any(counter in shelf for shelf in shelves)

    def may_wait(self, refused: Collection[Group]) -> bool:
        """Whether tasks that were refused may wait for room where nobody should have to."""
        shelves = (one for one in self._shelves if one is not self.retained)
        return self._siblings.may_wait(refused, (group for shelf in shelves for group in shelf))

    def to_send(self, among: RangeSet) -> list[tuple[int, int]]:
        """Which of these tasks are to be sent, again or at all."""
        good = self.accepted_for_good(among)
        return [gap for first, stop in among for gap in good.gaps(first, stop)]

    def without_unsent(self, entries: list[Result], session: bytes) -> list[Result]:
        """The entries without word that tasks are unknown which are still to be accepted.

        They are, if somebody here follows them and the coordinator has lost its memory.
        """
        if Ending.UNKNOWN not in map(_ENDING, entries):
            return entries
        kept: list[Result] = []
        for entry in entries:
            if entry.ending is Ending.UNKNOWN and entry.session == session:
                named = RangeSet([(entry.first, entry.first + entry.count)])
                kept += [part_of_result(entry, a, b) for a, b in self.accepted_for_good(named)]
            else:
                kept.append(entry)
        return kept

    def settled(self, first: int, stop: int) -> list[Group]:
        """These tasks are over; which of them were not known to be accepted."""
        if self.retained.tasks:
            self.retained.take(first, stop)
        pieces = self.unacked.take(first, stop) if self.unacked.tasks else []
        if self.again.tasks or self.fresh.tasks or self.parked:
            for shelf in (self.again, self.fresh, *self.parked.values()):
                pieces += shelf.take(first, stop)
            self._drop_empty()
        if not self._paced:
            self._siblings.remove(first, stop)
            self._goes_on(pieces)  # what is over had room, though nobody has said so
        return pieces

    def _goes_on(self, pieces: list[Group]) -> None:
        """There was room for these, or there is now."""
        if not self._paced:
            self._siblings.accepted(pieces)
            self.hold_until = self._pauses.soon(self.hold_until, goes_on=True)
