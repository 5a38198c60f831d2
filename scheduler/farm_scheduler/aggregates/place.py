"""Where the catalog of this machine is: beside the farm's store, unless told otherwise."""

import os
from pathlib import Path

from farm_scheduler.settings import CATALOG_NAME

__all__ = ["catalog_path"]

VARIABLE = "FARM_CATALOG"


def catalog_path() -> Path:
    """``FARM_CATALOG``, or ``aggregates.db`` in the user's state folder."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named)
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "farm" / CATALOG_NAME
