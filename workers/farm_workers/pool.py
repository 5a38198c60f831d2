"""The worker processes of an agent: their channels, pages, output and memory.

Promises: a slot's exit is told once, after everything that its worker said; a fork server that
dies is replaced, and its workers are gone before their slots are used again.
"""

import contextlib
import logging
import os
import socket
from contextlib import ExitStack
from functools import partial

import msgspec

from farm.blobs import Blobs
from farm_workers.channel import (
    TURN_BYTES,
    Channel,
    Ends,
    Failed,
    Note,
    Ready,
    Retired,
    Setup,
    ToWorker,
    Waits,
)
from farm_workers.files import WorkerFiles
from farm_workers.forklink import ForkLink
from farm_workers.forkstart import EXIT_FORK, Ask, ForkServer
from farm_workers.fuses import Fuses
from farm_workers.host_roster import Death
from farm_workers.host_slices import TRACEBACK_CHARS_MAX, Slice, SliceEnd
from farm_workers.memory import tree_bytes
from farm_workers.output import POLLIN, TAIL_BYTES, Outputs, Poller
from farm_workers.page import SETTLE_SECONDS, Page
from farm_workers.pool_events import PoolEvents
from farm_workers.stacks import Stacks
from farm_workers.upload_folder import UploadFolder

__all__ = ["Pool"]

logger = logging.getLogger("farm.host")

LEAVE_SECONDS = 0.5
"""How long idle workers have to end by themselves when the pool closes."""
PATIENCE_SECONDS = 0.2
"""How long a worker that has closed its pipe has to end by itself."""
PIPE_BYTES = 1 << 20
"""What a socket to a worker should buffer; the system may allow less."""
MESSAGE_CHARS_MAX = 4_000
POLLOUT = 2
NEVER = float("inf")


