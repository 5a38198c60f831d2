"""What a task may use and what a worker may come to: limits, and the end of whoever passes them.

A task over a limit is ended with its worker and all that this has started: they are told to end,
and after a grace period killed; the slot is busy until all of them are gone. A worker that has run
enough tasks, or grown too large, is asked to leave as soon as it has nothing to do.
"""

from typing import NamedTuple

from farm.model import Ending, is_final
from farm.protocol.messages import Failure
from farm_workers.host_lease import Running
from farm_workers.host_roster import Roster
from farm_workers.host_slices import HostPort, HostSettings
from farm_workers.host_slots import Doom, Slot, SlotState, Stop

__all__ = ["Limits"]

SAMPLE_SECONDS = 0.1
"""How often the memory of a worker is measured while it runs a task with a limit."""
WEIGH_SECONDS = 0.5
"""And while it works, if workers may only grow so large."""
EXCUSED_SECONDS = 1.0
"""How long workers have to say that a task is over, once they are heard again."""
BEGIN_SECONDS = 10.0
"""What a worker has not begun so long after its time limit, it never will."""
NEVER = float("inf")
MIB = 1 << 20


class _Limit(NamedTuple):
    ending: Ending
    names: tuple[str, ...]
    """Of the exception that clients see, and its bases: what ``retry_on`` may name."""


_BASES = ("farm.errors.FarmError", "Exception", "BaseException")
_TIME = _Limit(Ending.TIME_LIMIT, ("farm.errors.TimeLimitExceeded", *_BASES))
_MEMORY = _Limit(Ending.MEMORY_LIMIT, ("farm.errors.MemoryLimitExceeded", *_BASES))


