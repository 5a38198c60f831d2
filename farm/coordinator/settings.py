"""What a coordinator process is told at its start, and what it says when it serves or cannot."""

import sys
from enum import IntEnum
from typing import Any, Literal

import msgspec

from farm._version import __version__
from farm.core import CoreSettings
from farm.errors import ConfigError
from farm.settings_file import FileSettings

__all__ = ["CoordinatorSettings", "ExitCode", "Word"]


class ExitCode(IntEnum):
    """How a coordinator process ended; the numbers are those of the ``farm`` command."""

    OK = 0
    CONFIG = 3
    STORE = 10
    REFUSED = 11
    """The address is taken, or not safe to listen on."""
    BUG = 70
    JOURNAL = 74
    """What was accepted could not be committed; a new process recovers from what was."""
    STEPPED_DOWN = 75
    """It must not serve, for a peer has seen a later epoch; a new process may, above it."""


class CoordinatorSettings(
    FileSettings, msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """One coordinator. ``core`` overrides single fields of ``CoreSettings``."""

    listen: str
    """Where clients connect; hosts use the next port, or ``PATH.hosts``."""
    store: str = "memory:"
    blob_folder: str = ""
    """Where large payloads lie; by default beside the store, or in a temporary folder."""
    keys: str = ""
    """The folder of its keys; empty: everybody who can connect is trusted. Not for ipc."""
    insecure: bool = False
    """Listen where other machines can connect, although there are no keys."""
    epoch_floor: int = 0
    """The new epoch is at least this."""
    parent_fd: int | None = None
    """The process ends at once when this pipe does."""
    parent_pid: int | None = None
    """The process ends at once when this parent of it does."""
    remove: str = ""
    """A temporary folder of the parent's, removed by this process when the parent is gone."""
    ready_fd: int | None = None
    """One ``Word`` is written here, as a line of JSON, once it is known whether it serves."""
    log_format: Literal["text", "json"] = "text"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    messages_hwm: int | None = None
    """The high-water mark of the sockets, in messages; by default well above the largest credit."""
    core: dict[str, Any] = {}

    def core_settings(self) -> CoreSettings:
        """The settings of the core, completed; raises ``ConfigError`` for a wrong one."""
        minor = f"{sys.version_info.major}.{sys.version_info.minor}"
        values = {"python": minor, "farm": __version__} | self.core
        known = set(CoreSettings.__struct_fields__)
        if unknown := sorted(set(values) - known):
            raise ConfigError(f"core has no setting {unknown[0]!r}; there are {sorted(known)}")
        try:
            return msgspec.convert(values, CoreSettings)
        except msgspec.ValidationError as error:
            raise ConfigError(f"core: {error}") from None


class Word(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a coordinator says at its start: its epoch, or the kind of its error and the reason."""

    epoch: int = 0
    error: str = ""
    message: str = ""
