"""Where the catalog of this machine is: beside the farm's store, unless told otherwise."""

import os
from pathlib import Path

__all__ = ["CATALOG_NAME", "catalog_beside", "catalog_path"]

CATALOG_NAME = "aggregates.db"
VARIABLE = "FARM_CATALOG"


def catalog_path() -> Path:
    """``FARM_CATALOG``, or ``aggregates.db`` in the user's state folder."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named)
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "farm" / CATALOG_NAME


def catalog_beside(state: Path) -> Path:
    """The catalog beside a scheduler's state: one of each for a store."""
    return state.with_name(state.name.replace("schedules.db", CATALOG_NAME))
