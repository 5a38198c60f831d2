"""The worker processes of an agent: their channels, pages and the fork server that starts them.

Promises: a slot's exit is told once, after everything that its worker said; a fork server that
dies is replaced, and its workers are gone before their slots are used again.
"""

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
from typing import Protocol

import msgspec
import zmq

from farm_workers import kin, system
from farm_workers.channel import (
    BUFFER_BYTES,
    TURN_BYTES,
    Channel,
    Ends,
    Failed,
    Note,
    Ready,
    Retired,
    Setup,
    ToWorker,
)
from farm_workers.forkserver import ANSWER, ASK, RUNNING, Ask, ServerSettings
from farm_workers.host_slices import Key, SliceEnd
from farm_workers.page import SETTLE_SECONDS, Page

__all__ = ["Pool", "PoolEvents"]

logger = logging.getLogger("farm.host")

LEAVE_SECONDS = 0.5
"""How long idle workers have to end by themselves when the pool closes."""
REAP_SECONDS = 0.01
"""How often to look whether the workers of a dead fork server are gone."""
PATIENCE_SECONDS = 0.2
"""How long a worker that has closed its pipe, or retired, has to end by itself."""
PIPE_BYTES = 1 << 20
"""What a socket to a worker should buffer; the system may allow less."""
NEVER = float("inf")
_BOOT = """\
import sys
sys.path[:] = {path!r}
from farm_workers.forkserver import main
main({fd}, {settings!r})
"""


class PoolEvents(Protocol):
    """The part of ``Host`` that hears of workers."""

    def on_worker_ready(self, slot: int, now: float) -> None:
        """See ``Host``."""

    def on_worker_ended(self, slot: int, parts: list[SliceEnd], now: float) -> None:
        """See ``Host``."""

    def on_worker_progress(
        self, slot: int, key: Key, counter: int, note: tuple[float, float, str], now: float
    ) -> None:
        """See ``Host``."""

    def on_worker_limited(self, slot: int, index: int | None, now: float) -> None:
        """See ``Host``."""

    def on_worker_retired(self, slot: int, now: float) -> None:
        """See ``Host``."""

    def on_worker_exit(
        self,
        slot: int,
        code: int,
        index: int | None,
        now: float,
        error: str = "",
        seconds: float = 0.0,
    ) -> None:
        """See ``Host``."""


class Poller(Protocol):
    """What is told which descriptors to wait for: a ``zmq.Poller``."""

    def register(self, fd: int, flags: int) -> object:
        """Wait for these events of a descriptor, instead of others."""

    def unregister(self, fd: int) -> object:
        """Wait for it no more."""


