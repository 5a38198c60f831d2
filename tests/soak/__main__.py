"""``python -m tests.soak [--seconds N]``: a table of what grows; 1 if too much does."""

import argparse
import sys

from tests.soak.run import HISTORY_SECONDS, run


def main() -> int:
    """Soak, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument(
        "--history",
        type=float,
        help="how many seconds it is remembered how tasks ended; "
        f"default: {HISTORY_SECONDS:g}, or a quarter of a short run",
    )
    options = parser.parse_args()
    report = run(options.seconds, history_seconds=options.history)
    print(report)
    return int(bool(report.problems))


if __name__ == "__main__":
    sys.exit(main())
