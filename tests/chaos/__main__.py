"""``python -m tests.chaos [--seconds N] [--seed S]``: real processes under faults, judged.

A farm first, and then three schedulers on another one, for half as long.
"""

import argparse
import sys
from pathlib import Path

from tests.chaos import schedulers
from tests.chaos.run import run
from tests.hosts import run as hosts
from tests.hosts.net import why_not


def main() -> int:
    """Run, print; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--seconds", type=float, default=120.0, help="how long there are faults")
    parser.add_argument("--seed", type=int, default=1, help="which faults, and what work")
    parser.add_argument("--keep", type=Path, help="copy the run's files to this folder")
    parser.add_argument(
        "--hosts", action="store_true", help="each part in a network namespace of its own (root)"
    )
    options = parser.parse_args()
    if options.hosts and (reason := why_not()):
        print(f"skipped: {reason}")
        return 0
    report = (hosts.run if options.hosts else run)(options.seed, options.seconds, keep=options.keep)
    print(report, flush=True)
    if options.hosts:
        return int(bool(report.broken))
    keep = options.keep and options.keep / "schedulers"
    fires = schedulers.run(options.seed, options.seconds / 2, keep=keep)
    print(f"\n{fires}")
    return int(bool(report.broken or fires.broken))


if __name__ == "__main__":
    sys.exit(main())
