"""``python -m farm.gateway --settings FILE``: one gateway, as a process."""

import sys
from collections.abc import Sequence

from farm.errors import ConfigError
from farm.gateway.service import serve
from farm.gateway.settings import ExitCode, GatewaySettings

__all__ = ["main"]


def main(arguments: Sequence[str]) -> ExitCode:
    """Read the settings and serve; the exit code says how it ended."""
    match arguments:
        case ["--settings", path]:
            pass
        case _:
            sys.stderr.write("usage: python -m farm.gateway --settings FILE\n")
            return ExitCode.CONFIG
    try:
        settings = GatewaySettings.read(path)
    except ConfigError as error:
        sys.stderr.write(f"farm.gateway: {error}\n")
        return ExitCode.CONFIG
    return serve(settings)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
