"""One measurement as a process: started, given its turns if it works in parts, read, ended."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from threading import Timer
from typing import Self

__all__ = ["ROOT", "Measurement", "MeasurementFailed"]

ROOT = Path(__file__).resolve().parents[2]


class MeasurementFailed(Exception):
    """A measurement's process failed; the message has its last words."""


class Measurement:
    """A context manager; all that the process has started ends with it.

    It has a folder of its own on the project's disk, and ``limit`` seconds. ``tree`` is the
    checkout that it imports.
    """

    def __init__(self, tree: Path, order: dict[str, object], limit: float) -> None:
        build = ROOT / "build"
        build.mkdir(exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(prefix="bench-", dir=build))
        self._complaints = self._folder / "complaints"
        path = [str(tree), str(tree / "workers"), str(tree / "scheduler")]
        said = json.dumps({**order, "folder": str(self._folder)})
        with self._complaints.open("w") as complaints:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.benchmarks.child", said],
                cwd=tree,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                text=True,
                start_new_session=True,  # so that all it started can be ended with it
            )
        self._limit = limit
        self._late = False
        self._timer = Timer(limit, self._give_up)
        self._timer.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._kill()
        self._process.communicate()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _give_up(self) -> None:
        self._late = True
        self._kill()

    def wait(self) -> None:
        """Until it has done its part, or is ready for the first; see ``Order.turn``."""
        self._line()

    def go(self) -> None:
        """It is its turn."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # ``wait`` will say why
            self._process.stdin.write("\n")
            self._process.stdin.flush()

    def numbers(self) -> dict[str, float]:
        """What it has measured, when it is done."""
        try:
            numbers: dict[str, float] = json.loads(self._line())
        except ValueError:
            raise MeasurementFailed("it said something else than numbers") from None
        return numbers

    def _line(self) -> str:
        """The next that it says; raises ``MeasurementFailed`` if it says no more."""
        assert self._process.stdout is not None
        if line := self._process.stdout.readline():
            return line
        if self._late:
            raise MeasurementFailed(f"no end after {self._limit:.0f} s")
        code = self._process.wait()
        last = self._complaints.read_text("utf-8", "replace").strip().splitlines()[-1:]
        raise MeasurementFailed(f"failed with {code}: {(last or ['it said nothing'])[0]}")
