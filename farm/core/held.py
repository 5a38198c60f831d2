"""What waits in a queue until fewer tasks of its ``concurrency_key`` run."""

from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain

from farm.core.batch import Batch
from farm.core.lanes import Entry
from farm.model import State

__all__ = ["Held"]


class Held:
    """Entries by the key that is at its most; ``put_back`` lets one wait where it did.

    Of each key one at a time may try again: another follows when it has been placed, or found to
    be stale.
    """

    def __init__(self, put_back: Callable[[Entry], None]) -> None:
        self._put_back = put_back
        self._entries: dict[str, deque[Entry]] = {}
        self._released: dict[str, Batch] = {}  # that of the entry that may try again

    def add(self, entry: Entry) -> None:
        """An entry waits for its key, as the last, or as the first if it was that before."""
        batch = entry[0]
        key = batch.template.concurrency_key
        held = self._entries.setdefault(key, deque())  # of queued tasks: bounded by admission
        if self._released.get(key) is batch:
            del self._released[key]
            held.appendleft(entry)
        else:
            held.append(entry)

    def release(self, key: str) -> None:
        """The first of the entries that wait for a key waits where it did."""
        held = self._entries.get(key)
        if held is None or key in self._released:
            return
        self._released[key] = held[0][0]
        self._put_back(held.popleft())
        if not held:
            del self._entries[key]

    def let_out(self, batch: Batch) -> None:
        """The entries of a batch wait where they did, whatever comes before them."""
        key = batch.template.concurrency_key
        held = self._entries.get(key)
        if held is None:
            return
        found = [entry for entry in held if entry[0] is batch]
        rest = deque(entry for entry in held if entry[0] is not batch)
        if rest:
            self._entries[key] = rest
        else:
            del self._entries[key]
        for entry in reversed(found):
            self._put_back(entry)

    def release_all(self) -> None:
        """No key is at its most, as far as is known."""
        held, self._entries = self._entries, {}
        self._released.clear()
        for entries in held.values():
            for entry in reversed(entries):
                self._put_back(entry)

    def free(self, batch: Batch) -> None:
        """An entry has gone; if others wait for its key, they are not to wait for ever."""
        key = batch.template.concurrency_key
        if not key:
            return
        if self._released.get(key) is batch:
            del self._released[key]
        self.release(key)

    def ahead(self, batch: Batch, index: int) -> int | None:
        """How many tasks go before this one when its key is released; None if it is not here."""
        found = 0
        for other, lo, hi in self._entries.get(batch.template.concurrency_key, ()):
            if other is batch and lo <= index < hi:
                return found + batch.states.count(State.QUEUED, lo, index)
            found += other.states.count(State.QUEUED, lo, hi)
        return None

    def __iter__(self) -> Iterator[Entry]:
        return chain.from_iterable(self._entries.values())
