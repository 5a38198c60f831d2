"""Commands about farm itself, config and version; and where it keeps what it knows."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from farm.cli.output import Column
from farm.cli.run import Run, command

if TYPE_CHECKING:
    from farm.config import Config

__all__ = ["scheduler_state", "state_folder", "store_address"]

PANEL = "About"


@command("config", panel=PANEL, examples=["farm config", "FARM_ADDRESS=tcp://h:7070 farm config"])
def config(run: Run) -> None:
    """List all settings: their values, where each comes from, and its variable."""
    from farm.config import settings

    found = run.config()
    rows = [
        {
            "setting": one.path,
            "value": getattr(getattr(found, one.section), one.key),
            "from": found.origins.get(one.path, "default"),
            "variable": one.variable,
            "description": one.description,
        }
        for one in settings()
    ]
    columns = [
        Column("setting", "SETTING"),
        Column("value", "VALUE", lambda value: str(value) if value != "" else "''"),
        Column("from", "FROM"),
        Column("variable", "VARIABLE"),
    ]
    run.output.table(rows, columns, empty="")


@command("version", panel=PANEL, examples=["farm version", "farm version --json"])
def version(run: Run) -> None:
    """Print the versions of farm, its protocol and this Python."""
    from farm._version import __version__
    from farm.protocol.parts import PROTOCOL_VERSION

    python = sys.version.partition(" ")[0]
    data = {"farm": __version__, "protocol": PROTOCOL_VERSION, "python": python}
    run.output.facts(data, {name: str(value) for name, value in data.items()})


def store_address(config: "Config") -> str:
    """Where the tasks are kept: by default in the user's state folder, which is made."""
    return config.coordinator.store or str(state_folder() / "farm.db")


def state_folder() -> Path:
    """The user's folder for what farms keep; made if it is not there."""
    home = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    folder = Path(home).expanduser() / "farm"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def scheduler_state(config: "Config") -> Path:
    """Where a scheduler keeps what it knows: beside the store."""
    from farm_scheduler.settings import state_path

    return state_path(store_address(config), state_folder())
