"""One measurement, as a process: reads an order as JSON from argv, writes the numbers as JSON."""

import json
import sys
from pathlib import Path

from tests.benchmarks.case import Order
from tests.benchmarks.cases import CASES

__all__: list[str] = []


def main(text: str) -> None:
    """Measure what the order says. The collector stays on, as users have it."""
    order = Order(**(said := json.loads(text)) | {"folder": Path(said["folder"])})
    numbers = CASES[order.case].measure(order)
    print(json.dumps(dict(numbers)), flush=True)


# Start methods other than fork import this module again in each worker.
if __name__ == "__main__":
    main(sys.argv[1])
