"""A simulated worker process: runs what its host gives it, item by item, and may die."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from farm.model import Blob, Ending, is_final
from farm.protocol.messages import Failure
from tests.sim import work
from tests.sim.checks_limits import ERROR_NAMES, WorkerLimits
from tests.sim.checks_nested import may_begin
from tests.sim.checks_work import began
from tests.sim.nested import Waits
from tests.sim.truth import Execution, Violation
from tests.sim.work import PRINTED, Work

if TYPE_CHECKING:
    from collections.abc import Callable

    from farm_workers.host_slices import Slice, SliceEnd
    from tests.sim.host import HostProcess

__all__ = ["Worker"]

FLUSH_SECONDS = 0.005
KILLED = -9
TERMINATED = -15
SMALL, LARGE = 20, 200
"""The memory of a worker, by what it runs."""
PRINTS = 0.2
"""The share of tasks that print something."""
PROGRESS = 0.1
"""The share of tasks that say half-way how far they are."""


class Worker:
    """One process in one slot of a host."""

    def __init__(self, host: HostProcess, slot: int) -> None:
        self.host = host
        self.slot = slot
        self.alive = True
        self.ready = False
        self.ordinal: int | None = None  # as in its shared page
        self.functions: set[bytes] = set()
        self.memory = SMALL
        self.oom = False  # the kernel ended something here, which the agent has not seen
        self.limits = WorkerLimits(self)
        self.waits = Waits(self)
        self._items: deque[tuple[Slice, int]] = deque()
        self._execution: Execution | None = None
        self._at: tuple[Slice, int] | None = None  # the item of it
        self._ends: list[SliceEnd] = []
        self._flush_due = False
        self._limit = 0
        self._fresh = True
        self._sent = 0.0  # when the last message to the host arrives
        self._heard = 0.0

    # ------------------------------------------------------------ the pipe

    def tell(self, action: str, *arguments: object) -> None:
        """The host writes to the pipe; it arrives a little later, in order."""
        clock = self.host.world.clock
        delay = self.host.world.chance.uniform(0.00002, 0.0005)
        self._heard = max(self._heard, clock.now + delay)
        clock.at(self._heard, self._on, action, arguments)

    def _on(self, action: str, arguments: tuple[object, ...]) -> None:
        if self.alive:
            getattr(self, action)(*arguments)

    def _say(self, *arguments: object) -> None:
        self._say_later(self.host.heard, self, *arguments)

    def _say_later(self, heard: Callable[..., None], *arguments: object) -> None:
        """Everything arrives in order, what is found out about the process included."""
        clock = self.host.world.clock
        delay = self.host.world.chance.uniform(0.00002, 0.0005)
        self._sent = max(self._sent, clock.now + delay)
        clock.at(self._sent, heard, *arguments)

    def start(self) -> None:
        """The interpreter is up, if it can be."""
        if self.alive and self.host.is_spoiled:
            self.die(1)
        elif self.alive:
            self.ready = True
            self._say("ready")
            if self.host.is_weak:
                clock, chance = self.host.world.clock, self.host.world.chance
                clock.after(chance.uniform(0.001, 0.05), self.die, KILLED)

    def die(self, code: int) -> None:
        """The process ends; what it had not written to its pipe is gone."""
        if not self.alive:
            return
        self.alive = False
        self.waits.die()
        if self._execution is not None and not self._execution.ended:
            self._execution.ended = "died"
        self._say("exit", code, self.ordinal)

    # ------------------------------------------------------------ what the host says

    def function(self, key: bytes) -> None:
        self.functions.add(key)

    def stop(self) -> None:
        """SIGTERM: most processes end, now or in a while, and some do not care."""
        chance = self.host.world.chance
        if chance.random() < 0.7:
            self.host.world.clock.after(chance.uniform(0.0, 0.4), self.die, TERMINATED)

    def leave(self) -> None:
        """The end of the pipe."""
        if self._execution is not None or any(p.offset + i >= self._limit for p, i in self._items):
            raise Violation("recycling", f"{self.host.name} lets a worker go that has work")
        self.host.world.clock.after(0.001, self.die, 0)

    @property
    def running(self) -> tuple[Slice, int, Execution] | None:
        """The slice and counter of what it runs."""
        if self._execution is None or self._at is None:
            return None
        part, i = self._at
        return part, part.first + i, self._execution

    def interrupt(self, ordinal: int) -> None:
        """The signal of a stop: most tasks clean up and end, and some do not care."""
        chance = self.host.world.chance
        if self.alive and self._execution is not None and self.ordinal == ordinal:
            self.host.world.stats["interrupts"] += 1
            if chance.random() < 0.6:
                delay = chance.uniform(0.0, 0.3)
                self.host.world.clock.after(delay, self._clean, self._execution)

    def _clean(self, execution: Execution) -> None:
        """A task lets the exception out by which it was stopped."""
        if not self.alive or self._execution is not execution or self._at is None:
            return
        part, i = self._at
        self._over(part, i, execution, "stopped", Ending.EXCEPTION)

    def weigh(self) -> None:
        """The agent looks at the memory of the process."""
        self._say_later(self.weighed, self.memory)

    def weighed(self, memory: int) -> None:
        """It has found out, and mostly nothing comes of it."""
        self.host.heard(self, "memory", memory)

    def run(self, part: Slice) -> None:
        self.limits.given(part)
        self._items.extend((part, i) for i in range(part.count))
        if self._execution is None:
            self._begin()

    def retire(self, part: Slice) -> None:
        """It is no place for this slice, of which nothing has begun."""
        self._say("retired")
        self.ordinal = part.offset  # it was looked at, as its page says
        self._items.clear()
        end = part.end(part.first, part.count, Ending.CANCELLED, [])
        self._ends.append(end)
        self.flush()
        self.die(0)

    def limit(self, ordinal: int) -> None:
        """Begin nothing below this ordinal any more."""
        self._limit = max(self._limit, ordinal)
        self._say("limited", ordinal, self.ordinal)
        if self._execution is None:
            self._begin()

    # ------------------------------------------------------------ running

    def _begin(self) -> None:
        while self._items:
            part, i = self._items.popleft()
            if i == 0 and part.offset >= self._limit and self._is_stale():
                self.retire(part)
                return
            if part.offset + i >= self._limit:
                self._run(part, i)
                return
            self._end(part, i, Ending.CANCELLED, [])
        self.flush()

    def _is_stale(self) -> bool:
        """Whether it has imported what was edited since: a new process never has."""
        fresh, self._fresh = self._fresh, False
        share = self.host.world.plan.stale
        return not fresh and share > 0 and self.host.world.chance.random() < share

    def _run(self, part: Slice, i: int) -> None:
        if part.function not in self.functions:
            raise Violation("function", f"{self.host.name} runs what its worker never got")
        self.ordinal = part.offset + i
        task = self.host.world.truth.tasks[part.session, part.first + i]
        self._check_blob(part, i)
        data = work.content(part.payloads[0 if part.packed else i])
        payload = work.split(data)[part.start + i] if part.packed else data
        if payload != task.work:
            raise Violation("payload", f"{task.name} runs with {payload!r}, not {task.work!r}")
        clock = self.host.world.clock
        execution = Execution(self.host.name, part.key[0], part.attempt, clock.now)
        task.executions.append(execution)
        self._execution = execution
        self._at = part, i
        began(self.host.world, task, execution)
        may_begin(self.host)
        self.host.world.checks.resources.began(self.host, task)
        does = work.parse(payload)
        self.limits.begins()
        grows = does.kind == "hog" and len(task.executions) <= does.times
        self.memory = LARGE if grows else SMALL
        fuse = self.host.world.plan.fuse if part.memory_limit is not None and grows else 0.0
        if fuse and self.host.world.chance.random() < fuse:
            delay = self.host.world.chance.uniform(0.0, 0.05)
            clock.after(min(delay, does.seconds), self._burst, execution)
        if self.host.world.chance.random() < PROGRESS:
            note = (part.key, part.first + i, (1.0, 2.0, "half"))
            clock.after(does.seconds / 2, self._tell_progress, execution, note)
        clock.after(does.seconds, self._done, execution, does, len(task.executions))

    def _burst(self, execution: Execution) -> None:
        """The kernel ends the worker for the memory of its task, or only what that has started."""
        if self.alive and self._execution is execution:
            self.host.world.stats["bursts"] += 1
            self.oom = execution.burst = True
            if self.host.world.chance.random() < 0.5:
                self.die(KILLED)

    def _check_blob(self, part: Slice, i: int) -> None:
        """What the task is to read must be there, as long as the coordinator knows of the lease."""
        payload, coordinator = part.payloads[0 if part.packed else i], self.host.world.coordinator
        if not isinstance(payload, Blob) or coordinator is None:
            return
        for host in coordinator.machine.ledger.hosts.all.values():
            lease = host.leases.get(tuple(part.key))
            if lease is not None:
                at = part.first + i - lease.batch.first
                if list(lease.live_in(at, at + 1)):
                    self.host.world.files.require(payload.name)

    def _tell_progress(self, execution: Execution, note: tuple[object, ...]) -> None:
        if self.alive and self._execution is execution:
            self._say("progress", *note)

    def _done(self, execution: Execution, does: Work, times: int) -> None:
        if not self.alive or self._execution is not execution or self._at is None:
            return
        part, i = self._at
        if does.kind == "wait" and self.waits.begin(part, i, execution, does.times):
            self.flush()
            self._say("waits", part.offset + i, True)
            self.waits.over(lambda: self._go_on(part, i, execution))
            return
        self.limits.ends(part, execution)
        if does.kind == "die" and times <= does.times:
            self.die(KILLED)
            return
        if does.kind == "raise" and times <= does.times:
            self._over(part, i, execution, "raised", Ending.EXCEPTION)
        else:
            self._over(part, i, execution, "ok", Ending.OK)

    def _go_on(self, part: Slice, i: int, execution: Execution) -> None:
        """What a task has waited for is over, and so is the task a little later."""
        self._say("waits", part.offset + i, False)
        delay = self.host.world.nested_chance.choice((0.0, 0.01))
        does = Work("ok", 0.0, 0)
        self.host.world.clock.after(delay, self._done, execution, does, len("ok"))

    def _over(self, part: Slice, i: int, execution: Execution, how: str, ending: Ending) -> None:
        """An item has ended, and the next one begins, unless the kernel has ended a part of it."""
        if execution.burst:
            self.die(KILLED)
            return
        self._execution = None
        self.waits.stop()
        execution.ended = how
        value = work.value((part.session, part.first + i), part.key[0], part.attempt)
        self._end(part, i, ending, [value], self.host.world.clock.now - execution.began)
        if part.alone:
            self.flush()
        self._begin()
        if self._ends and not self._flush_due:
            self._flush_due = True
            self.host.world.clock.after(FLUSH_SECONDS, self.flush)

    def _end(
        self, part: Slice, i: int, ending: Ending, values: list[bytes], seconds: float = 0.0
    ) -> None:
        last = self._ends[-1] if self._ends else None
        packed = part.packed and ending is Ending.OK
        if (
            last is not None
            and last.key == part.key
            and last.first + last.count == part.first + i
            and last.ending is ending
            and ending is not Ending.EXCEPTION
            and i  # a slice ends for itself
        ):
            last.count += 1
            last.seconds += seconds
            last.payloads = (
                [work.join([*last.payloads, *values])] if packed else last.payloads + values
            )
            return
        failure = None
        if ending is Ending.EXCEPTION:
            failure = Failure("exception", "no", type_name="ValueError")
            failure.traceback = "Traceback"
            failure.final = is_final(ERROR_NAMES, part.retry_on, part.never_on)
        end = part.end(
            part.first + i, 1, ending, values, packed=packed, seconds=seconds, failure=failure
        )
        if self.host.world.chance.random() < PRINTS:  # as the agent, which reads it, would add it
            if failure is not None:
                failure.output = PRINTED
            elif ending is Ending.OK:
                end.output = PRINTED
        self._ends.append(end)
        if part.limited:
            self.flush()

    def flush(self) -> None:
        """What ended is written to the pipe, every few milliseconds and when nothing is left."""
        self._flush_due = False
        if self._ends and self.alive:
            ends, self._ends = self._ends, []
            write, shares = self.host.world.files.write, self.host.shares
            for end in ends:
                end.payloads = [write(work.content(p), shares=shares) for p in end.payloads]
            self._say("ended", ends)
