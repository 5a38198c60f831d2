"""Calls the hooks of schedules: a command with the fire's record on its stdin, or a URL."""

import logging
import os
import subprocess
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from threading import BoundedSemaphore

import msgspec

from farm_scheduler.core import Row

__all__ = ["Hooks"]

logger = logging.getLogger("farm.scheduler")

THREADS = 4
WAITING_MAX = 1000
"""Calls that may wait; of more, the log has a line each, and nobody is called."""
SECONDS = 60.0
"""How long a call may take."""


class Hooks:
    """Calls them on a few threads of its own; what goes wrong is logged."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, "farm-hooks")
        self._room = BoundedSemaphore(WAITING_MAX)

    def call(self, hook: str | tuple[str, ...], what: str, row: Row) -> None:
        """Call one for a fire that failed, or is late."""
        if not hook:
            return
        if not self._room.acquire(blocking=False):
            logger.error("too many hooks wait: nobody is told of %s of %s", what, row.schedule)
            return
        record = msgspec.json.encode({"event": what, **msgspec.structs.asdict(row)})
        self._threads.submit(self._call, hook, what, row.schedule, record)

    def _call(self, hook: str | tuple[str, ...], what: str, name: str, record: bytes) -> None:
        try:
            if isinstance(hook, str):
                _post(hook, record)
            else:
                _run(hook, what, name, record)
        except Exception as error:  # noqa: BLE001 - a hook is a stranger's; its fate is logged
            logger.error("on_%s of schedule %s: %r: %s", what, name, hook, error)  # noqa: TRY400
        finally:
            self._room.release()

    def close(self) -> None:
        """Wait for those that run; drop those that wait."""
        self._threads.shutdown(wait=True, cancel_futures=True)


def _post(url: str, record: bytes) -> None:
    request = urllib.request.Request(  # noqa: S310 - a schedule's hook begins with http
        url, record, {"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=SECONDS):  # noqa: S310 - the same
        pass


def _run(command: tuple[str, ...], what: str, name: str, record: bytes) -> None:
    environment = {**os.environ, "FARM_EVENT": what, "FARM_SCHEDULE": name}
    done = subprocess.run(
        command, input=record, env=environment, capture_output=True, timeout=SECONDS, check=False
    )
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip()[-500:]
        raise RuntimeError(f"exit code {done.returncode}: {said}")
