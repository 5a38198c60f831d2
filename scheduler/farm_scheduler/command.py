"""Runs the command of a schedule, in a worker: output kept, exit code judged."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["OUTPUT_BYTES", "CommandFailed", "run_command"]

OUTPUT_BYTES = 16_384
"""The end of what a command writes that is kept with its outcome; `farm logs` has more."""
PIECE_BYTES = 65_536


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
    """
    try:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
        )
    except OSError as error:
        path = os.environ.get("PATH", "")
        raise CommandFailed(
            f"{command[0]!r} cannot be run on {os.uname().nodename}: {error.strerror}; write its "
            f"whole path, or have it where PATH says: {path}"
        ) from None
    kept = b""
    with process:
        if process.stdout is not None:
            while piece := os.read(process.stdout.fileno(), PIECE_BYTES):
                sys.stdout.buffer.write(piece)
                sys.stdout.buffer.flush()
                kept = (kept + piece)[-OUTPUT_BYTES:]
    output = kept.decode("utf-8", "replace")
    if process.returncode:
        how = f"exit code {process.returncode}"
        if process.returncode < 0:
            how = f"signal {-process.returncode}"
        raise CommandFailed(f"{command[0]!r} ended with {how}", process.returncode, output)
    return {"exit_code": 0, "output": output}
