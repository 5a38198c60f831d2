"""``python -m tests.fuzz [--frames N] [--seed S] [--only PART ...]``: all that must bear anything.

A fifth of the frames goes through real sockets; a tenth as many mutated records, and pipe messages,
are tried. 1 if anything raised, grew, or stopped serving.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping

from tests.fuzz.pipe import fuzz_pipe
from tests.fuzz.ports import Found, fuzz_decoders
from tests.fuzz.records import fuzz_records
from tests.fuzz.sockets import fuzz_sockets

Part = Callable[[int, int], Mapping[str, int]]
PARTS: dict[str, tuple[Part, int]] = {
    "ports": (fuzz_decoders, 1),
    "records": (fuzz_records, 10),
    "pipe": (fuzz_pipe, 10),
    "sockets": (fuzz_sockets, 5),
}
"""By name: what is fuzzed, and into which share of the frames."""


def main() -> int:
    """Fuzz, print; 1 if something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--frames", type=int, default=1_000_000, help="default: 1,000,000")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=PARTS, help="default: all")
    options = parser.parse_args()
    failed = False
    for name in options.only or PARTS:
        part, share = PARTS[name]
        count = max(1, options.frames // share)
        began = time.monotonic()
        try:
            counts = part(count, options.seed)
        except Found as found:
            failed = True
            print(f"{name:8} BROKEN: {found}", flush=True)
            continue
        told = ", ".join(f"{what} {number:,}" for what, number in sorted(counts.items()))
        print(f"{name:8} {count:,} in {time.monotonic() - began:.0f} s: {told}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
