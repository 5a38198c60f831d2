"""A coordinator that kills itself right after one of its commits, before anybody hears of it.

``python -m tests.commits.mortal --settings FILE --seed S --life N --deaths D``: the first ``D``
lives end so; the commit is the seed's. It is the real program, and a real SIGKILL.
"""

import argparse
import os
import random
import signal
import sys

from farm.coordinator.__main__ import main as serve
from farm.store.sqlite import SqliteStore

__all__ = ["COMMITS_MAX"]

COMMITS_MAX = 60
"""At the latest after so many commits of a life."""


def _die_after(commits: int) -> None:
    commit = SqliteStore.commit
    left = commits

    def counting(store, changes):
        nonlocal left
        commit(store, changes)
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    SqliteStore.commit = counting


def main() -> int:
    """Serve until it dies, or for good."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--settings", required=True)
    for name in ("--seed", "--life", "--deaths"):
        parser.add_argument(name, type=int, required=True)
    options = parser.parse_args()
    if options.life <= options.deaths:
        _die_after(random.Random(f"{options.seed} {options.life}").randint(1, COMMITS_MAX))
    return serve(["--settings", options.settings])


if __name__ == "__main__":
    sys.exit(main())
