"""``python -m farm_scheduler --settings FILE``: one scheduler, as a process."""

import sys
from collections.abc import Sequence

from farm.errors import FarmError
from farm_scheduler.process import serve
from farm_scheduler.settings import SchedulerSettings

__all__ = ["main"]

CONFIG = 3


def main(arguments: Sequence[str]) -> int:
    """Read the settings and serve; the exit code says how it ended."""
    match arguments:
        case ["--settings", path]:
            pass
        case _:
            sys.stderr.write("usage: python -m farm_scheduler --settings FILE\n")
            return CONFIG
    try:
        return serve(SchedulerSettings.read(path))
    except FarmError as error:
        sys.stderr.write(f"farm_scheduler: {error}\n")
        return CONFIG


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