class Limits:
    """Watches the workers of a roster."""

    def __init__(self, settings: HostSettings, port: HostPort, roster: Roster) -> None:
        self._settings = settings
        self._port = port
        self._roster = roster

    # ------------------------------------------------------------ events

    def given(self, slot: Slot, now: float) -> None:
        """A worker was given a slice."""
        most = self._settings.max_tasks_per_worker
        slot.worn = slot.worn or bool(most and slot.taken >= most)
        if len(slot.pipe) == 1:
            self._begun(slot, now)

    def _begun(self, slot: Slot, now: float) -> None:
        """A worker begins another item: measure it soon, if that matters."""
        slot.peak_bytes = 0
        if slot.pipe and slot.pipe[0].part.memory_limit is not None:
            slot.measure_at = now + SAMPLE_SECONDS
        elif self._settings.max_memory_per_worker:
            slot.measure_at = min(slot.measure_at, now + WEIGH_SECONDS)
        else:
            slot.measure_at = NEVER

    def measured(self, slot: Slot, size: int, now: float) -> None:
        """A worker and its descendants have so much memory of their own."""
        if slot.state is not SlotState.READY:
            return
        slot.peak_bytes = max(slot.peak_bytes, size)
        # If it has begun another item since that was asked, the memory may be of the one before.
        head = slot.pipe[0] if slot.pipe and slot.measure_at == NEVER else None
        limit = head.part.memory_limit if head else None
        if head is not None and limit is not None:
            slot.measure_at = now + SAMPLE_SECONDS
            if size > limit and self._ran(slot, now):  # else its worker may be about to retire
                text = (
                    f"it used {size / MIB:,.1f} MiB of memory, more than its limit of"
                    f" {limit / MIB:,.1f} MiB, and was ended"
                )
                slot.doom = self._doom(head, head.next, _MEMORY, "memory_limit", text)
                self._roster.end(slot, now)
        most = self._settings.max_memory_per_worker
        if most and size > most and slot.worked:
            slot.worn = True
            self.relieve(slot, now)

    def burst(self, slot: Slot, ordinal: int | None, now: float) -> None:
        """The kernel has ended a descendant of a worker for the limit of the item it is at."""
        if slot.state is SlotState.READY and self.convict(slot, ordinal):
            self._roster.end(slot, now)

    def convict(self, slot: Slot, ordinal: int | None) -> bool:
        """The item with this ordinal has passed its memory limit, as the kernel found."""
        found = None if ordinal is None else slot.find(ordinal)
        limit = found[0].part.memory_limit if found else None
        if found is None or limit is None or slot.doom is not None:
            return False
        slot.peak_bytes = max(slot.peak_bytes, limit)
        text = (
            f"it came to more than its memory limit of {limit / MIB:,.1f} MiB faster than that is"
            " measured, and the system ended it or something that it had started"
        )
        slot.doom = self._doom(*found, _MEMORY, "memory_limit", text)
        return True

    def ended(self, slot: Slot, now: float) -> None:
        """A worker has ended something."""
        doom = slot.doom
        if slot.stop is not None and slot.stop.is_over:
            slot.stop = None
        if doom is not None and doom.running.next > doom.counter:
            self._roster.kill(slot)  # it came to an end after all, but not its worker
            return
        self._begun(slot, now)
        self.relieve(slot, now)

    def stop(self, slot: Slot, running: Running, counter: int, now: float) -> None:
        """The item that a worker is at is to end: by an exception, and if not, with its worker.

        One that is to end as soon already has been told, and is left to it.
        """
        if slot.state is not SlotState.READY:
            return  # it ends with its worker
        until, told = now + running.lease.stopping[counter], slot.stop
        again = told is not None and told.counter == counter and told.running is running
        if told is not None and again and told.until <= until:
            return
        slot.stop = Stop(running, counter, until)
        if until > now:
            self._port.interrupt(slot.number, running.part.offset + counter - running.part.first)
        else:
            self._end_stopped(slot, now)

    def _end_stopped(self, slot: Slot, now: float) -> None:
        """The grace of a stop is over."""
        stop, slot.stop = slot.stop, None
        if stop is not None and not stop.is_over:
            grace = stop.running.lease.stopping[stop.counter]
            text = f"it was stopped, and ended with its worker after {grace:g} s of grace"
            failure = Failure("stopped", text, self._settings.name)
            slot.doom = Doom(stop.running, stop.counter, Ending.CANCELLED, failure)
            self._roster.end(slot, now)

    def relieve(self, slot: Slot, now: float) -> None:
        """A worker that is worn out leaves as soon as it has nothing to do."""
        if slot.worn and not slot.pipe:
            self._roster.retire(slot, now)

    def room(self, slot: Slot) -> int:
        """How many more tasks a worker may take."""
        most = self._settings.max_tasks_per_worker
        return max(1, most - slot.taken) if most else 1 << 30

    # ------------------------------------------------------------ time

    def tick(self, slot: Slot, now: float) -> None:
        """Whatever is due of one slot."""
        if now >= slot.deadline and slot.state is SlotState.READY:
            self._end_if_over(slot, now)
        if slot.stop is not None and now >= slot.stop.until and slot.state is SlotState.READY:
            self._end_stopped(slot, now)
        if now >= slot.measure_at:
            slot.measure_at = NEVER
            if slot.state is SlotState.READY and (least := self._least(slot)):
                self._port.measure(slot.number, least)  # else what had a limit was taken back
        if now >= slot.kill_at:
            self._roster.kill(slot)

    def _end_if_over(self, slot: Slot, now: float) -> None:
        """The time of an item is over since it was given to its worker; it began somewhat later."""
        head, limit = slot.pipe[0], slot.pipe[0].part.time_limit or 0.0
        left = limit - self._ran(slot, now)
        if left > 0 and now < slot.moved + limit + BEGIN_SECONDS:
            slot.deadline = now + left
            return
        text = f"it ran longer than its time limit of {limit} s and was ended"
        slot.doom = self._doom(head, head.next, _TIME, "time_limit", text)
        self._roster.end(slot, now)

    def _ran(self, slot: Slot, now: float) -> float:
        """For how long the first in a pipe has run; 0 if its worker has not begun it."""
        head = slot.pipe[0]
        return self._port.ran(slot.number, head.part.offset + head.next - head.part.first, now)

    def excuse(self, now: float) -> None:
        """Workers are not heard at the moment: what they run may be over already."""
        for slot in self._roster.slots:
            slot.deadline = max(slot.deadline, now + EXCUSED_SECONDS)

    def _least(self, slot: Slot) -> int:
        """The memory of a worker from which on something would be done about it."""
        limits = [self._settings.max_memory_per_worker]
        limits += [running.part.memory_limit or 0 for running in slot.pipe]
        return min(filter(None, limits), default=0)

    def _doom(self, running: Running, counter: int, limit: _Limit, cause: str, text: str) -> Doom:
        part = running.part
        failure = Failure(cause, text, self._settings.name)
        failure.final = is_final(limit.names, part.retry_on, part.never_on)
        return Doom(running, counter, limit.ending, failure)
