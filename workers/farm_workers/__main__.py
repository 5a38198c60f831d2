"""``python -m farm_workers --settings FILE``: one host, as a process."""

import sys
from collections.abc import Sequence
from functools import partial

from farm.settings_file import run_service
from farm_workers.service import serve
from farm_workers.settings import AgentSettings

__all__ = ["main"]


def main(arguments: Sequence[str]) -> int:
    """Read the settings and be a host; the exit code says how it ended."""
    return run_service("farm_workers", arguments, AgentSettings, partial(serve, is_new=True))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
