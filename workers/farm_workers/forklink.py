"""The agent's side of its fork server: started when it is needed, and again when it has died."""

import contextlib
import logging
import os
import signal
import socket
import subprocess
from collections.abc import Callable

from farm_workers import kin
from farm_workers.channel import BUFFER_BYTES
from farm_workers.forkstart import ANSWER, ASK, RUNNING, Ask, ForkServer, Process
from farm_workers.output import POLLIN, Poller

__all__ = ["ForkLink"]

logger = logging.getLogger("farm.host")

REAP_SECONDS = 0.01
"""How often to look whether the workers of a dead fork server are gone."""
NEVER = float("inf")

Exited = Callable[[int, int, int], object]
"""Called with a slot, an exit code and the most memory that its worker had."""


class ForkLink:
    """``pids`` has the process of each slot, as far as the fork server has told."""

    def __init__(self, starter: ForkServer, poller: Poller) -> None:
        self.pids: dict[int, int] = {}
        self._starter = starter
        self._poller = poller
        self._process: Process | None = None
        self._server: socket.socket | None = None
        self._answers = bytearray()  # less than one answer, between turns
        self._slots: set[int] = set()  # of which an exit is still to be told
        # What a dead fork server left, by process id, until it is seen to be gone; -1: no worker.
        self._left: dict[int, int] = {}

    def is_fd(self, fd: int) -> bool:
        """Whether this is the descriptor that the poller names when something is heard."""
        return self._server is not None and fd == self._server.fileno()

    def spawn(self, slot: int, fds: list[int]) -> None:
        """Start a worker with these descriptors; raises ``OSError`` if that is impossible."""
        server = self._server or self._start()
        with contextlib.suppress(ConnectionError):  # a dead fork server is seen in its turn
            socket.send_fds(server, [ASK.pack(Ask.SPAWN, slot)], fds)
        self._slots.add(slot)

    def ask(self, what: int, slot: int) -> None:
        """Have a worker ended."""
        if self._server is not None:
            with contextlib.suppress(OSError):
                self._server.sendall(ASK.pack(what, slot))

    def hear(self, exited: Exited) -> None:
        """What the fork server says."""
        server = self._server
        if server is None:
            return
        try:
            data = server.recv(BUFFER_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose(server, exited)
            return
        self._answers += data
        while len(self._answers) >= ANSWER.size:
            slot, pid, status, peak = ANSWER.unpack_from(self._answers)
            del self._answers[: ANSWER.size]
            if status != RUNNING:
                self._exited(slot, status, peak, exited)
            elif slot in self._slots:
                self.pids[slot] = pid

    @property
    def has_left(self) -> bool:
        """Whether a dead fork server has left something."""
        return bool(self._left)

    def next_deadline(self, now: float) -> float:
        """When ``reap`` is next needed."""
        return now + REAP_SECONDS if self._left else NEVER

    def reap(self, exited: Exited) -> None:
        """Look after what a dead fork server has left."""
        for pid, slot in list(self._left.items()):
            try:
                gone, status = os.waitpid(pid, os.WNOHANG)
                code = os.waitstatus_to_exitcode(status) if gone else 0
            except ChildProcessError:  # another process adopts orphans here
                gone, code = not kin.exists(pid), -signal.SIGKILL
            if gone:
                del self._left[pid]
                self._exited(slot, code, 0, exited)

    def close(self, seconds: float) -> None:
        """Wait a while for idle workers to end by themselves; the others are ended by force."""
        if self._server is not None:
            self._server.settimeout(seconds)
            left = set(self._slots)
            with contextlib.suppress(OSError):
                while left and (data := self._server.recv(ANSWER.size, socket.MSG_WAITALL)):
                    slot, _, status, _ = ANSWER.unpack(data)
                    if status != RUNNING:
                        left.discard(slot)
            self._server.close()
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)

    def _exited(self, slot: int, code: int, peak: int, exited: Exited) -> None:
        if slot in self._slots:
            self._slots.discard(slot)
            self.pids.pop(slot, None)
            exited(slot, code, peak)

    def _start(self) -> socket.socket:
        self._process, self._server = self._starter.start()
        self._answers.clear()
        self._poller.register(self._server.fileno(), POLLIN)
        return self._server

    def _lose(self, server: socket.socket, exited: Exited) -> None:
        """The fork server is dead: nothing of it may stay. The next ``spawn`` starts another."""
        logger.error("the fork server has ended; its workers are replaced")
        self._poller.unregister(server.fileno())
        server.close()
        self._server = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._left |= {pid: slot for slot, pid in self.pids.items()}
        # Where this process adopts orphans, everything left is its child now.
        self._left |= {pid: -1 for pid in kin.children(os.getpid()) if pid not in self._left}
        for pid in self._left:
            kin.kill(pid)
        for slot in self._slots.difference(self.pids):
            self._exited(slot, -signal.SIGKILL, 0, exited)
