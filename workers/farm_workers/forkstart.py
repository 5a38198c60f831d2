"""How an agent starts its fork server, and what the two say to each other.

Imports little: the fork server loads its modules while the agent loads its own.
"""

import os
import socket
import struct
import subprocess
import sys

import msgspec

from farm_workers import system

__all__ = ["ANSWER", "ASK", "RUNNING", "SPAWN_FDS", "Ask", "ForkServer", "ServerSettings"]

ASK = struct.Struct("<BI")
"""An ``Ask`` and a slot; SPAWN carries the worker's socket, its page, its descriptors 1 and 2, and
where its stacks are to be written."""
ANSWER = struct.Struct("<IiiQ")
"""A slot, a process id, how it ended, and the most memory it had; ``RUNNING``: it has begun."""
SPAWN_FDS = 5
RUNNING = 1 << 30
_BOOT = """\
import sys
sys.path[:] = {path!r}
from farm_workers.forkserver import main
main({fd}, {settings!r})
"""


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


Started = tuple["subprocess.Popen[bytes]", socket.socket]
"""A fork server, and this end of the socket to it: it ends when that is closed."""


class ForkServer:
    """Starts fork servers: one ahead of time, if ``prepare`` is called, and others as needed."""

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = msgspec.json.encode(settings).decode()
        self._prepared: Started | None = None

    def prepare(self) -> None:
        """Start the first, which ``start`` will give."""
        self._prepared = self._launch()

    def start(self) -> Started:
        """The one that was prepared, or a new one."""
        prepared, self._prepared = self._prepared, None
        return prepared or self._launch()

    def _launch(self) -> Started:
        ours, theirs = socket.socketpair()
        boot = _BOOT.format(path=sys.path, fd=theirs.fileno(), settings=self._settings)
        environment = dict(os.environ)
        system.clean_environment(environment)
        with theirs:
            process = subprocess.Popen(
                [sys.executable, *_flags(), "-c", boot],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=environment,
            )
        return process, ours


def _flags() -> list[str]:
    """The flags of this interpreter under which tasks should run, too."""
    optimize = ["-" + "O" * sys.flags.optimize] if sys.flags.optimize else []
    return [*optimize, *(["-B"] if sys.flags.dont_write_bytecode else [])]
