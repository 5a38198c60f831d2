"""``python -m farm_workers --settings FILE``: one host, as a process."""

import sys
from collections.abc import Sequence

from farm.errors import ConfigError
from farm_workers.service import serve
from farm_workers.settings import AgentSettings, ExitCode

__all__ = ["main"]


def main(arguments: Sequence[str]) -> ExitCode:
    """Read the settings and be a host; the exit code says how it ended."""
    match arguments:
        case ["--settings", path]:
            pass
        case _:
            sys.stderr.write("usage: python -m farm_workers --settings FILE\n")
            return ExitCode.CONFIG
    try:
        settings = AgentSettings.read(path)
    except ConfigError as error:
        sys.stderr.write(f"farm_workers: {error}\n")
        return ExitCode.CONFIG
    return serve(settings)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
