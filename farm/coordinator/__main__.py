"""``python -m farm.coordinator --settings FILE``: one coordinator, as a process."""

import sys
from collections.abc import Sequence

from farm.coordinator.service import serve
from farm.coordinator.settings import CoordinatorSettings
from farm.settings_file import run_service

__all__ = ["main"]


def main(arguments: Sequence[str]) -> int:
    """Read the settings and serve; the exit code says how it ended."""
    return run_service("farm.coordinator", arguments, CoordinatorSettings, serve)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
