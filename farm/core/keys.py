"""Which task has which key, so that what has one is not run twice.

A *unique* key belongs to its task while that is pending; an *idempotency* key for a fixed time,
and at least as long as its task is pending. Keys belong to owners: the same text of two owners is
two keys. Nothing of this is in the journal but what tasks were submitted with, so a restart
finds the same. Both the number of keys and the bytes that are kept for them are bounded: at the
bound none is forgotten early, but no new one is taken.
"""

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from farm.model import State, TaskId
from farm.protocol.parts import Group, TaskKey

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from farm.core.batch import Batch
    from farm.core.settings import CoreSettings

__all__ = ["Keys", "Run"]

NEVER = float("inf")
RETRY_SECONDS = 1.0
"""How soon a key may be free, at the least."""
Name = tuple[str, bool, str]
"""A key among all: its owner, whether it is unique, its text."""


class Run(NamedTuple):
    """Tasks of a group, up to index ``stop``, whose keys are alike.

    They are new, or have the keys of the tasks of ``batch`` from index ``place`` on; ``problem``:
    that task was submitted with another body.
    """

    stop: int
    batch: "Batch | None" = None
    place: int = 0
    problem: bool = False


class Keys:
    """All keys that are held.

    ``bytes`` is what is kept for them: their texts, and the results of tasks with idempotency keys.
    ``followers`` has batches of tasks that have the keys of others, by the batch of these others.
    """

    def __init__(self, settings: "CoreSettings") -> None:
        self._settings = settings
        self._held: dict[Name, tuple[Batch, int]] = {}
        # With idempotency keys, in the order of their time; max_keys bounds how many are taken.
        self.ageing: deque[Batch] = deque()
        self._late: set[Batch] = set()  # whose time is over, and of which tasks are pending
        self.bytes = 0
        self.followers: dict[Batch, dict[Batch, None]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> "Iterator[tuple[Name, tuple[Batch, int]]]":
        """Every key that is held, with the batch and the index of its task."""
        return iter(self._held.items())

    # ------------------------------------------------------------ looking

    @property
    def due(self) -> float:
        """When the time of the next idempotency keys is over."""
        return self.free_at(self.ageing[0]) if self.ageing else NEVER

    def free_at(self, batch: "Batch") -> float:
        """When the time of a batch's idempotency keys is over; they may be held for longer."""
        return batch.at + self._settings.key_ttl

    def room(self) -> int:
        """How many more keys are taken."""
        settings = self._settings
        return 0 if self.bytes >= settings.max_key_bytes else settings.max_keys - len(self._held)

    def run_at(self, owner: str, group: Group, at: int) -> Run:
        """What is to be done with the tasks of a group from an index on, as far as it is alike.

        A run of new ones ends before a key that comes again in it.
        """
        keys = group.keys
        found = self._held.get(_name(owner, keys[at]))
        if found is None:
            return self._new(owner, keys, at)
        batch, index = found
        if batch.keys[index].body != keys[at].body:
            return Run(at + 1, batch, index, problem=True)
        stop, end = at + 1, index + 1
        while (
            stop < group.count
            and self._held.get(_name(owner, keys[stop])) == (batch, end)
            and batch.keys[end].body == keys[stop].body
        ):
            stop, end = stop + 1, end + 1
        return Run(stop, batch, index)

    def _new(self, owner: str, keys: tuple[TaskKey, ...], at: int) -> Run:
        seen: set[Name] = set()
        stop = at
        while stop < len(keys):
            name = _name(owner, keys[stop])
            if name in self._held or name in seen:
                break
            seen.add(name)
            stop += 1
        return Run(stop)

    def conflict(self, run: Run, now: float) -> str:
        """What is said to whoever submits a key with another body."""
        batch, index = run.batch, run.place
        if batch is None:
            return ""
        text, task = batch.keys[index].text, TaskId(batch.session.id, batch.first + index)
        left = max(0.0, self.free_at(batch) - now)
        free = f"{left:.0f} s" if left else "no time, once that task has ended"
        return (
            f"the idempotency key {text!r} belongs to task {task}, which was submitted "
            f"{max(0.0, now - batch.at):.0f} s ago with another function or other arguments; use a "
            f"new key for other work, or submit the very same again; the key is free in {free}"
        )

    def why_full(self, now: float) -> str:
        """What is said to whoever submits a new key when there is no room."""
        settings = self._settings
        bound = f"{len(self._held)} keys are held, and max_keys allows {settings.max_keys}"
        if len(self._held) < settings.max_keys:
            bound = (
                f"keys and the results kept for them have {self.bytes} bytes, and max_key_bytes "
                f"allows {settings.max_key_bytes}"
            )
        return (
            f"no room for another key: {bound}; the first is free in {self.retry_after(now):.0f} s"
        )

    def retry_after(self, now: float) -> float:
        """In how many seconds there may be room again; unique keys may be free at any time."""
        return max(RETRY_SECONDS, self.due - now) if self.ageing else RETRY_SECONDS

    def held_by(self, batch: "Batch", index: int) -> bool:
        """Whether a task still has its key."""
        return self._held.get(_name(batch.owner, batch.keys[index])) == (batch, index)

    # ------------------------------------------------------------ taking and letting go

    def hold(self, batch: "Batch") -> None:
        """The tasks of a batch, which is new, have their keys from now on."""
        for index in range(batch.count):
            self._hold(batch, index)
        if batch.held:
            self.ageing.append(batch)

    def _hold(self, batch: "Batch", index: int) -> None:
        key = batch.keys[index]
        name = _name(batch.owner, key)
        if (before := self._held.get(name)) is not None:
            self._release(*before)
        self._held[name] = batch, index
        self.bytes += len(key.text)
        if not key.unique:
            self.bytes += 0 if batch.held else batch.result_bytes
            batch.held += 1

    def _release(self, batch: "Batch", index: int) -> None:
        key = batch.keys[index]
        del self._held[_name(batch.owner, key)]
        self.bytes -= len(key.text)
        if not key.unique:
            batch.held -= 1
            self.bytes -= 0 if batch.held else batch.result_bytes

    def ended(self, batch: "Batch", lo: int, hi: int) -> None:
        """The tasks ``[lo, hi)`` of a batch are pending no more."""
        late = batch in self._late
        for index in range(lo, hi):
            if (late or batch.keys[index].unique) and self.held_by(batch, index):
                self._release(batch, index)
        if late and not batch.held:
            self._late.discard(batch)

    def sweep(self, now: float) -> "list[Batch]":
        """Let go of idempotency keys whose time is over; the batches that have none any more.

        Those of tasks that are pending are held until these end.
        """
        free: list[Batch] = []
        while self.ageing and self.free_at(self.ageing[0]) <= now:
            batch = self.ageing.popleft()
            for index, key in enumerate(batch.keys):
                over = batch.states[index] >= State.SUCCEEDED
                if over and not key.unique and self.held_by(batch, index):
                    self._release(batch, index)
            if batch.held:
                self._late.add(batch)
            else:
                free.append(batch)
        return free

    def restore(self, batches: "Iterable[Batch]", now: float) -> None:
        """After loading: the keys that tasks have, of batches in the order of their acceptance.

        Of two with the same key the later has it: it was accepted because the earlier had not.
        """
        for batch in batches:
            in_time = self.free_at(batch) > now
            for index, key in enumerate(batch.keys):
                pending = batch.states[index] < State.SUCCEEDED
                if pending or (in_time and not key.unique):
                    self._hold(batch, index)
            if batch.held:
                self.ageing.append(batch)


def _name(owner: str, key: TaskKey) -> Name:
    return owner, key.unique, key.text