class _Worker:
    """One process, from the request for it to its confirmed exit."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.error = ""
        self.wanted = True  # nobody has asked it to end
        self.files = WorkerFiles()
        self.watched = 0  # the events polled for
        self.ask_at = NEVER  # when to look at its page, after a limit
        self.kill_at = NEVER


class Pool:
    """Slots and their workers.

    Call ``on_event`` for each descriptor that the poller names, ``on_time`` in each turn that is
    not before ``due``, and ``watch`` at the end of a turn.
    """

    def __init__(
        self, slots: int, setup: Setup, server: ForkServer, poller: Poller, fuses: Fuses
    ) -> None:
        self.outputs = Outputs(poller)
        self._stacks = Stacks(poller)
        self._setup = setup
        self.fuses = fuses
        self.uploads = UploadFolder(setup.uploads)
        self._poller = poller
        self._link = ForkLink(server, poller)
        self._workers: dict[int, _Worker] = {}  # by slot
        self._slots: dict[int, int] = {}  # by the descriptor of the worker's channel
        self._pages = [Page.create() for _ in range(slots)]  # more when more slots are lent
        self._unborn: dict[int, str] = {}  # slots whose workers could not be started, and why
        self._unwatched: set[int] = set()  # slots whose channels are new, behind or deaf
        self._questions: list[tuple[int, int, str, int]] = []  # slot, number, what, since
        self._weighed: dict[int, int] = {}  # slots to be measured, and what would be too much
        self._blobs: Blobs | None = None
        self._listening = True
        self._care_at = NEVER  # when a worker is to be looked after, at the earliest
        self.due = 0.0

    # ------------------------------------------------------------ what the host machine wants

    def spawn(self, slot: int) -> None:
        """Start a worker; if that is impossible, its exit is told in its turn."""
        try:
            self._spawn(slot)
        except OSError as error:  # there are no descriptors, or no processes, to be had
            self._unborn[slot] = f"a worker cannot be started: {error}"
            self.due = 0.0

    def _spawn(self, slot: int) -> None:
        while slot >= len(self._pages):
            self._pages.append(Page.create())
        page = self._pages[slot]
        page.clear()
        ours, theirs, *fds = self._open(slot)
        with ExitStack() as given:
            given.enter_context(theirs)
            for fd in fds:
                given.callback(os.close, fd)
            self._workers[slot] = _Worker(Channel(ours))
            self._slots[ours.fileno()] = slot
            self._unwatched.add(slot)
            setup = msgspec.structs.replace(self._setup, uploads=self.uploads.slot(slot))
            self.put(slot, self.fuses.setup(slot, setup))
            if self._blobs is not None:
                self.put(slot, self._workers[slot].files.use(self._blobs))
            self._link.spawn(slot, [theirs.fileno(), page.fd, *fds])

    def _open(self, slot: int) -> tuple[socket.socket, socket.socket, int, int, int]:
        """Both ends of the channel of a new worker, and its ends of what it writes to."""
        with ExitStack() as undo:
            ours, theirs = map(undo.enter_context, socket.socketpair())
            for end in (ours, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PIPE_BYTES)
            out, err = self.outputs.open(slot)
            undo.callback(self.outputs.close, slot)
            undo.callback(os.close, out)
            undo.callback(os.close, err)
            stacks = self._stacks.open(slot)
            undo.pop_all()
            return ours, theirs, out, err, stacks

    def stop(self, slot: int) -> None:
        """Ask a worker and its descendants to end."""
        self._workers[slot].wanted = False
        self._link.ask(Ask.STOP, slot)

    def kill(self, slot: int) -> None:
        """End a worker and its descendants by force."""
        self._workers[slot].wanted = False
        self._link.ask(Ask.KILL, slot)

    def retire(self, slot: int) -> None:
        """Let a worker leave: it sees the end of its pipe."""
        self._workers[slot].wanted = False
        with contextlib.suppress(OSError):
            self._workers[slot].channel.socket.shutdown(socket.SHUT_WR)

    def interrupt(self, slot: int, ordinal: int) -> None:
        """Have ``TaskStopped`` raised in an item: its worker looks at its page when it hears."""
        self._pages[slot].interrupt(ordinal)
        self._link.ask(Ask.INTERRUPT, slot)

    def ran(self, slot: int, ordinal: int, now: float) -> float:
        """For how long an item has run; 0 if its worker is not at it."""
        page = self._pages[slot]
        return page.seconds(now) if page.index == ordinal else 0.0

    def measure(self, slot: int, limit: int) -> None:
        """Measure the memory of a worker and its descendants, in the next turn."""
        self._weighed[slot] = limit
        self.due = 0.0

    def ask(self, slot: int, question: int, what: str, since: int) -> None:
        """Find out what a worker is at, or has written, from the next turn on."""
        self._questions.append((slot, question, what, since))
        self.due = 0.0

    def share(self, blobs: Blobs) -> None:
        """Have the workers use this blob folder from now on."""
        if blobs is not self._blobs:
            self._blobs = blobs
            for slot, worker in self._workers.items():
                self.put(slot, worker.files.use(blobs))

    def run(self, slot: int, part: Slice) -> None:
        """Give a slice to a worker."""
        if part.memory_limit is not None:
            self.fuses.begin(slot)
        self.put(slot, part)

    def put(self, slot: int, message: ToWorker) -> None:
        """Send to a worker, now: it may be waiting, and works while the turn goes on."""
        channel = self._workers[slot].channel
        channel.put(message)
        channel.flush()
        if channel.behind or channel.deaf:
            self._unwatched.add(slot)

    def limit(self, slot: int, ordinal: int, now: float) -> None:
        """Write a limit; later, what had begun by then is told."""
        self._pages[slot].limit(ordinal)
        self._workers[slot].ask_at = now + SETTLE_SECONDS
        self._care(now + SETTLE_SECONDS)

    # ------------------------------------------------------------ events

    def on_event(self, fd: int, host: PoolEvents, now: float) -> None:
        """A descriptor is ready."""
        if (slot := self._slots.get(fd)) is not None:
            worker = self._workers[slot]
            worker.channel.flush()
            if self._listening:
                self._hear(slot, worker, host, now, TURN_BYTES)
            self._watch(worker, now)
            return
        self.due = 0.0
        if self._link.is_fd(fd):
            self._link.hear(partial(self._exited, host, now))
        elif fd == self.outputs.fd:
            self.outputs.on_event()
        elif fd in self._stacks:
            self._stacks.on_event(fd, now)

    def on_time(self, host: PoolEvents, now: float) -> None:
        """Do what is due, and find out when something next is."""
        if now >= self._care_at:
            self._look_after(host, now)
        while self._unborn:  # another may be started in its place, at once or later
            slot, error = self._unborn.popitem()
            if slot in self._workers:
                self._workers[slot].error = error
                self._exited(host, now, slot, EXIT_FORK, 0)
            else:
                host.on_worker_exit(slot, Death(EXIT_FORK, None, error), now)
        while self._weighed:
            slot, limit = self._weighed.popitem()
            if pid := self._link.pids.get(slot):
                host.on_worker_memory(slot, tree_bytes(pid, limit), now)
            at = self._pages[slot].index
            # A worker looks itself at the end of an item, and begins no other if it was this one.
            if self.fuses.blown(slot) and self._pages[slot].index == at:
                host.on_worker_oom(slot, at, now)
        if self._link.has_left:
            self._link.reap(partial(self._exited, host, now))
        self.outputs.listen()
        if self._questions:
            questions, self._questions = self._questions, []
            for slot, question, what, since in questions:
                self._find_out(slot, question, what, since, host, now)
        self._stacks.on_time(now, host.on_worker_told)
        self.due = self._next_deadline(now)

    def _next_deadline(self, now: float) -> float:
        if self._weighed or self._questions or self._unborn:
            return now
        return min(
            self._care_at,
            self._link.next_deadline(now),
            self.outputs.next_deadline(now),
            self._stacks.next_deadline(),
        )

    def _look_after(self, host: PoolEvents, now: float) -> None:
        """A worker was asked to begin no more, or to end, some time ago."""
        for slot, worker in list(self._workers.items()):
            if now >= worker.ask_at:
                worker.ask_at = NEVER
                host.on_worker_limited(slot, self._pages[slot].index, now)
            if now >= worker.kill_at:
                worker.kill_at = NEVER
                self.kill(slot)
        times = [time for one in self._workers.values() for time in (one.ask_at, one.kill_at)]
        self._care_at = min(times, default=NEVER)

    def _care(self, at: float) -> None:
        """A worker is to be looked after at this time."""
        self._care_at = min(self._care_at, at)
        self.due = min(self.due, at)

    def listen(self, now: float, *, wanted: bool) -> None:
        """Hear what workers say, or let them wait with it."""
        if wanted != self._listening:
            self._listening = wanted
            for worker in self._workers.values():
                self._watch(worker, now)

    def watch(self, now: float) -> None:
        """Poll for what can happen to the channels that have changed in this turn."""
        while self._unwatched:
            if (worker := self._workers.get(self._unwatched.pop())) is not None:
                self._watch(worker, now)

    def close(self) -> None:
        """End all workers: idle ones by themselves, the others by force."""
        for worker in self._workers.values():
            worker.channel.close()
        self._link.close(LEAVE_SECONDS)
        self.fuses.close()
        self.uploads.close()
        self.outputs.last_words(LEAVE_SECONDS)
        for page in self._pages:
            page.close()

    # ------------------------------------------------------------ workers

    def _hear(self, slot: int, worker: _Worker, host: PoolEvents, now: float, limit: float) -> None:
        for message in worker.channel.receive(limit):
            match message:
                case Ends():
                    worker.files.hold(message.parts)
                    self._add_output(slot, message.parts)
                    host.on_worker_ended(slot, message.parts, now)
                case Note():
                    note = message.done, message.total, message.note
                    host.on_worker_progress(slot, message.key, message.counter, note, now)
                case Waits():
                    host.on_worker_waits(slot, message.ordinal, now, begins=message.begins)
                case Ready():
                    host.on_worker_ready(slot, now)
                case Failed():
                    worker.error = message.error
                case Retired():
                    worker.wanted = False
                    host.on_worker_retired(slot, now)

    def _find_out(
        self, slot: int, question: int, what: str, since: int, host: PoolEvents, now: float
    ) -> None:
        pid = self._link.pids.get(slot)
        if pid is None:
            host.on_worker_told(question, b"", 0, "its worker has ended")
        elif what == "stack":
            self._stacks.ask(slot, pid, question, now)
        else:
            data, start = self.outputs.peek(slot, since)
            host.on_worker_told(question, data, start, "")

    def _add_output(self, slot: int, parts: list[SliceEnd]) -> None:
        """What was written up to now belongs to what has ended now: evidence, where it failed."""
        output = self.outputs.take(slot)
        share = output and output[-max(TAIL_BYTES // max(len(parts), 1), 1) :]
        for part in parts:  # bounded, whatever user code may have written to the pipe
            failure = part.failure
            part.output = share if failure is None else b""
            if failure is not None:
                failure.message = failure.message[:MESSAGE_CHARS_MAX]
                failure.traceback = failure.traceback[-TRACEBACK_CHARS_MAX:]
                failure.output = share

    def _watch(self, worker: _Worker, now: float) -> None:
        """Poll for what can happen to a worker's channel now."""
        channel = worker.channel
        wanted = 0
        if not channel.closed:
            wanted = POLLIN if self._listening else 0
            wanted |= POLLOUT if channel.behind else 0
        if (channel.closed or channel.deaf) and worker.kill_at == NEVER:
            worker.kill_at = now + PATIENCE_SECONDS
            self._care(worker.kill_at)
        if wanted != worker.watched:
            worker.watched = wanted
            if wanted:
                self._poller.register(channel.socket.fileno(), wanted)
            else:
                self._poller.unregister(channel.socket.fileno())

    def _exited(self, host: PoolEvents, now: float, slot: int, code: int, peak: int) -> None:
        """A worker is gone: pass on its last words, then its end."""
        # It is still the slot's worker: what it said last may have the host give it more, which
        # comes back with its end.
        worker = self._workers[slot]
        self._hear(slot, worker, host, now, NEVER)
        del self._workers[slot]
        if worker.watched:
            self._poller.unregister(worker.channel.socket.fileno())
        del self._slots[worker.channel.socket.fileno()]
        worker.channel.close()
        worker.files.tidy()
        page = self._pages[slot]
        if worker.wanted:
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            logger.warning("a worker %s", how, extra={"slot": slot})
        output = self.outputs.close(slot)
        self._stacks.close(slot, host.on_worker_told)
        oom = self.fuses.blown(slot)
        self.fuses.end(slot)
        death = Death(code, page.index, worker.error, page.seconds(now), peak, output, oom)
        host.on_worker_exit(slot, death, now)
