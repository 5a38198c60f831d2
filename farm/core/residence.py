"""Which payloads are in memory: as many as their budget allows, and always those next in turn.

The payloads of a batch are dropped when they are over the budget and its record is committed, those
that came last first, and read back when the turn of the batch is near. So they cost their sizes
meanwhile. What is not committed, or never will be, stays: admission bounds it.

Those of tasks that start much later are dropped whatever room there is, and read back shortly
before that: until then such a task costs a few bytes.

*Near* is what comes up within the next ``window`` bytes, as the queues stand: that is read ahead. A
batch whose turn comes sooner is called for, and steps aside until it is here; others go on.
"""

from collections import OrderedDict, deque
from itertools import islice
from typing import TYPE_CHECKING

from farm.core.batch import DEFAULTS, Batch, start_of
from farm.core.stored import Stored, fill, inline_size, is_stored, stored
from farm.protocol.records import Record, Submitted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from farm.core.port import Port
    from farm.core.ready import Entry
    from farm.core.rows import Row
    from farm.core.settings import CoreSettings
    from farm.protocol.parts import Group

__all__ = ["Residence"]

WINDOW_SHARE = 8
"""The part of the budget that is read ahead, or being read."""
WINDOW_BYTES_MAX = 32 << 20
LOOK_SHARE = 4
"""When such a part of the window was given to hosts, it is moved on."""
ENTRIES_MAX = 256
"""How many entries of the queues are looked at for that."""
CALLED_MAX = 64
"""Batches that have stepped aside and are not being read yet."""


