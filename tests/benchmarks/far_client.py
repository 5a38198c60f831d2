"""No-op tasks on the hosts of a farm: ``python -m tests.benchmarks.far_client ADDRESS TASKS``.

Prints the tasks a second, from the first submit to the last result.
"""

import sys
from time import perf_counter

import farm
from tests.benchmarks.functions import noop

__all__ = ["main"]


def main(arguments: list[str]) -> None:
    """Warm up, measure, print."""
    address, size = arguments[0], int(arguments[1])
    with farm.Client(address, connect_timeout="30s") as client:
        for tasks in (size // 4, size):
            began = perf_counter()
            futures = [client.submit(noop) for _ in range(tasks)]
            for future in futures:
                future.result()
            took = perf_counter() - began
    print(size / took)


if __name__ == "__main__":
    main(sys.argv[1:])
