"""``python -m tests.gateway --seconds 60 --seed 1``: half the time each for requests and load."""

import argparse
import sys

from tests.gateway import load, random_requests


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.gateway", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--connections", type=int, default=200)
    told = parser.parse_args()
    half = max(told.seconds // 2, 5)
    problems, said = random_requests.run(half, told.seed)
    print(said.strip().splitlines()[-1])
    found = load.run(half, told.connections)
    print(found)
    for problem in (*problems, *found.problems[:20]):
        print(problem)
    return 1 if problems or found.problems else 0


if __name__ == "__main__":
    sys.exit(main())