class _Worker:
    """One process, from the request for it to its confirmed exit."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.pid = 0
        self.error = ""
        self.killed = False
        self.retired = False
        self.watched = 0  # the events polled for
        self.ask_at = NEVER  # when to look at its page, after a limit
        self.kill_at = NEVER


class Pool:
    """Slots and their workers.

    Call ``on_event`` for each descriptor that the poller names, ``on_time`` once a turn and no
    later than ``next_deadline``, and ``flush`` at the end of a turn.
    """

    def __init__(self, slots: int, setup: Setup, server: ServerSettings, poller: Poller) -> None:
        self._setup = setup
        self._server_settings = server
        self._poller = poller
        self._workers: dict[int, _Worker] = {}  # by slot
        self._slots: dict[int, int] = {}  # by the descriptor of the worker's channel
        self._pages = [Page.create() for _ in range(slots)]
        self._dirty: set[int] = set()
        self._listening = True
        self._process: subprocess.Popen[bytes] | None = None
        self._server: socket.socket | None = None
        self._answers = bytearray()  # less than one answer, between turns
        # What a dead fork server left, by process id, until it is seen to be gone; -1: no worker.
        self._left: dict[int, int] = {}

    # ------------------------------------------------------------ what the host machine wants

    def spawn(self, slot: int) -> None:
        """Start a worker."""
        server = self._server or self._start_server()
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PIPE_BYTES)
        page = self._pages[slot]
        page.clear()
        self._workers[slot] = _Worker(Channel(ours))
        self._slots[ours.fileno()] = slot
        self.put(slot, self._setup)
        with theirs, contextlib.suppress(OSError):  # a dead fork server is seen in its turn
            socket.send_fds(server, [ASK.pack(Ask.SPAWN, slot)], [theirs.fileno(), page.fd])

    def kill(self, slot: int) -> None:
        """End a worker and its descendants by force."""
        self._workers[slot].killed = True
        if self._server is not None:
            with contextlib.suppress(OSError):
                self._server.sendall(ASK.pack(Ask.KILL, slot))

    def put(self, slot: int, message: ToWorker) -> None:
        """Send to a worker, at the end of the turn."""
        self._workers[slot].channel.put(message)
        self._dirty.add(slot)

    def limit(self, slot: int, ordinal: int, now: float) -> None:
        """Write a limit; later, what had begun by then is told."""
        self._pages[slot].limit(ordinal)
        self._workers[slot].ask_at = now + SETTLE_SECONDS

    # ------------------------------------------------------------ events

    def on_event(self, fd: int, host: PoolEvents, now: float) -> None:
        """A descriptor is ready."""
        if self._server is not None and fd == self._server.fileno():
            self._hear_server(self._server, host, now)
        elif fd in self._slots:
            slot = self._slots[fd]
            worker = self._workers[slot]
            worker.channel.flush()
            if self._listening:
                self._hear(slot, worker, host, now, TURN_BYTES)
            self._watch(worker, now)

    def on_time(self, host: PoolEvents, now: float) -> None:
        """Do what is due."""
        for slot, worker in list(self._workers.items()):
            if now >= worker.ask_at:
                worker.ask_at = NEVER
                host.on_worker_limited(slot, self._pages[slot].index, now)
            if now >= worker.kill_at:
                worker.kill_at = NEVER
                self.kill(slot)
        if self._left:
            self._reap_left(host, now)

    def listen(self, now: float, *, wanted: bool) -> None:
        """Hear what workers say, or let them wait with it."""
        if wanted != self._listening:
            self._listening = wanted
            for worker in self._workers.values():
                self._watch(worker, now)

    def next_deadline(self, now: float) -> float:
        """When ``on_time`` is next needed."""
        due = now + REAP_SECONDS if self._left else NEVER
        for worker in self._workers.values():
            due = min(due, worker.ask_at, worker.kill_at)
        return due

    def flush(self, now: float) -> None:
        """Send what this turn has for the workers."""
        for slot in self._dirty:
            worker = self._workers.get(slot)
            if worker is not None:
                worker.channel.flush()
                self._watch(worker, now)
        self._dirty.clear()

    def close(self) -> None:
        """End all workers: idle ones by themselves, the others by force."""
        for worker in self._workers.values():
            worker.channel.close()
        if self._server is not None:
            self._server.settimeout(LEAVE_SECONDS)
            left = set(self._workers)
            with contextlib.suppress(OSError):
                while left and (data := self._server.recv(ANSWER.size, socket.MSG_WAITALL)):
                    slot, _, status = ANSWER.unpack(data)
                    if status != RUNNING:
                        left.discard(slot)
            self._server.close()
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(LEAVE_SECONDS)
        for page in self._pages:
            page.close()

    # ------------------------------------------------------------ workers

    def _hear(self, slot: int, worker: _Worker, host: PoolEvents, now: float, limit: float) -> None:
        for message in worker.channel.receive(limit):
            match message:
                case Ends():
                    host.on_worker_ended(slot, message.parts, now)
                case Note():
                    note = message.done, message.total, message.note
                    host.on_worker_progress(slot, message.key, message.counter, note, now)
                case Ready():
                    host.on_worker_ready(slot, now)
                case Failed():
                    worker.error = message.error
                case Retired():
                    worker.retired = True
                    worker.kill_at = now + PATIENCE_SECONDS
                    host.on_worker_retired(slot, now)

    def _watch(self, worker: _Worker, now: float) -> None:
        """Poll for what can happen to a worker's channel now."""
        channel = worker.channel
        wanted = 0
        if not channel.closed:
            wanted = zmq.POLLIN if self._listening else 0
            wanted |= zmq.POLLOUT if channel.behind else 0
        elif worker.kill_at == NEVER:
            worker.kill_at = now + PATIENCE_SECONDS
        if wanted != worker.watched:
            worker.watched = wanted
            if wanted:
                self._poller.register(channel.socket.fileno(), wanted)
            else:
                self._poller.unregister(channel.socket.fileno())

    def _exited(self, slot: int, code: int, host: PoolEvents, now: float) -> None:
        """A worker is gone: pass on its last words, then its end."""
        worker = self._workers.get(slot)
        if worker is None:
            return
        # It is still the slot's worker: what it said last may have the host give it more, which
        # comes back with its end.
        self._hear(slot, worker, host, now, NEVER)
        del self._workers[slot]
        fd = worker.channel.socket.fileno()
        if worker.watched:
            self._poller.unregister(fd)
        del self._slots[fd]
        worker.channel.close()
        page = self._pages[slot]
        if not (worker.killed or worker.retired):
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            logger.warning("a worker %s", how, extra={"slot": slot, "pid": worker.pid})
        host.on_worker_exit(slot, code, page.index, now, worker.error, page.seconds(now))

    # ------------------------------------------------------------ the fork server

    def _start_server(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        settings = msgspec.json.encode(self._server_settings).decode()
        boot = _BOOT.format(path=sys.path, fd=theirs.fileno(), settings=settings)
        environment = dict(os.environ)
        system.clean_environment(environment)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, *_flags(), "-c", boot],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=environment,
            )
        self._server = ours
        self._answers.clear()
        self._poller.register(ours.fileno(), zmq.POLLIN)
        return ours

    def _hear_server(self, server: socket.socket, host: PoolEvents, now: float) -> None:
        try:
            data = server.recv(BUFFER_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose_server(server, host, now)
            return
        self._answers += data
        while len(self._answers) >= ANSWER.size:
            slot, pid, status = ANSWER.unpack_from(self._answers)
            del self._answers[: ANSWER.size]
            if status != RUNNING:
                self._exited(slot, status, host, now)
            elif slot in self._workers:
                self._workers[slot].pid = pid

    def _lose_server(self, server: socket.socket, host: PoolEvents, now: float) -> None:
        """The fork server is dead: nothing of it may stay. The next ``spawn`` starts another."""
        logger.error("the fork server has ended; its workers are replaced")
        self._poller.unregister(server.fileno())
        server.close()
        self._server = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._left |= {w.pid: slot for slot, w in self._workers.items() if w.pid}
        # Where this process adopts orphans, everything left is its child now.
        self._left |= {pid: -1 for pid in kin.children(os.getpid()) if pid not in self._left}
        for pid in self._left:
            kin.kill(pid)
        for slot in [slot for slot, worker in self._workers.items() if not worker.pid]:
            self._exited(slot, -signal.SIGKILL, host, now)

    def _reap_left(self, host: PoolEvents, now: float) -> None:
        for pid, slot in list(self._left.items()):
            try:
                gone, status = os.waitpid(pid, os.WNOHANG)
                code = os.waitstatus_to_exitcode(status) if gone else 0
            except ChildProcessError:  # another process adopts orphans here
                gone, code = not kin.exists(pid), -signal.SIGKILL
            if gone:
                del self._left[pid]
                self._exited(slot, code, host, now)


def _flags() -> list[str]:
    """The flags of this interpreter under which tasks should run, too."""
    optimize = ["-" + "O" * sys.flags.optimize] if sys.flags.optimize else []
    return [*optimize, *(["-B"] if sys.flags.dont_write_bytecode else [])]
