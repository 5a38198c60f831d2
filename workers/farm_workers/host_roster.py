"""The workers of a host: started, replaced when they die, given up when they cannot start."""

from dataclasses import dataclass
from typing import NamedTuple

from farm.model import Ending
from farm.protocol.messages import Failure
from farm_workers.host_backlog import Backlog
from farm_workers.host_lease import Lease, Running
from farm_workers.host_slices import EXIT_PIPE, HostPort, HostSettings, signal_name
from farm_workers.host_slots import Slot, SlotState

__all__ = ["Death", "Roster", "Verdict"]

YOUNG_SECONDS = 1.0
"""A worker that dies sooner, with nothing to do, died young: after a few such in a row the next
ones wait for so long, or workers that somebody kills would be started again without a pause."""
UNBLAMED_MAX = 3
"""Workers that may die in a row with no task to blame, before the next in line is blamed."""
ERROR_CHARS_MAX = 64_000
"""Of what a worker says of its initializer; it goes into every task's failure."""
RETIRE_SECONDS = 1.0
"""A worker that was asked to leave and is still there after this long is killed."""
SIGKILL = 9


@dataclass(frozen=True, slots=True)
class Death:
    """What a worker process left behind.

    ``code`` is its exit code, or minus the signal. ``index`` is the ordinal of the last item that
    it began, ``seconds`` for how long. ``error`` is what its initializer said, ``peak_bytes`` the
    most memory it had, ``output`` the end of what was written during that item. ``oom``: the kernel
    has ended it, or a descendant of it, for the memory limit of that item.
    """

    code: int
    index: int | None
    error: str = ""
    seconds: float = 0.0
    peak_bytes: int = 0
    output: bytes = b""
    oom: bool = False


class Verdict(NamedTuple):
    """The task that a dead worker was at, and how that ended it."""

    running: Running
    counter: int
    ending: Ending
    failure: Failure


