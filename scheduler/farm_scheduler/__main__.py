"""``python -m farm_scheduler --settings FILE``: one scheduler, as a process."""

import sys
from collections.abc import Sequence

from farm.settings_file import run_service
from farm_scheduler.process import serve
from farm_scheduler.settings import SchedulerSettings

__all__ = ["main"]


def main(arguments: Sequence[str]) -> int:
    """Read the settings and serve; the exit code says how it ended."""
    return run_service("farm_scheduler", arguments, SchedulerSettings, serve)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
