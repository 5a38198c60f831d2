"""A lease as its host holds it, and the runs of it that are with workers."""

import msgspec

from farm.model import Ending
from farm.protocol.messages import Failure, Grant
from farm.ranges import RangeSet
from farm_workers.host_slices import Key, Slice, SliceEnd

__all__ = ["Lease", "Running", "short"]

ITEM_SECONDS_MAX = 1e9
TEXT_CHARS_MAX = 4_000
"""Of each thing that a worker says about a failure; what it should say is shorter."""


class Lease:
    """One ``Grant``: every task of it waits, is with a worker, or is done.

    ``waiting`` has the counters that no worker was given. ``open`` counts those not done,
    ``unnoted`` those done of which the coordinator has not yet said that it knows. ``recalled``
    are counters asked back while a worker had them; of those in ``stopping`` what has begun is to
    end, within so many seconds.
    """

    __slots__ = ("grant", "key", "open", "queued", "recalled", "stopping", "unnoted", "waiting")

    def __init__(self, key: Key, grant: Grant) -> None:
        self.key = key
        self.grant = grant
        self.waiting = RangeSet()
        self.open = grant.count
        self.unnoted = 0
        self.recalled = RangeSet()
        self.stopping: dict[int, float] = {}
        self.queued = False

    def cut(self, count: int, offset: int) -> Slice:
        """Take up to ``count`` tasks from the front of what waits.

        A packed run goes whole, unless it must be known of each task whether it ran.
        """
        grant = self.grant
        first, stop = self.waiting.head
        if grant.alone or not grant.packed:
            stop = min(stop, first + count)
        self.waiting.remove(first, stop)
        skip = first - grant.first
        return Slice(
            self.key,
            grant.attempt,
            grant.session,
            first,
            stop - first,
            grant.function,
            grant.payloads if grant.packed else grant.payloads[skip : skip + stop - first],
            grant.packed,
            grant.start + skip if grant.packed else 0,
            grant.item + skip,
            grant.time_limit,
            offset,
            grant.alone,
            grant.soft_time_limit,
            grant.memory_limit,
            grant.retry_on,
            grant.never_on,
            grant.depth,
        )

    def stop(self, first: int, stop: int, grace: float) -> None:
        """Those of these tasks that a worker has begun are to end."""
        for counter in range(first, stop):
            self.stopping[counter] = min(grace, self.stopping.get(counter, grace))

    def finish(self, count: int) -> None:
        """``count`` tasks are done and will be reported."""
        self.open -= count
        self.unnoted += count
        if not self.open:
            # Arguments of what is over are not kept; the message they came in is not ours.
            self.grant = msgspec.structs.replace(self.grant, payloads=[])


class Running:
    """A slice with a worker: ``[next, stop)`` is what has not ended. Items end in order.

    ``dropped`` are counters that the coordinator has fenced off: they are not given back.
    ``cost`` is how long it should take in seconds, and 0 if nobody knows. What is below
    ``announced`` was said to have begun.
    """

    __slots__ = ("announced", "cost", "dropped", "lease", "next", "part", "seconds", "stop")

    def __init__(self, lease: Lease, part: Slice, cost: float) -> None:
        self.lease = lease
        self.part = part
        self.cost = cost
        self.next = part.first
        self.stop = part.first + part.count
        self.announced = part.first
        self.dropped = RangeSet()
        self.seconds = 0.0

    @property
    def begun(self) -> int:
        """Up to where its worker may be at it: one item, as long as all goes well.

        What is packed counts as a whole: it would be told item by item.
        """
        return self.stop if self.part.packed else self.next + 1

    @property
    def is_announced(self) -> bool:
        """Whether it was said that what the worker is at has begun."""
        return self.next < self.announced

    def counter(self, ordinal: int) -> int | None:
        """The task with this ordinal, if it is one of those that have not ended."""
        counter = self.part.first + ordinal - self.part.offset
        return counter if self.next <= counter < self.stop else None

    def fits(self, part: SliceEnd) -> bool:
        """Whether its worker may say this about it now; user code can reach the pipe."""
        return (
            part.key == self.lease.key
            and part.first == self.next
            and 0 < part.count <= self.stop - self.next
            and part.first - self.part.first == part.offset - self.part.offset
            and len(part.payloads) == (1 if part.packed else part.count)
            and (
                (part.ending is Ending.OK and part.packed <= self.part.packed)
                or (part.ending is Ending.EXCEPTION and not part.packed)
            )
            and 0 <= part.seconds <= ITEM_SECONDS_MAX
        )

    def left(self) -> list[tuple[int, int]]:
        """The runs that have not ended and are still wanted."""
        return self.dropped.gaps(self.next, self.stop)


def short(failure: Failure) -> Failure:
    """A worker's evidence, no longer than a message should carry."""
    cause, message, type_name = (
        text[:TEXT_CHARS_MAX] for text in (failure.cause, failure.message, failure.type_name)
    )
    return msgspec.structs.replace(failure, cause=cause, message=message, type_name=type_name)
