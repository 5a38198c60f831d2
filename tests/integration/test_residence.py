"""More payload than the coordinator may have in memory stays in the store, and all of it runs."""

import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cloudpickle
import psutil
import pytest

import farm
from tests.processes import own_environment

# Workers need not import this module, and what it imports, to run its functions.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

PATIENCE = 60.0
MIB = 1 << 20
BUDGET = 32 * MIB
OVERHEAD = 96 * MIB
"""Beside payloads and what Python itself has: the sizes of what is stored, what the disk and the
sockets have in hand, and holes in the heap."""


@pytest.fixture
def start(tmp_path):
    """Starts ``farm`` commands, which end with the test."""
    started = []

    def make(*words, **variables):
        command = [sys.executable, "-m", "farm", *words, "--log-level", "error"]
        started.append(subprocess.Popen(command, env=own_environment(tmp_path) | variables))
        return started[-1]

    yield make
    for process in reversed(started):
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)


def until(look):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(0.02)
    raise AssertionError("it took too long")


def digest_of(data):
    return hashlib.sha256(data).digest()


@pytest.mark.slow
def test_300_mb_of_payload_wait_in_the_store_and_all_of_it_runs(start):
    size, count = 30_000, 10_000
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as folder:
        address = f"ipc://{folder}/s"
        coordinator = start(
            *("coordinator", "--listen", address, "--store", str(Path(folder) / "farm.db")),
            FARM_COORDINATOR_RESIDENT_PAYLOAD_BYTES=str(BUDGET),
        )
        process = psutil.Process(coordinator.pid)
        with farm.Client(address) as client:
            client.query("status")
            before = process.memory_info().rss
            seeds = [os.urandom(8) for _ in range(count)]
            futures = [client.submit(digest_of, seed * (size // 8)) for seed in seeds]
            until(lambda: client.query("status")["memory"]["payload_bytes_stored"] > 200 * MIB)
            until(lambda: client.query("status")["journal"]["behind"] == 0)
            memory = client.query("status")["memory"]
            assert memory["payload_bytes"] - memory["payload_bytes_pinned"] <= BUDGET
            until(
                lambda: (
                    client.query("status")
                    and process.memory_info().rss - before < BUDGET + OVERHEAD
                )
            )
            start("worker", address, "--slots", "2")
            for seed, future in zip(seeds, futures, strict=True):
                assert future.result(PATIENCE) == digest_of(seed * (size // 8))
            memory = client.query("status")["memory"]
            assert memory["payload_bytes"] == memory["payload_bytes_stored"] == 0
            assert memory["read_back"] > 0
