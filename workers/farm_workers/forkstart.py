"""How an agent starts its fork server, and what the two say to each other.

The first of an agent that has done nothing but import yet is a copy of it: what both need is
loaded once, before, and the rest by each while the other loads its own. Imports little itself.
"""

import contextlib
import logging
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from importlib.machinery import PathFinder
from types import ModuleType
from typing import NoReturn, Protocol

import msgspec

from farm_workers import system

__all__ = [
    "ANSWER",
    "ASK",
    "EXIT_FORK",
    "RUNNING",
    "SPAWN_FDS",
    "Ask",
    "ForkServer",
    "Process",
    "ServerSettings",
]

ASK = struct.Struct("<BI")
"""An ``Ask`` and a slot; SPAWN carries the worker's socket, its page, its descriptors 1 and 2, and
where its stacks are to be written."""
ANSWER = struct.Struct("<IiiQ")
"""A slot, a process id, how it ended, and the most memory it had; ``RUNNING``: it has begun."""
SPAWN_FDS = 5
RUNNING = 1 << 30
EXIT_FORK = 71
"""How a worker ended of which no process could be started."""
_BOOT = """\
import sys
sys.path[:] = {path!r}
from farm_workers.forkserver import main
main({fd}, {settings!r})
"""


_CUSTOM = ("sitecustomize", "usercustomize")
"""Modules that an interpreter imports when it starts, if there are any."""
EXIT_BROKEN = 1
STDERR = 2
NAP_SECONDS = 0.001


class Ask:
    """What the agent asks for."""

    SPAWN = 1
    KILL = 2
    STOP = 3
    """To end by itself, with its descendants; ``KILL`` may follow."""
    INTERRUPT = 4
    """To raise ``TaskStopped`` in the item that its page names."""


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``sys_path`` replaces that of the workers; ``preload`` names modules to import.

    ``memory_group`` is the cgroup of the agent, if it can have one. Slots from ``slots`` on are
    there only while tasks wait for others: their workers are likely to need a client.
    """

    sys_path: list[str] | None = None
    preload: list[str] = []
    memory_group: str = ""
    slots: int = 1 << 30


class Process(Protocol):
    """A fork server, as the agent that started it can use it: that of ``subprocess.Popen``."""

    def kill(self) -> None:
        """End it by force."""

    def wait(self, timeout: float | None = None) -> object:
        """Wait for its end, and reap it; raises ``TimeoutExpired`` if it runs on for so long."""


Started = tuple[Process, socket.socket]
"""A fork server, and this end of the socket to it: it ends when that is closed."""


class ForkServer:
    """Starts fork servers: one ahead of time, if it is told to, and others as they are needed."""

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = msgspec.json.encode(settings).decode()
        self._prepared: Started | None = None

    def prepare(self, *, may_copy: bool) -> None:
        """Start the first, which ``start`` will give.

        ``may_copy``: this process has one thread, has opened nothing that others must not have, and
        imports nothing that tasks would not expect to be there.
        """
        copies = may_copy and _is_as_good(os.environ)
        self._prepared = self._copy() if copies else self._launch()

    def start(self) -> Started:
        """The one that was prepared, or a new one."""
        prepared, self._prepared = self._prepared, None
        return prepared or self._launch()

    def _launch(self) -> Started:
        ours, theirs = socket.socketpair()
        boot = _BOOT.format(path=sys.path, fd=theirs.fileno(), settings=self._settings)
        environment = dict(os.environ)
        system.clean_environment(environment)
        with contextlib.ExitStack() as undo, theirs:
            undo.enter_context(ours)
            process = subprocess.Popen(
                [sys.executable, *_flags(), "-c", boot],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=environment,
            )
            undo.pop_all()
        return process, ours

    def _copy(self) -> Started:
        # What both need. What only workers do, such as cloudpickle, is loaded by the copy.
        from farm_workers import channel, host_slots, memory, page, stacks  # noqa: F401, PLC0415

        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            try:
                ours.detach()
                _be_server(theirs.detach(), self._settings)
            except BaseException:  # noqa: BLE001 - as an interpreter that ends would
                traceback.print_exc()
            finally:
                os._exit(EXIT_BROKEN)
        theirs.close()
        return _Copy(pid), ours


class _Copy:
    """A process that was forked from this one; see ``Process``."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> None:
        until = float("inf") if timeout is None else time.monotonic() + timeout
        with contextlib.suppress(ChildProcessError):  # it was reaped
            while os.waitpid(self._pid, os.WNOHANG)[0] == 0:
                if time.monotonic() >= until:
                    raise subprocess.TimeoutExpired("the fork server", timeout or 0.0)
                time.sleep(NAP_SECONDS)


def _is_as_good(environment: Mapping[str, str]) -> bool:
    """Whether tasks are to find nothing else in a copy of this process than in a new one.

    What a process was started with can be read as long as it lives, secrets too; and what users
    have an interpreter import when it starts, a service of the farm does not find.
    """
    if any(map(system.is_secret, environment)):
        return False
    folders = environment.get("PYTHONPATH", "").split(os.pathsep)
    return not any(PathFinder.find_spec(name, [*filter(None, folders)]) for name in _CUSTOM)


def _be_server(fd: int, settings: str) -> NoReturn:
    """In the copy: be what ``_launch`` starts, for tasks too, with nothing open but the socket."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for name in os.listdir("/dev/fd"):  # noqa: PTH208 - names only
        if int(name) > STDERR and int(name) != fd:
            with contextlib.suppress(OSError):
                os.close(int(name))
    system.clean_environment(os.environ)
    sys.argv[:] = ["-c"]
    sys.modules["__main__"] = ModuleType("__main__")
    sys.modules.pop("resource", None)  # after a task that has loaded it, all limits are read
    log = logging.getLogger("farm")
    log.handlers.clear()  # the agent's
    log.propagate = True
    log.setLevel(logging.NOTSET)
    from farm_workers.forkserver import main  # noqa: PLC0415 - see above

    main(fd, settings)


def _flags() -> list[str]:
    """The flags of this interpreter under which tasks should run, too."""
    optimize = ["-" + "O" * sys.flags.optimize] if sys.flags.optimize else []
    return [*optimize, *(["-B"] if sys.flags.dont_write_bytecode else [])]
