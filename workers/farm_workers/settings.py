"""What an agent process is told at its start."""

import socket
from enum import IntEnum
from typing import Literal

import msgspec

from farm.errors import ConfigError
from farm.settings_file import FileSettings
from farm_workers.cpus import default_slots

__all__ = ["AgentSettings", "ExitCode"]


LENT_MIN, LENT_PER_SLOT = 64, 4
"""How many workers a host may have beyond its slots, for tasks that others wait for."""


class ExitCode(IntEnum):
    """How an agent process ended; the numbers are those of the ``farm`` command."""

    OK = 0
    """It was drained, or its parent has ended."""
    CONFIG = 3
    REFUSED = 11
    """The coordinator will not have this host, and trying again cannot help."""
    BUG = 70


class AgentSettings(
    FileSettings, msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """One host. ``address`` is where clients connect; where hosts do follows from it.

    It may be empty where the token says it.
    """

    address: str
    token: str = ""
    """The path of a file with its token; if empty, what ``FARM_TOKEN`` says."""
    keys: str = ""
    """The folder with the keys of this user's own farm; empty: the usual one."""
    slots: int | None = None
    """Tasks at a time; None: the CPUs that this process may use."""
    name: str = ""
    """Unique in its farm; empty: the machine's name and the process id."""
    sys_path: list[str] | None = None
    """In place of the workers' ``sys.path``."""
    preload: list[str] = []
    """Modules that workers have loaded before they start; they must not start threads."""
    imports: list[str] = []
    """Modules that each worker imports before its first task; their registered functions can be run
    by name."""
    initializer: bytes | None = None
    """Run in each worker before its first task: ``dump_call((function, arguments), {})`` of the
    ``data`` of ``dump_function`` and the bytes of ``dump_call``."""
    labels: dict[str, str] = {}
    resources: dict[str, float] = {}
    """What it has for tasks that need it; memory and GPUs are found out unless they are here."""
    packages: list[str] = []
    """Those of which it tells the farm the versions, besides some."""
    uploads: str = ""
    """Where its folder for uploaded modules is made; empty: among the temporary files."""
    parent_fd: int | None = None
    """The process and its workers end at once when this pipe does."""
    parent_pid: int | None = None
    """And when this parent of it does."""
    log_format: Literal["text", "json"] = "text"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    window_max: int = 4096
    """The most tasks that this host asks for."""
    messages_hwm: int | None = None
    """The high-water mark of its socket, in messages; by default well above the largest credit."""
    grace_seconds: float | None = None
    """How long tasks of a drained host may run on; None: as long as they take."""
    drain_seconds: float = 10.0
    """How long a drained host waits for its last outcomes to be noted."""
    kill_seconds: float = 3.0
    """How long a worker over a limit has to end before it is killed."""
    max_tasks_per_worker: int = 0
    """A worker is replaced after so many tasks; 0: never."""
    max_memory_per_worker: int = 0
    """And when it has come to so many bytes of its own; 0: never."""
    max_lent: int | None = None
    """How many slots may be lent at a time; None: some for each."""

    def slot_count(self) -> int:
        """How many workers; raises ``ConfigError`` for less than one."""
        slots = default_slots() if self.slots is None else self.slots
        if slots < 1:
            raise ConfigError(f"slots is {slots}; a host needs at least 1")
        return slots

    def lent_count(self, slots: int) -> int:
        """How many slots of a host with so many may be lent; raises ``ConfigError`` below 0."""
        if self.max_lent is None:
            return max(LENT_MIN, LENT_PER_SLOT * slots)
        if self.max_lent < 0:
            raise ConfigError(f"max_lent is {self.max_lent}; it must be 0 or more")
        return self.max_lent

    def host_name(self, pid: int) -> str:
        """The name of the host."""
        return self.name or f"{socket.gethostname()}-{pid}"
