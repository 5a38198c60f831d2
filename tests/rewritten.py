"""python -m tests.rewritten: what pytest compiles on a fresh clone is compiled once.

Pytest rewrites the asserts of a module when it is imported first, and each of the processes that
run the suite imports all of them at the same time: each would do the whole work.
"""

import subprocess
import sys

from tests.forked import REPOSITORY

HALVES = 2


def _is_compiled(path):
    """Whether pytest has rewritten this version of a module."""
    found = (path.parent / "__pycache__").glob(
        f"{path.stem}.{sys.implementation.cache_tag}-pytest*"
    )
    return any(one.stat().st_mtime >= path.stat().st_mtime for one in found)


def main():
    paths = sorted(REPOSITORY.glob("tests/*/test_*.py"))
    if sum(map(_is_compiled, paths)) > len(paths) / 2:
        return
    command = [sys.executable, "-m", "pytest", "--collect-only", "-qq", "-p", "no:cacheprovider"]
    halves = [
        subprocess.Popen([*command, *paths[one::HALVES]], cwd=REPOSITORY, stdout=subprocess.DEVNULL)
        for one in range(HALVES)
    ]
    for half in halves:
        half.wait()  # whatever is wrong, the suite will say


if __name__ == "__main__":
    main()
