"""The fork server: a process with everything loaded, whose forks are the workers.

It is single-threaded, runs no user code beyond importing the modules that the settings name, and
does what the agent says over one socket: start a worker, end a worker. It reports every worker's
exit at once, and ends what a dead worker's tasks have left running. When the agent's end of the
socket closes, it kills all workers and exits.
"""

import contextlib
import gc
import importlib
import os
import select
import signal
import socket
import struct
import sys
from typing import NoReturn

import msgspec

from farm_workers import kin, system, worker
from farm_workers.channel import Pipe
from farm_workers.page import Page

__all__ = ["ANSWER", "ASK", "EXIT_FORK", "Ask", "ServerSettings", "main"]

ASK = struct.Struct("<BI")
"""An ``Ask`` and a slot; SPAWN carries two descriptors, the worker's socket and its page."""
ANSWER = struct.Struct("<Iii")
"""A slot, a process id, and how it ended; ``RUNNING`` if it has just begun."""
RUNNING = 1 << 30
EXIT_FORK = 71
"""No process could be started."""


class Ask:
    """What the agent asks for."""

    SPAWN = 1
    KILL = 2


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``sys_path`` replaces that of the workers; ``preload`` names modules to import."""

    sys_path: list[str] | None = None
    preload: list[str] = []


def main(fd: int, settings: str) -> NoReturn:
    """Serve on the socket ``fd`` until it closes; ``settings`` is JSON."""
    told = msgspec.json.decode(settings, type=ServerSettings)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    system.adopt_orphans()
    system.keep_freed_memory()  # the workers inherit it
    if told.sys_path is not None:
        sys.path[:] = told.sys_path
        importlib.invalidate_caches()
    for name in told.preload:
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001 -- whatever users' modules raise
            sys.stderr.write(f"farm: {name} cannot be preloaded: {error!r}\n")
    gc.collect()
    gc.freeze()  # pages that the collector does not touch stay shared with the workers
    _Server(socket.socket(fileno=fd)).serve()


class _Server:
    def __init__(self, agent: socket.socket) -> None:
        self._agent = agent
        self._slots: dict[int, int] = {}  # of running workers, by process id
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def serve(self) -> NoReturn:
        poller = select.poll()
        poller.register(self._agent, select.POLLIN)
        poller.register(self._read, select.POLLIN)
        try:
            while True:
                for fd, _ in poller.poll():
                    if fd == self._read:
                        with contextlib.suppress(BlockingIOError):
                            os.read(self._read, 4096)
                        self._reap()
                    else:
                        self._hear()
        except (EOFError, OSError):
            for pid in self._slots:
                kin.kill(pid)
            self._end_orphans()
            os._exit(0)

    def _hear(self) -> None:
        """One question of the agent."""
        data, fds, _, _ = socket.recv_fds(self._agent, ASK.size, 2)
        if len(data) < ASK.size:
            raise EOFError
        what, slot = ASK.unpack(data)
        if what == Ask.SPAWN:
            self._spawn(slot, *fds)
            for fd in fds:
                os.close(fd)
            return
        for pid in [pid for pid, running in self._slots.items() if running == slot]:
            kin.kill(pid)

    def _spawn(self, slot: int, pipe: int, page: int) -> None:
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError:
            self._answer(slot, 0, EXIT_FORK)
            return
        if pid == 0:
            code = EXIT_FORK
            try:
                self._agent.close()
                code = _become_worker(parent, pipe, page)
            finally:
                os._exit(code)
        self._slots[pid] = slot
        self._answer(slot, pid, RUNNING)

    def _reap(self) -> None:
        """Report the workers that have ended, after ending what their tasks left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            slot = self._slots.pop(pid, None)
            if slot is not None:
                self._end_orphans()
                self._answer(slot, pid, os.waitstatus_to_exitcode(status))

    def _end_orphans(self) -> None:
        """Children of this process that are no workers were some dead worker's descendants."""
        for pid in kin.children(os.getpid()):
            if pid not in self._slots:
                kin.kill(pid)

    def _answer(self, slot: int, pid: int, status: int) -> None:
        self._agent.sendall(ANSWER.pack(slot, pid, status))


def _become_worker(parent: int, pipe: int, page: int) -> int:
    """In the new process: leave everything of the fork server behind, and work."""
    system.die_with_parent(parent)
    system.adopt_orphans()
    system.offer_to_oom_killer()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # Python's own generator has been seeded anew by the fork; NumPy's has not.
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()
    shared = Page(page)
    sock = socket.socket(fileno=os.dup(pipe))
    os.close(pipe)
    os.close(page)
    return worker.run(Pipe(sock), shared)
