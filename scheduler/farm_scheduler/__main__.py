"""``python -m farm_scheduler --settings FILE``: one scheduler, as a process."""

import signal
import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str]) -> int:
    """Read the settings and serve; the exit code says how it ended."""
    # It has yet to read its files, so nothing is missed of a SIGHUP that comes while it starts.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    from farm.settings_file import run_service  # noqa: PLC0415 - these take a while
    from farm_scheduler.process import serve  # noqa: PLC0415
    from farm_scheduler.settings import SchedulerSettings  # noqa: PLC0415

    return run_service("farm_scheduler", arguments, SchedulerSettings, serve)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
