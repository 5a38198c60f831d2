"""The client of a soak, as a process: submits no-ops at a rate, or as fast as it goes.

``python -m tests.soak.load ADDRESS PARENT`` reads lines ``RATE SECONDS`` (a rate of 0: no limit)
and answers each with one line, how many tasks ended.
"""

import os
import sys
import time
from collections import deque

import farm
from farm.parent import watch_parent

WINDOW = 4096
"""So many tasks are on the way at once, at most."""
BURST_SECONDS = 0.02


def nothing(_):
    """A task."""


def run(client, rate, seconds):
    """Submit for a time, wait for the rest; how many tasks ended."""
    began = now = time.monotonic()
    flying = deque()
    done = 0
    while now < began + seconds:
        due = WINDOW if not rate else int((now - began) * rate) - done - len(flying)
        for _ in range(min(due, WINDOW - len(flying))):
            flying.append(client.submit(nothing, done))
        while flying and (flying[0].done() or len(flying) >= WINDOW):
            flying.popleft().result()
            done += 1
        if rate:
            time.sleep(BURST_SECONDS)
        now = time.monotonic()
    for future in flying:
        future.result()
    return done + len(flying)


def main(arguments):
    address, parent = arguments
    watch_parent(lambda: os._exit(1), None, int(parent))
    with farm.Client(address, connect_timeout=60.0) as client:
        for line in sys.stdin:
            rate, seconds = map(float, line.split())
            print(run(client, rate, seconds), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
