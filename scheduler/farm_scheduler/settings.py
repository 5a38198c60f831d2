"""What a scheduler is told when it starts."""

from pathlib import Path

import msgspec

from farm.settings_file import FileSettings

__all__ = ["CATALOG_NAME", "SchedulerSettings", "catalog_beside", "state_path"]

STATE_NAME = "schedules.db"
CATALOG_NAME = "aggregates.db"
"""What the catalog of aggregates is called by default."""


class SchedulerSettings(
    FileSettings, msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """``files`` as ``read_files`` takes them; ``state`` is the path of the state file.

    ``address`` may be empty where the token says it. ``token`` is the path of a file with it, if
    ``FARM_TOKEN`` is not to be used; ``keys`` the folder with the keys of this user's own farm.
    ``parent_fd`` and ``parent_pid``: see ``farm.parent``.
    """

    files: list[str]
    address: str
    state: str
    token: str = ""
    keys: str = ""
    sys_path: list[str] = []
    log_format: str = "text"
    log_level: str = "info"
    parent_fd: int | None = None
    parent_pid: int | None = None


def state_path(store: str, default: Path) -> Path:
    """Where the schedules of a farm with this store are kept: beside it, or in ``default``."""
    if store == "memory:":
        return default / STATE_NAME
    path = Path(store)
    return path.with_name(STATE_NAME if path.stem == "farm" else f"{path.stem}-{STATE_NAME}")


def catalog_beside(state: Path) -> Path:
    """The catalog of aggregates that belongs to a scheduler's state."""
    name = (
        state.name.removesuffix(STATE_NAME) if state.name.endswith(STATE_NAME) else f"{state.stem}-"
    )
    return state.with_name(f"{name}{CATALOG_NAME}")
