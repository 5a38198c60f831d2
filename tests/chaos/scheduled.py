"""What the fires of a chaos run do: each writes down that it ran, before anything else."""

import os
from pathlib import Path

__all__ = ["RAN", "note"]

RAN = "CHAOS_RAN"
"""The variable that names the folder of these files."""


def note(name, *, fire_id):
    path = Path(os.environ[RAN], name)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
    try:
        os.write(fd, f"{fire_id}\n".encode())
    finally:
        os.close(fd)