class Roster:
    """``lends``: tasks wait for others, or did a moment ago.

    There may be more slots then: those with higher numbers, while they have a worker.
    """

    def __init__(self, settings: HostSettings, port: HostPort, now: float) -> None:
        self.slots = [Slot(number) for number in range(settings.slots)]
        self.draining = False
        self.retry_at = float("inf")
        self.lends = False
        self._settings = settings
        self._port = port
        self._failures = 0  # in a row, of workers that were never ready
        self._young = 0
        self._unblamed = 0
        self._error = ""
        self._census: tuple[int, int, bool] | None = None
        self.revive(now)

    def census(self) -> tuple[int, int, bool]:
        """How many slots have workers, how many of these are not stuck, and if any is fenced.

        A slot whose worker is about to start counts; one is fenced while it is being ended.
        """
        if self._census is not None:
            return self._census
        live = free = 0
        fencing = False
        for slot in self.slots:
            if slot.state is not SlotState.EMPTY:
                live += 1
                free += not slot.stuck
                fencing = fencing or slot.fencing
        self._census = live, free, fencing
        return self._census

    def recount(self) -> None:
        """A slot is stuck, fenced or replaced, or no more."""
        self._census = None

    def holding(self, lease: Lease, first: int, stop: int) -> list[tuple[Slot, Running, int, int]]:
        """The parts of ``[first, stop)`` that workers have."""
        found = []
        for slot in self.slots:
            for running in slot.pipe:
                lo, hi = max(first, running.next), min(stop, running.stop)
                if running.lease is lease and lo < hi:
                    found.append((slot, running, lo, hi))
        return found

    def revive(self, now: float) -> None:
        """Start a worker in every empty slot, whatever became of the last."""
        self._failures = self._young = 0
        self.retry_at = float("inf")
        for slot in self.slots:
            if slot.state is SlotState.EMPTY and not self.draining:
                self._spawn(slot.number, now)

    @property
    def may_start(self) -> bool:
        """Whether another worker is likely to start."""
        limit = self._settings.failures_max
        return not (self._leaves or self._failures >= limit or self._young >= limit)

    @property
    def failing(self) -> str:
        """Why workers do not start here, until that is tried again; empty if they do."""
        return "" if self._failures < self._settings.failures_max or self._leaves else self._error

    @property
    def broken(self) -> str:
        """Why nothing can begin here; empty as long as a worker is up or coming up for it.

        One whose task waits for others does not count: it will begin nothing before these.
        """
        if not (why := self.failing):
            return ""
        busy = any(s.state is not SlotState.EMPTY and not s.waiting for s in self.slots)
        return "" if busy else why

    def gives_up(self, depth: int) -> bool:
        """Whether what is so deep is to fail: too many in a row have failed in the initializer.

        While tasks wait here, only what may be what they wait for: then they go on.
        """
        if not (self._settings.has_initializer and self.broken):
            return False
        return bool(depth) or not any(slot.waiting for slot in self.slots)

    @property
    def _leaves(self) -> bool:
        return self.draining and not any(slot.waiting for slot in self.slots)

    def lend(self, now: float) -> None:
        """Start a worker in another slot."""
        empty = [s.number for s in self.slots if s.state is SlotState.EMPTY]
        number = empty[-1] if empty else len(self.slots)
        if number == len(self.slots):
            self.slots.append(Slot(number))
        self._spawn(number, now)

    def ready(self, number: int) -> None:
        """A worker is up: workers do start here. One told to end stays so, whatever it says."""
        if self.slots[number].state is SlotState.STARTING:
            self.slots[number].state = SlotState.READY
        if self._failures < self._settings.failures_max:
            self._failures = 0

    def worked(self) -> None:
        """A worker ended a task."""
        self._unblamed = self._young = 0

    def end(self, slot: Slot, now: float) -> None:
        """Ask a worker to end, and kill it if it takes too long; its slot is busy until then."""
        if self._settings.kill_seconds <= 0:
            self.kill(slot)
        elif slot.state in {SlotState.READY, SlotState.STARTING}:
            slot.state = SlotState.STOPPING
            slot.kill_at = now + self._settings.kill_seconds
            self._port.stop(slot.number)

    def kill(self, slot: Slot) -> None:
        """End a worker by force; its slot is busy until the process is gone."""
        slot.kill_at = float("inf")
        if slot.state not in {SlotState.EMPTY, SlotState.KILLED}:
            slot.state = SlotState.KILLED
            self._port.kill(slot.number)

    def retire(self, slot: Slot, now: float) -> None:
        """Let a worker go that has nothing to do."""
        if self.retired(slot, now):
            self._port.retire(slot.number)

    def retired(self, slot: Slot, now: float) -> bool:
        """A worker leaves; whether that is news."""
        if slot.state is not SlotState.READY:
            return False
        slot.state = SlotState.RETIRED
        slot.leaving = True
        slot.kill_at = now + RETIRE_SECONDS
        return True

    def cut_short(self) -> None:
        """The grace of a drain is over: end what runs, to be given back."""
        for slot in self.slots:
            if slot.pipe:
                slot.cut_short = True
                self.kill(slot)

    def blame(self, slot: Slot, death: Death, backlog: Backlog) -> Verdict | None:
        """The task to blame for the end of a worker; nobody if we wanted it to end."""
        verdict = (
            None
            if slot.fencing or slot.leaving
            else self._blame(slot, death.code, death.index, backlog)
        )
        if verdict is not None:
            verdict.failure.peak_bytes = max(slot.peak_bytes, death.peak_bytes)
            verdict.failure.output = death.output
        return verdict

    def _blame(self, slot: Slot, code: int, index: int | None, backlog: Backlog) -> Verdict | None:
        if slot.cut_short:
            return self._cut(slot, code, index)
        if slot.doom is not None:
            running, counter, ending, failure = slot.doom
            if running.next > counter:
                return None  # it ended after all, and the next one is innocent
            failure.code = code
            return Verdict(running, counter, ending, failure)
        found = None if index is None else slot.find(index)
        if found is None and slot.pipe:
            self._unblamed += 1
            if self._unblamed >= UNBLAMED_MAX:
                found = slot.pipe[0], slot.pipe[0].next
        if found is None:
            return None
        self._unblamed = 0
        name = backlog.function(found[0].part.function)[0]
        return Verdict(*found, Ending.LOST, self._failure(code, name))

    def _cut(self, slot: Slot, code: int, index: int | None) -> Verdict | None:
        """Nobody pays for a drain, but what must not run twice cannot be given back."""
        found = None if index is None else slot.find(index)
        if found is None or not found[0].part.alone:
            return None
        text = "its host was drained and it did not end in time; it must not run twice"
        return Verdict(*found, Ending.LOST, Failure("drained", text, self._settings.name, code))

    def replace(self, slot: Slot, death: Death, now: float) -> None:
        """A worker is gone: start another, unless too many in a row failed to start.

        Only one that was never ready failed to start. Whatever ends one later is no fault of the
        initializer, and no reason to believe that the next one will not start. It is tried again
        later; but if no worker at all has got past the initializer, the farm hears of that.
        """
        self.slots[slot.number] = Slot(slot.number)
        self.recount()
        while len(self.slots) > self._settings.slots and self.slots[-1].state is SlotState.EMPTY:
            self.slots.pop()
        if slot.state is SlotState.STARTING:
            self._failures += 1
            error = death.error[:ERROR_CHARS_MAX]
            self._error = error or f"a worker {_how(death.code)} before it was ready"
        elif _died_young(slot, now):
            self._young += 1
        if self.draining:
            return
        limit = self._settings.failures_max
        if self._failures >= limit:
            later = self.census()[0] or not self._settings.has_initializer
            self.retry_at = min(self.retry_at, now + self._settings.retry_seconds)
            self.retry_at = self.retry_at if later else float("inf")
        elif self._young >= limit:
            self.retry_at = min(self.retry_at, now + YOUNG_SECONDS)
        elif slot.number < self._settings.slots:
            self._spawn(slot.number, now)

    def _spawn(self, number: int, now: float) -> None:
        slot = self.slots[number] = Slot(number)
        self.recount()
        slot.state = SlotState.STARTING
        slot.spawned = now
        self._port.spawn(number)

    def _failure(self, code: int, function: str) -> Failure:
        host = self._settings.name
        text = f"its worker on host {host} {_how(code)} while running {function or 'it'}"
        if code == -SIGKILL:
            text += " (somebody's kill -9, or the system was out of memory)"
        elif code == EXIT_PIPE:
            text += " (it had closed the worker's pipe to the agent)"
        return Failure("signal" if code < 0 else "exit", text, host, code)


def _died_young(slot: Slot, now: float) -> bool:
    return (
        slot.state is SlotState.READY
        and not slot.worked
        and not slot.pipe
        and now < slot.spawned + YOUNG_SECONDS
    )


def _how(code: int) -> str:
    return f"was killed by {signal_name(-code)}" if code < 0 else f"exited with code {code}"
