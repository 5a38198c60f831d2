"""``python -m farm.cli.gateway_process --settings FILE``: a gateway that knows of schedules, too.

The gateway and the scheduler, with its aggregates, do not import each other; here they meet.
"""

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from farm.gateway.settings import ExitCode, GatewaySettings
from farm.settings_file import run_service

if TYPE_CHECKING:
    from farm.gateway.aggregates import Library
    from farm.gateway.schedules import Desk

__all__ = ["main", "serve_with_schedules"]


def serve_with_schedules(settings: GatewaySettings) -> ExitCode:
    """Run a gateway, with the schedules of this machine if it is told where they are kept."""
    from farm.gateway.service import serve

    return serve(settings, _desk(settings.schedules), _library(settings.schedules))


def _desk(state: str) -> "Desk | None":
    if not state or find_spec("cronsim") is None:
        return None
    from farm_scheduler.desk import Desk

    return Desk(state)


def _library(state: str) -> "Library | None":
    if not state or find_spec("duckdb") is None or find_spec("cronsim") is None:
        return None
    from pathlib import Path

    from farm_scheduler.aggregates.library import Library
    from farm_scheduler.settings import catalog_beside

    return Library(catalog_beside(Path(state)))


def main(arguments: Sequence[str]) -> int:
    """Read the settings and serve; the exit code says how it ended."""
    return run_service("farm.cli.gateway_process", arguments, GatewaySettings, serve_with_schedules)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
