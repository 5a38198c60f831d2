"""What a host has to tell, gathered into numbered reports and kept until it is noted.

Bounded by the leases that the host may hold, which its window bounds; the window in turn counts
what is kept here. Payloads are never looked into and never copied.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from farm.model import BLOB_BYTES, Blob, Ending, Payload
from farm.protocol.messages import (
    BATCH_BYTES,
    TASKS_PER_MESSAGE_MAX,
    Ended,
    Failure,
    Report,
)
from farm_workers.host_lease import Lease
from farm_workers.host_slices import Key

__all__ = ["Reports"]

FLYING_MAX = 64
"""Reports sent and not yet noted; more wait, so that neither side's socket fills."""
FLYING_BYTES_MAX = 32 << 20
"""And so many bytes; of blobs only names are on the way."""

PROGRESS_MAX = 1024
NOTE_CHARS_MAX = 1_000
"""What tasks say of themselves between two reports: so many, and so much each."""

SMALL_RUNS = 32
SMALL_BYTES = 1 << 16
"""A report below both may wait a little for more."""

Line = tuple[int, int, int, int]
"""``(epoch, lease, first, count)``."""


class _Kept(NamedTuple):
    """A report until it is noted, without what is news only once.

    ``size`` is that of the ends, of which ``inline`` are not in blobs.
    """

    number: int
    ended: list[Ended]
    started: list[Line]
    returned: list[Line]
    size: int
    inline: int


