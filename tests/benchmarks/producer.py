"""A program that submits tasks to a farm: as told by lines of JSON, each answered by one.

``rate``: so many a second, whatever becomes of them; without one a few at a time, each after
another has ended. The answer says how many were accepted, and how many came back as they should.
"""

import json
import sys
from collections import deque
from time import perf_counter, sleep
from typing import Any

from tests.benchmarks.functions import hold

__all__ = ["PAYLOAD_BYTES", "TASK_SECONDS"]

PAYLOAD_BYTES = 10_000
TASK_SECONDS = 0.001
OUTSTANDING = 256
"""Tasks of a producer that is not told a rate."""
AHEAD_SECONDS = 0.002
"""A producer that is so far ahead of its rate sleeps."""


class Producer:
    """Submits, and looks after what it has submitted."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._waiting: deque[Any] = deque()
        self._fill = bytes(PAYLOAD_BYTES - 8)
        self.accepted = self.right = 0
        self.errors: list[str] = []

    def submit(self) -> None:
        """One task; waits if the farm is full."""
        payload = self.accepted.to_bytes(8, "big") + self._fill
        self._waiting.append(self._client.submit(hold, TASK_SECONDS, payload))
        self.accepted += 1

    def take(self, *, left: int | None = None) -> None:
        """Look at results that are there, or wait until so many tasks are left."""
        waiting = self._waiting
        while waiting and (waiting[0].done() if left is None else len(waiting) > left):
            try:
                self.right += waiting.popleft().result() == PAYLOAD_BYTES
            except Exception as error:  # noqa: BLE001 - it is told
                self.errors.append(repr(error))

    def run(self, seconds: float, rate: float | None) -> None:
        """Submit for so long."""
        began = perf_counter()
        submitted = 0
        while (passed := perf_counter() - began) < seconds:
            if rate is None:
                self.take(left=OUTSTANDING - 1)
            elif (ahead := submitted / rate - passed) > AHEAD_SECONDS:
                sleep(ahead)
            self.submit()
            submitted += 1
            self.take()


def main(address: str) -> None:
    """Do what the lines on stdin say."""
    import farm

    with farm.Client(address) as client:
        print(json.dumps("ready"), flush=True)
        for line in sys.stdin:
            order = json.loads(line)
            producer = Producer(client)
            producer.run(order["seconds"], order.get("rate"))
            print(json.dumps("submitted"), flush=True)
            producer.take(left=0)
            answer = [producer.accepted, producer.right, producer.errors[:3]]
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
