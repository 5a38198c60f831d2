"""``python -m farm.gateway --settings FILE``: one gateway, as a process."""

import sys
from collections.abc import Sequence

from farm.gateway.service import serve
from farm.gateway.settings import GatewaySettings
from farm.settings_file import run_service

__all__ = ["main"]


def main(arguments: Sequence[str]) -> int:
    """Read the settings and serve; the exit code says how it ended."""
    return run_service("farm.gateway", arguments, GatewaySettings, serve)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
