"""One measurement, as a process: reads an order as JSON from argv, writes the numbers as JSON."""

import json
import sys
from importlib import import_module
from pathlib import Path

from tests.benchmarks.case import Order

__all__: list[str] = []


def main(text: str) -> None:
    """Measure what the order says. The collector stays on, as users have it.

    Only its case is imported: others may need what an older commit, measured as base, has not.
    """
    order = Order(**(said := json.loads(text)) | {"folder": Path(said["folder"])})
    case = import_module(f"tests.benchmarks.case_{order.case.replace('-', '_')}").CASE
    numbers = case.measure(order)
    print(json.dumps(dict(numbers)), flush=True)


# Start methods other than fork import this module again in each worker.
if __name__ == "__main__":
    main(sys.argv[1])
