"""``python -m tests.chaos [--seconds N] [--seed S]``: real processes under faults, judged."""

import argparse
import sys
from pathlib import Path

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
    print(report)
    return int(bool(report.broken))


if __name__ == "__main__":
    sys.exit(main())
