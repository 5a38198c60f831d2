"""The fork server: a process with everything loaded, whose forks are the workers.

It is single-threaded, runs no user code beyond importing the modules that the settings name, and
does what the agent says over one socket: start a worker, end a worker. It ends what a dead
worker's tasks have left running, and reports the worker's exit when all of that is gone. When the
agent's end of the socket closes, it kills all workers and exits.
"""

import contextlib
import faulthandler
import gc
import importlib
import os
import select
import signal
import socket
import sys
import time
from collections import deque
from typing import NoReturn

import msgspec

from farm_workers import kin, system, worker
from farm_workers.cgroups import remove
from farm_workers.channel import Pipe
from farm_workers.forkstart import ANSWER, ASK, EXIT_FORK, RUNNING, SPAWN_FDS, Ask, ServerSettings
from farm_workers.page import Page
from farm_workers.process_state import renew_streams
from farm_workers.soft_limit import SIGNAL
from farm_workers.stacks import offer as offer_stacks

__all__ = ["main"]

CLIENT = "farm.client.client"
MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024
REMOVALS_MAX = 50
REMOVE_SECONDS = 0.01
"""At the end, how often and when to see if the processes of a memory group are gone."""


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
    _Server(socket.socket(fileno=fd), told.memory_group, told.slots).serve()


class _Server:
    def __init__(self, agent: socket.socket, memory_group: str, slots: int) -> None:
        self._agent = agent
        self._lent_from = slots
        self._memory_group = memory_group
        self._slots: dict[int, int] = {}  # of running workers, by process id
        # Answers to give when what those workers have started is gone, by slot.
        self._ended: dict[int, tuple[int, int, int]] = {}
        # Processes that were asked to end, and have time to do so, by slot.
        self._spared: dict[int, set[int]] = {}
        self._answers: deque[bytes] = deque()  # not yet sent; bounded by what may be asked
        self._poller = select.poll()
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def serve(self) -> NoReturn:
        self._poller.register(self._agent, select.POLLIN)
        self._poller.register(self._read, select.POLLIN)
        try:
            while True:
                for fd, events in self._poller.poll():
                    if fd == self._read:
                        with contextlib.suppress(BlockingIOError):
                            os.read(self._read, 4096)
                        self._reap()
                        continue
                    if events & select.POLLOUT:
                        self._flush()
                    if events & ~select.POLLOUT:
                        self._hear()
        except (EOFError, OSError):
            for pid in self._slots:
                kin.kill(pid)
            self._spared.clear()
            self._end_orphans()
            self._remove_group()
            os._exit(0)

    def _remove_group(self) -> None:
        """End what has got away, and leave no group behind; what ends too slowly, others find."""
        for _ in range(REMOVALS_MAX if self._memory_group else 0):
            if remove(self._memory_group):
                return
            time.sleep(REMOVE_SECONDS)

    def _hear(self) -> None:
        """One question of the agent."""
        data, fds, _, _ = socket.recv_fds(self._agent, ASK.size, SPAWN_FDS)
        if len(data) < ASK.size:
            raise EOFError
        what, slot = ASK.unpack(data)
        if what == Ask.SPAWN:
            self._spawn(slot, fds)
            for fd in fds:
                os.close(fd)
            return
        pids = [pid for pid, running in self._slots.items() if running == slot]
        if what == Ask.STOP:
            self._spared[slot] = set().union(*map(kin.terminate, pids))
            return
        if what == Ask.INTERRUPT:
            for pid in pids:  # its handler was set before its first item began
                os.kill(pid, SIGNAL)
            return
        self._spared.pop(slot, None)
        for pid in pids:
            kin.kill(pid)
        if slot in self._ended:  # the worker is gone, but not all that it has started
            self._end_orphans()

    def _spawn(self, slot: int, fds: list[int]) -> None:
        parent = os.getpid()
        if slot >= self._lent_from:  # loaded once, here, and not in each of them
            importlib.import_module(CLIENT)
        try:
            pid = os.fork()
        except OSError:
            self._answer(slot, 0, EXIT_FORK, 0)
            return
        if pid == 0:
            code = EXIT_FORK
            try:
                self._agent.close()
                code = _become_worker(parent, *fds)
            finally:
                os._exit(code)
        self._slots[pid] = slot
        self._answer(slot, pid, RUNNING, 0)

    def _reap(self) -> None:
        """See who has ended; report workers of whose descendants nobody is left."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            slot = self._slots.pop(pid, None)
            if slot is not None:
                code = os.waitstatus_to_exitcode(status)
                self._ended[slot] = pid, code, usage.ru_maxrss * MAXRSS_BYTES
        if self._ended:
            self._end_orphans()
            self._report()

    def _orphans(self) -> list[int]:
        """Children of this process that are no workers: what dead workers have left."""
        return [pid for pid in kin.children(os.getpid()) if pid not in self._slots]

    def _end_orphans(self) -> None:
        """End what dead workers have left, but for those who were asked and still have time."""
        spared = set().union(*self._spared.values())
        for pid in self._orphans():
            if pid not in spared:
                kin.kill(pid)

    def _report(self) -> None:
        left = set(self._orphans())
        strangers = left.difference(*self._spared.values())
        for slot, (pid, code, peak) in list(self._ended.items()):
            if not strangers and left.isdisjoint(self._spared.get(slot, ())):
                del self._ended[slot]
                self._spared.pop(slot, None)
                self._answer(slot, pid, code, peak)

    def _answer(self, slot: int, pid: int, status: int, peak: int) -> None:
        self._answers.append(ANSWER.pack(slot, pid, status, peak))
        self._flush()

    def _flush(self) -> None:
        """Send what can be sent: an agent that is about to ask for many workers reads nothing."""
        with contextlib.suppress(BlockingIOError):
            while self._answers:
                self._agent.send(self._answers[0], socket.MSG_DONTWAIT)
                self._answers.popleft()
        self._poller.modify(self._agent, select.POLLIN | (select.POLLOUT if self._answers else 0))


def _become_worker(parent: int, pipe: int, page: int, out: int, err: int, stacks: int) -> int:
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
    os.dup2(out, 1)
    os.dup2(err, 2)
    renew_streams()
    # What it was at when it crashed, or was asked to end, is the best that can be said of a task.
    faulthandler.enable(2)
    faulthandler.register(signal.SIGTERM, 2, chain=True)
    offer_stacks(stacks)
    shared = Page(page)
    sock = socket.socket(fileno=os.dup(pipe))
    for fd in (pipe, page, out, err, stacks):
        os.close(fd)
    return worker.run(Pipe(sock), shared)
