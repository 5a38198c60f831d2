"""Runs the command of a schedule, in a worker: output kept, exit code judged."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["OUTPUT_BYTES", "CommandFailed", "run_command"]

OUTPUT_BYTES = 16_384
"""The end of what a command writes that is kept with its outcome; `farm logs` has more."""
PIECE_BYTES = 65_536
END_SECONDS = 3.0
"""How long a command that is stopped may take to end; less than the grace of a stop."""


class CommandFailed(Exception):
    """A command ended with an exit code that is not 0; ``output`` is the end of what it wrote."""

    def __init__(self, message: str, exit_code: int | None = None, output: str = "") -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.output = output

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.exit_code, self.output)


def run_command(command: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any]:
    """Run it to its end: ``{"exit_code": 0, "output": …}``.

    ``environment`` comes on top of the worker's. What the command writes goes on to the output of
    the task. Raises ``CommandFailed`` if the exit code is another one, or there is no such command.
    If the task is stopped, so is the command, with all that it has started in its process group.
    """
    process = _Process()
    try:
        process.start(command, {**os.environ, **environment})
        output = process.output()
        process.wait()
    except BaseException:
        process.end()
        raise
    if process.returncode:
        how = f"exit code {process.returncode}"
        if process.returncode < 0:
            how = f"signal {-process.returncode}"
        raise CommandFailed(f"{command[0]!r} ended with {how}", process.returncode, output)
    return {"exit_code": 0, "output": output}


class _Process(subprocess.Popen[bytes]):
    """A command, started on a thread of its own, for a stop is raised on the main thread alone.

    There it could come between the fork and the note of the new process's number, and nobody would
    know what is to be ended.
    """

    def __init__(self) -> None:
        self.pid = 0
        self.stdout = None
        self._started = threading.Event()
        self._problem: OSError | None = None

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start it, in a process group of its own."""
        threading.Thread(target=self._start, args=(command, environment), daemon=True).start()
        self._started.wait()
        if self._problem is not None:
            path = os.environ.get("PATH", "")
            raise CommandFailed(
                f"{command[0]!r} cannot be run on {os.uname().nodename}: {self._problem.strerror}; "
                f"write its whole path, or have it where PATH says: {path}"
            )

    def _start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        try:
            super().__init__(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment,
                process_group=0,
            )
        except OSError as error:
            self._problem = error
        finally:
            self._started.set()

    def output(self) -> str:
        """The end of what it writes, when it writes nothing more."""
        kept = b""
        if self.stdout is not None:
            with self.stdout as stdout:
                while piece := os.read(stdout.fileno(), PIECE_BYTES):
                    sys.stdout.buffer.write(piece)
                    sys.stdout.buffer.flush()
                    kept = (kept + piece)[-OUTPUT_BYTES:]
        return kept.decode("utf-8", "replace")

    def end(self) -> None:
        """Ask it to end, if it was started, and see to it that it does."""
        self._started.wait(END_SECONDS)  # in vain if the stop came before the thread was there
        if self.pid and self.returncode is None:
            self._tell(signal.SIGTERM)
            try:
                self.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                self._tell(signal.SIGKILL)
                self.wait()
        if self.stdout is not None:
            self.stdout.close()

    def _tell(self, number: int) -> None:
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:  # it is gone, or has no group of its own yet
            self.send_signal(number)
