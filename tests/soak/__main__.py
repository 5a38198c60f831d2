"""``python -m tests.soak [--seconds N]``: a table of what grows; 1 if too much does."""

import argparse
import sys

from tests.soak.run import run


def main() -> int:
    """Soak, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--seconds", type=float, default=600.0)
    report = run(parser.parse_args().seconds)
    print(report)
    return int(bool(report.problems))


if __name__ == "__main__":
    sys.exit(main())