class Reports:
    """``units`` and ``bytes`` count the outcomes kept, sent or not.

    What a packed task says in one payload is one unit.
    """

    def __init__(self) -> None:
        self.units = 0
        self.bytes = 0
        self._number = 0
        self._kept: deque[_Kept] = deque()
        self._flying = 0  # how many of the kept reports this connection has carried
        self._flying_bytes = 0
        self._ended: deque[Ended] = deque()
        self._returned: list[Line] = []
        self._started: list[Line] = []
        # The last word of each running task.
        self._progress: dict[tuple[Key, int], tuple[float, float, str]] = {}

    @property
    def has_room(self) -> bool:
        """Whether another report may leave before one is noted."""
        return self._flying < FLYING_MAX and self._flying_bytes < FLYING_BYTES_MAX

    @property
    def waiting(self) -> bool:
        """Whether a flush would send something."""
        return bool(self._fresh or self._flying < len(self._kept)) and self.has_room

    @property
    def has_ends(self) -> bool:
        """Whether tasks have ended of which no report says so."""
        return bool(self._ended)

    @property
    def _fresh(self) -> bool:
        """Whether there is anything for a new report."""
        return bool(self._ended or self._returned or self._started or self._progress)

    @property
    def is_small(self) -> bool:
        """Whether what is to be said is little, new, and nothing that anybody waits for."""
        return (
            not self._returned
            and self._flying == len(self._kept)
            and len(self._ended) < SMALL_RUNS
            and sum(ended.size for ended in self._ended) < SMALL_BYTES
        )

    @property
    def empty(self) -> bool:
        """Whether everything has been said and noted."""
        return not (self._kept or self._ended or self._returned or self._started)

    @property
    def holds_fates(self) -> bool:
        """Whether it keeps anything of what became of tasks."""
        kept = any(report.ended or report.returned for report in self._kept)
        return kept or bool(self._ended or self._returned)

    def end(  # noqa: PLR0913 - an outcome has that many sides
        self,
        lease: Lease,
        run: tuple[int, int],
        ending: Ending,
        payloads: list[Payload],
        *,
        packed: bool = False,
        seconds: float = 0.0,
        failure: Failure | None = None,
        output: bytes = b"",
    ) -> None:
        """The tasks ``[first, stop)`` ended alike."""
        first, stop = run
        lease.finish(stop - first)
        size = sum(map(len, payloads))
        self.units += 1 if packed else stop - first
        self.bytes += size + len(output)
        epoch, number = lease.key
        attempt = lease.grant.attempt
        if self._started:  # that they have begun is no news any more
            self._started = [
                line
                for line in self._started
                if line[:2] != lease.key or line[2] < first or line[2] + line[3] > stop
            ]
        if size > BATCH_BYTES and len(payloads) > 1:
            share = seconds / len(payloads)
            for counter, data in enumerate(payloads, first):
                self._ended.append(
                    Ended(
                        epoch, number, attempt, counter, 1, ending, [data], len(data), False, share
                    )
                )
            self._ended[-1].output = output
            return
        if self._ended and payloads and not packed and failure is None and not output:
            last = self._ended[-1]
            if (
                (last.epoch, last.lease, last.ending) == (epoch, number, ending)
                and last.first + last.count == first
                and last.payloads
                and not last.packed
                and last.failure is None
                and not last.output
                and last.count + stop - first <= TASKS_PER_MESSAGE_MAX
                and last.size + size <= BATCH_BYTES
            ):
                last.count += stop - first
                last.payloads += payloads
                last.size += size
                last.seconds += seconds
                return
        count = stop - first
        ended = Ended(epoch, number, attempt, first, count, ending, payloads, size, packed, seconds)
        ended.output = output
        if failure is not None:
            failure.attempt, failure.seconds = attempt, seconds / count
            ended.failure = failure
            self.bytes += failure.weight
        self._ended.append(ended)

    def give_back(self, lease: Lease, first: int, stop: int) -> None:
        """These tasks will not run here."""
        if first < stop:
            lease.finish(stop - first)
            self.units += stop - first
            self._returned.append((*lease.key, first, stop - first))

    def begin(self, lease: Lease, first: int, stop: int) -> None:
        """A worker has these tasks."""
        if first < stop:
            self._started.append((*lease.key, first, stop - first))

    def progress(self, key: Key, counter: int, note: tuple[float, float, str]) -> None:
        """A running task says how far it is."""
        if len(self._progress) < PROGRESS_MAX or (key, counter) in self._progress:
            done, total, text = note
            self._progress[key, counter] = done, total, text[:NOTE_CHARS_MAX]

    def flush(self, window: int, send: Callable[[Report], None], *, always: bool = False) -> bool:
        """Send what there is; ``always``: also when there is nothing but the window to say.

        Returns whether a report left.
        """
        sent = False
        while self._flying < len(self._kept) and self.has_room:
            self._send(self._kept[self._flying], window, send)
            sent = True
        while (self._fresh or (always and not sent)) and self.has_room:
            self._number += 1
            ended, size = self._take()
            inline = size - sum(map(_blob_bytes, ended))
            kept = _Kept(self._number, ended, self._started, self._returned, size, inline)
            self._kept.append(kept)
            # Progress is not worth saying twice.
            notes = [(*key, counter, *note) for (key, counter), note in self._progress.items()]
            self._started, self._returned, self._progress = [], [], {}
            self._send(kept, window, send, notes)
            sent = True
        return sent

    def connected(self) -> None:
        """A new connection: all that is kept will be sent again."""
        self._flying = self._flying_bytes = 0

    def noted(self, number: int) -> list[tuple[Key, int]]:
        """Forget the reports up to this number; returns how many tasks of which leases."""
        gone: list[tuple[Key, int]] = []
        while self._kept and self._kept[0].number <= number:
            report = self._kept.popleft()
            if self._flying:
                self._flying -= 1
                self._flying_bytes -= report.inline
            self.bytes -= report.size
            self.units -= sum(1 if ended.packed else ended.count for ended in report.ended)
            self.units -= sum(count for _, _, _, count in report.returned)
            gone += [((ended.epoch, ended.lease), ended.count) for ended in report.ended]
            gone += [((epoch, lease), count) for epoch, lease, _, count in report.returned]
        return gone

    def held(self) -> Iterator[tuple[Key, int, int, bool]]:
        """``(key, first, count, began)`` of everything that is kept."""
        for report in self._kept:
            yield from _lines(report.ended, report.returned)
        yield from _lines(self._ended, self._returned)

    def _send(
        self,
        kept: _Kept,
        window: int,
        send: Callable[[Report], None],
        notes: Sequence[tuple[int, int, int, float, float, str]] = (),
    ) -> None:
        self._flying += 1
        self._flying_bytes += kept.inline
        send(Report(kept.number, window, kept.ended, kept.started, kept.returned, list(notes)))

    def _take(self) -> tuple[list[Ended], int]:
        """As much of what ended as fits in one message, and its size."""
        taken: list[Ended] = []
        payloads = size = 0
        while self._ended:
            ended = self._ended[0]
            payloads += len(ended.payloads) or 1
            weight = _weight(ended)
            if taken and (payloads > TASKS_PER_MESSAGE_MAX or size + weight > BATCH_BYTES):
                break
            size += weight
            taken.append(self._ended.popleft())
        return taken, size


def _weight(ended: Ended) -> int:
    return ended.size + len(ended.output) + (ended.failure.weight if ended.failure else 0)


def _blob_bytes(ended: Ended) -> int:
    if ended.size < BLOB_BYTES:
        return 0
    return sum(len(payload) for payload in ended.payloads if isinstance(payload, Blob))


def _lines(
    ended: list[Ended] | deque[Ended], returned: list[Line]
) -> Iterator[tuple[Key, int, int, bool]]:
    for end in ended:
        yield (end.epoch, end.lease), end.first, end.count, True
    for epoch, lease, first, count in returned:
        yield (epoch, lease), first, count, False
