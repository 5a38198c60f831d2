"""``python -m farm.coordinator --settings FILE``: one coordinator, as a process."""

import sys
from collections.abc import Sequence

from farm.coordinator.service import serve
from farm.coordinator.settings import CoordinatorSettings, ExitCode
from farm.errors import ConfigError

__all__ = ["main"]


def main(arguments: Sequence[str]) -> ExitCode:
    """Read the settings and serve; the exit code says how it ended."""
    match arguments:
        case ["--settings", path]:
            pass
        case _:
            sys.stderr.write("usage: python -m farm.coordinator --settings FILE\n")
            return ExitCode.CONFIG
    try:
        settings = CoordinatorSettings.read(path)
    except ConfigError as error:
        sys.stderr.write(f"farm.coordinator: {error}\n")
        return ExitCode.CONFIG
    return serve(settings)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