class Residence:
    """Counts the payload bytes of open tasks, blobs left out, and moves them.

    ``bytes`` are in memory, of which ``pinned_bytes`` have to be; ``stored_bytes`` of ``stored``
    batches are in the store alone; ``reading_bytes`` are on their way back. ``budget`` is None
    where the store is memory, too: there dropping would win nothing.
    """

    def __init__(self, settings: "CoreSettings", port: "Port", *, durable: bool) -> None:
        self.budget = settings.resident_payload_bytes if durable else None
        self.limit = float("inf") if self.budget is None else self.budget
        """With no more ``bytes`` than this there is nothing for ``settle`` to do."""
        self.window = max(1, min(WINDOW_BYTES_MAX, settings.resident_payload_bytes // WINDOW_SHARE))
        self.far_seconds = settings.far_seconds
        self.bytes = self.pinned_bytes = self.stored_bytes = self.reading_bytes = 0
        self.stored = 0
        self.dropped = self.read_back = 0  # batches, in this life of the coordinator
        self.dropped_bytes = 0
        self.lost: list[Batch] = []
        """Those that the store should have, and does not."""
        self._port = port
        self._committed = 0
        self._loading = True
        self._restored_bytes = 0
        self._stands_in = False  # something of what was restored is in the store alone
        # Each batch once, as long as it is open; bounded by admission.
        self._fresh: deque[Batch] = deque()  # by their records, which are not committed
        self._order: OrderedDict[Batch, None] = OrderedDict()  # in memory; the last goes first
        self.near: dict[Batch, None] = {}
        """Those that come up next, here or on their way."""
        self._called: dict[Batch, None] = {}
        self._reading: dict[int, tuple[Row, int]] = {}  # by ref, with its bytes
        self._left = 0  # of what was read ahead, until it is time to look again
        self._far: set[Batch] = set()  # stored because they start much later

    # ------------------------------------------------------------ coming and going

    def enter(self, batch: Batch) -> None:
        """A batch is open."""
        batch.inline = inline_size(batch)
        if self.budget is not None and batch.inline:
            in_store = self._stands_in and self._loading
            if in_store and any(isinstance(one, Stored) for one in batch.payloads):
                self._note_stored(batch)
                if self.is_far(batch):
                    self._far.add(batch)
                return
            batch.pinned = True
            self.pinned_bytes += batch.inline
            if batch.row is not None:
                self._fresh.append(batch)
        self.bytes += batch.inline

    def written(self, batch: Batch) -> None:
        """A batch has a record now, the last of all."""
        if batch.pinned:
            self._fresh.append(batch)

    def free(self, batch: Batch, size: int) -> None:
        """Tasks of a batch have ended, which had so many bytes."""
        batch.inline -= size
        if batch.stored:
            self.stored_bytes -= size
        else:
            self.bytes -= size
        if batch.pinned:
            self.pinned_bytes -= size
        if not batch.open:
            self.stored -= batch.stored
            batch.stored = False
            self._far.discard(batch)
            self._order.pop(batch, None)
            self.near.pop(batch, None)
            self._called.pop(batch, None)

    def restore(self, record: Submitted) -> None:
        """Keep of a record that is loaded what the budget has room for: the oldest, as a rule."""
        if self.budget is None:
            return
        late = [
            self._starts_late(group, record.at) or is_stored(group.payloads)
            for group in record.groups
        ]
        groups = list(zip(record.groups, late, strict=True))
        size = sum(inline_size(group) for group, is_late in groups if not is_late)
        is_over = self._restored_bytes + size > self.budget
        self._restored_bytes += 0 if is_over else size
        for group, is_late in groups:
            if is_over or is_late:
                self._stands_in = True
                if not is_stored(group.payloads):
                    group.payloads = stored(group.payloads)

    def on_committed(self, ref: int) -> None:
        """Everything up to ``ref`` is durable: what is over the budget can go."""
        self._committed, self._loading = ref, False
        fresh, order = self._fresh, self._order
        while fresh and (fresh[0].row is None or fresh[0].row.ref <= ref):
            batch = fresh.popleft()
            batch.pinned = False
            self.pinned_bytes -= batch.inline
            if not batch.open:
                continue
            if batch.starts_at > batch.at and self.is_far(batch) and self.may_drop(batch):
                self._far.add(batch)
                self._drop(batch)
            else:
                order[batch] = None
        if self.bytes > self.limit:
            self.settle()

    # ------------------------------------------------------------ out of memory

    def settle(self) -> None:
        """Drop what is over the budget and may go, the last first."""
        if self.budget is None or self.bytes - self.pinned_bytes <= self.budget:
            return
        order = self._order
        for _ in range(len(order)):
            batch = next(reversed(order))
            if self.may_drop(batch):
                del order[batch]
                self._drop(batch)
                if self.bytes - self.pinned_bytes <= self.budget:
                    return
            else:
                order.move_to_end(batch, last=False)

    def _drop(self, batch: Batch) -> None:
        batch.payloads = stored(batch.payloads)
        self.bytes -= batch.inline
        self._note_stored(batch)
        self.dropped += 1
        self.dropped_bytes += batch.inline

    # ------------------------------------------------------------ much later

    def is_far(self, batch: Batch) -> bool:
        """Whether a batch started much later than it was accepted, or will."""
        return self.budget is not None and batch.starts_at - batch.at > self.far_seconds

    def _starts_late(self, group: "Group", at: float) -> bool:
        """The same of a stored group that was accepted at a time, in seconds since 1970."""
        return start_of(group.template or DEFAULTS, at) - at > self.far_seconds

    def foresee(self, batch: Batch) -> None:
        """A batch starts soon: read it, or leave that until its turn if too much is being read."""
        self._far.discard(batch)
        if batch.stored and batch.row is not None:
            self.read(batch.row)

    def want(self, row: "Row") -> bool:
        """Read all of a record back, also what starts later; whether it is on its way."""
        self._far.difference_update(row.batches)
        return self.read(row)

    def may_drop(self, batch: Batch) -> bool:
        """Whether the store has the payloads of a batch, and nobody needs them soon."""
        row = batch.row
        return row is not None and row.ref <= self._committed and batch not in self.near

    def _note_stored(self, batch: Batch) -> None:
        if not self.stored:
            self._left = 0  # nobody has looked yet
        batch.stored = True
        self.stored += 1
        self.stored_bytes += batch.inline

    # ------------------------------------------------------------ back into memory

    def call(self, batch: Batch) -> bool:
        """The turn of a stored batch has come: whether it may step aside until it is here."""
        row = batch.row
        self._far.discard(batch)
        if row is None or not self.read(row):
            if len(self._called) >= CALLED_MAX:
                return False
            self._called[batch] = None
        self.near[batch] = None
        self._left = 0  # it was not foreseen
        return True

    def is_sent_for(self, batch: Batch) -> bool:
        """Whether the payloads of a batch are on their way, or will be as soon as that may be."""
        reading = batch.row is not None and batch.row.ref in self._reading
        return batch.stored and (reading or batch in self._called)

    def read(self, row: "Row") -> bool:
        """Read a record back, if not too much is being read; whether it is on its way."""
        if row.ref in self._reading:
            return True
        size = sum(batch.inline for batch in row.batches if batch.stored)
        if self._reading and self.reading_bytes + size > self.window:
            return False
        self._reading[row.ref] = row, size
        self.reading_bytes += size
        self._port.load(row.ref)
        return True

    def read_now(self, batch: Batch) -> None:
        """Read the payloads of a batch while everybody waits; of a few that is no harm."""
        if batch.row is not None:
            self._fill(batch, self._port.fetch(batch.row.ref))

    def look_ahead(self, given: int, upcoming: "Callable[[], Iterator[Entry]]") -> None:
        """Hosts were given so many bytes: read what comes up next, if it is time to."""
        self._left -= given
        if self._left > 0:
            return
        coming = {batch: None for batch in self.near if self.is_sent_for(batch)}
        near, size, refused = coming.copy(), 0, False
        left = self.window - sum(batch.inline for batch in coming)
        for batch, _, _ in islice(upcoming(), ENTRIES_MAX):
            if batch in near or not batch.inline:
                continue
            if size and size + batch.inline > left:  # the first is near, however large it is
                break
            size += batch.inline
            if batch in self._order:
                self._order.move_to_end(batch, last=False)
            elif batch.stored and batch.row is not None:
                self._far.discard(batch)
                if not self.read(batch.row):
                    refused = True  # as long as it is not on its way, this is done again
                    continue
            near[batch] = None
        self.near = near
        if not refused:
            self._left = max(1, min(self.window // LOOK_SHARE, size // 2))

    def on_loaded(self, ref: int, record: Record | None) -> list[Batch]:
        """A record was read back; the batches that had stepped aside until then.

        The caller calls ``settle`` when it has put them back, and looks at ``lost``.
        """
        row, size = self._reading.pop(ref, (None, 0))
        if row is None:
            return []
        self.reading_bytes -= size
        self._left = 0
        here = [batch for batch in row.batches if batch not in self._far]
        for batch in here:
            if batch.stored:
                self._fill(batch, record)
        while self._called:
            batch = next(iter(self._called))
            if batch.stored and batch.row is not None and not self.read(batch.row):
                break
            del self._called[batch]
            if not batch.stored:  # it came by itself
                here.append(batch)
        return here

    def _fill(self, batch: Batch, record: Record | None) -> None:
        if isinstance(record, Submitted):
            for group in record.groups:
                fill(batch, group)
        if any(isinstance(one, Stored) for one in batch.payloads):
            self.lost.append(batch)
            return
        batch.stored = False
        self._left = 0  # it may be near, and what that leaves room for has changed
        self.stored -= 1
        self.stored_bytes -= batch.inline
        self.bytes += batch.inline
        self.read_back += 1
        self._order[batch] = None
        if batch in self.near:
            self._order.move_to_end(batch, last=False)
