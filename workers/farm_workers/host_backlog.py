"""The leases of a host and those of them that wait for a slot, or for their function's bytes.

Bounded by the host's window: the coordinator never leases more to it.
"""

from collections import OrderedDict, deque
from collections.abc import Callable

from farm.protocol.messages import Grant
from farm_workers.host_lease import Lease
from farm_workers.host_slices import Key

__all__ = ["Backlog"]

FUNCTIONS_MAX = 1024


class Backlog:
    """``waiting`` counts the tasks that could be given to a worker now."""

    def __init__(self, function_bytes_max: int) -> None:
        self.leases: dict[Key, Lease] = {}
        self.waiting = 0
        self._queue: deque[Lease] = deque()
        self._lacking: dict[bytes, list[Lease]] = {}
        # The functions used last, to FUNCTIONS_MAX and this many bytes; needed ones stay.
        self._functions: OrderedDict[bytes, tuple[str, bytes]] = OrderedDict()
        self._function_bytes = 0
        self._function_bytes_max = function_bytes_max

    def add(self, key: Key, grant: Grant) -> Lease | None:
        """A new lease, of which nothing waits yet; None if it is known already."""
        if key in self.leases:
            return None
        lease = self.leases[key] = Lease(key, grant)
        return lease

    def others(self, lease: Lease) -> list[Lease]:
        """All leases but one."""
        return [one for one in self.leases.values() if one is not lease]

    def put(self, lease: Lease, first: int, stop: int, *, front: bool = False) -> bool:
        """Let tasks wait; returns False if their function must be asked for first."""
        lease.waiting.add(first, stop)
        function = lease.grant.function
        if function not in self._functions:
            asked = function in self._lacking
            lacking = self._lacking.setdefault(function, [])
            if lease not in lacking:
                lacking.append(lease)
            return asked
        self.waiting += stop - first
        self._enqueue(lease, front=front)
        return True

    def head(self) -> Lease | None:
        """The lease to cut from next; ``took`` must be called after cutting."""
        while self._queue and not self._queue[0].waiting:
            self._queue.popleft().queued = False
        return self._queue[0] if self._queue else None

    def deepest(self) -> Lease | None:
        """The lease of the deepest tasks that wait, made the head."""
        if (head := self.head()) is None:
            return None
        waiting = [lease for lease in self._queue if lease.waiting]
        if (found := max(waiting, key=lambda lease: lease.grant.depth)) is not head:
            self._queue.remove(found)
            self._queue.appendleft(found)
        return found

    @property
    def units(self) -> int:
        """How many workers what waits could keep busy."""
        return sum(_units(lease, a, b) for lease in self._queue for a, b in lease.waiting)

    def keep(self, units: int, give_back: Callable[[Lease, int, int], None]) -> None:
        """Give back what could be given to a worker, but for the deepest of it."""
        surplus = self.units - max(0, units)
        for lease in sorted(self._queue, key=lambda lease: lease.grant.depth):
            for first, stop in reversed(list(lease.waiting)):
                if surplus <= 0:
                    return
                count = _units(lease, first, stop)
                at = max(first, stop - surplus) if count == stop - first else first
                surplus -= min(count, surplus)
                for a, b in self.withdraw(lease, at, stop):
                    give_back(lease, a, b)

    def took(self, count: int) -> None:
        """Tasks were cut from the head."""
        self.waiting -= count

    def withdraw(self, lease: Lease, first: int, stop: int) -> list[tuple[int, int]]:
        """Let the tasks of ``[first, stop)`` that wait wait no more; returns their runs."""
        runs = lease.waiting.overlap(first, stop)
        for a, b in runs:
            lease.waiting.remove(a, b)
            if lease.queued:
                self.waiting -= b - a
        return runs

    def settle(self, lease: Lease) -> None:
        """Forget a lease if nothing of it is left to do or to say."""
        if not lease.open and not lease.unnoted:
            self.leases.pop(lease.key, None)

    def wanted(self) -> list[bytes]:
        """The functions to ask for on a new connection; whatever was asked before is forgotten."""
        for function, leases in list(self._lacking.items()):
            if not any(lease.waiting for lease in leases):
                del self._lacking[function]
        return list(self._lacking)

    def learn(self, function: bytes, name: str, data: bytes) -> None:
        """A function came: what waited for it can run."""
        self._function_bytes -= len(self._functions.pop(function, ("", b""))[1])
        self._functions[function] = name, data
        self._function_bytes += len(data)
        for lease in self._lacking.pop(function, ()):
            if lease.waiting:
                self.waiting += len(lease.waiting)
                self._enqueue(lease, front=False)
        if self._is_full():
            self._evict()

    def function(self, function: bytes) -> tuple[str, bytes]:
        """The name and bytes of a function; empty if they are not known."""
        if function not in self._functions:
            return "", b""
        self._functions.move_to_end(function)
        return self._functions[function]

    def _enqueue(self, lease: Lease, *, front: bool) -> None:
        if lease.queued:
            return
        lease.queued = True
        if front:
            self._queue.appendleft(lease)
        else:
            self._queue.append(lease)

    def _is_full(self) -> bool:
        return (
            self._function_bytes > self._function_bytes_max or len(self._functions) > FUNCTIONS_MAX
        )

    def _evict(self) -> None:
        needed = {lease.grant.function for lease in self.leases.values() if lease.open}
        for function in [f for f in self._functions if f not in needed]:
            if not self._is_full():
                return
            self._function_bytes -= len(self._functions.pop(function)[1])


def _units(lease: Lease, first: int, stop: int) -> int:
    """As how many slices a run is cut at most: a packed one goes whole."""
    return 1 if lease.grant.packed and not lease.grant.alone else stop - first
