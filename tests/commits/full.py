"""A real farm whose disk fills up, and is freed again: ``python -m tests.commits.full``.

The store lies on a small file system in memory, mounted where only this process and its children
see it. Where a machine does not allow that, the exit code is ``SKIPPED`` and the reason is printed.
"""

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import farm
from farm.client.session import Session
from farm.protocol.messages import Refused
from tests.chaos import tasks
from tests.chaos.client import Notes
from tests.chaos.history import judge, read
from tests.processes import Place

__all__ = ["SKIPPED", "main"]

SKIPPED = 77
DISK_BYTES = 48 << 20
PATIENCE_SECONDS = 60.0
LOOK_SECONDS = 0.05
PIECE_BYTES = 1 << 16
PADDING = bytes(20_000)
TRIES_MAX = 2_000
TASKS = 40


class Filler:
    """Another program, that takes every byte there is until it is told to give all back."""

    def __init__(self, path):
        self._path = path
        self._stop = threading.Event()
        self._filled = threading.Event()
        self._thread = threading.Thread(target=self._fill, daemon=True)

    def start(self):
        self._thread.start()
        assert self._filled.wait(PATIENCE_SECONDS)

    def _fill(self):
        with self._path.open("ab", buffering=0) as file:
            while not self._stop.is_set():
                try:
                    for size in (PIECE_BYTES, 512):
                        while not self._stop.is_set():
                            if file.write(bytes(size)) < size:
                                break
                except OSError:
                    self._filled.set()
                    self._stop.wait(LOOK_SECONDS)

    def free(self):
        self._stop.set()
        self._thread.join(PATIENCE_SECONDS)
        self._path.unlink()


def _listen_for_reasons(reasons):
    """Gather why submissions are refused."""
    receive = Session.receive

    def hearing(session, message, now):
        if isinstance(message, Refused) and message.reason == "busy":
            reasons.add(message.message)
        receive(session, message, now)

    Session.receive = hearing


def _until_busy(view):
    """Submit until the farm takes no more; what it had taken, and what was said then."""
    futures = []
    for _ in range(TRIES_MAX):
        try:
            futures.append(view.submit(tasks.work_padded, (0.0, PADDING)))
        except farm.Busy as busy:
            return futures, busy
        time.sleep(LOOK_SECONDS / 5)
    raise AssertionError(f"{TRIES_MAX} tasks were taken with a full disk, and nobody said Busy")


def _scenario(place, client, coordinator, ballast, reasons):
    for future in client.submit_many(tasks.work, [0.0] * TASKS):
        future.result(PATIENCE_SECONDS)
    # Accepted, and not over when the disk is full.
    futures = list(client.submit_many(tasks.work, [0.02] * TASKS * 3))
    assert client.connection.wait_acknowledged(PATIENCE_SECONDS)
    filler = Filler(ballast)
    filler.start()
    more, busy = _until_busy(client.options(block=False))
    futures += more
    assert busy.retry_after > 0
    assert any("full" in reason for reason in reasons), f"no reason was given: {reasons}"
    assert client.query("status")["hosts"] == 1, "it serves nothing while the disk is full"
    open_before = sum(not future.done() for future in futures)
    filler.free()
    for future in futures:
        future.result(PATIENCE_SECONDS)
    # A blocking submission waits until the farm has noticed, by itself.
    assert client.submit(tasks.work, 0.0).result(PATIENCE_SECONDS)
    assert coordinator.alive
    assert coordinator.lives == 1
    return len(more), open_before


def _inside(mounted):
    """The scenario, with the disk already mounted at a folder."""
    with Place("full", store=mounted / "farm.db") as place:
        for name in ("executions", "clients"):
            (place.folder / name).mkdir()
        coordinator = place.coordinator()
        agent = place.agent("host", **{tasks.EXECUTIONS: str(place.folder / "executions")})
        coordinator.start()
        agent.start()
        reasons = set()
        _listen_for_reasons(reasons)
        Notes(place.folder / "clients" / "one").listen()
        with farm.Client(place.address, connect_timeout=PATIENCE_SECONDS) as client:
            taken, waited = _scenario(place, client, coordinator, mounted / "ballast", reasons)
        problems = place.complaints()
        codes = agent.end(), coordinator.end()
        history = read(place.folder)
        broken = judge(history)
    print(
        f"{len(history.acknowledged)} tasks acknowledged, {len(history.published)} published; "
        f"{taken} taken while the disk filled up, {waited} waited until it was freed"
    )
    print("said:", *sorted(reasons))
    if broken or problems or any(codes):
        print("BROKEN:", dict(broken), problems, codes)
        return 1
    return 0


def main(arguments):
    """Mount, run; 0 if all is well, ``SKIPPED`` if this machine mounts nothing."""
    if arguments[:1] == ["--mounted"]:
        return _inside(Path(arguments[1]))
    unshare = shutil.which("unshare")
    if unshare is None or os.geteuid() != 0:
        print("skipped: it takes root and unshare(1) to mount a small file system")
        return SKIPPED
    with Place("disk") as place:
        here = place.folder / "disk"
        here.mkdir()
        script = (
            f"mount -t tmpfs -o size={DISK_BYTES} farm-test {here} || exit {SKIPPED}\n"
            f'exec "$0" -m tests.commits.full --mounted {here}'
        )
        done = subprocess.run(
            [unshare, "--mount", "--propagation", "private", "sh", "-c", script, sys.executable],
            check=False,
        )
    if done.returncode == SKIPPED:
        print("skipped: this machine lets nobody mount a file system")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
