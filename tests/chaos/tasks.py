"""What the tasks of a chaos run do: each writes down that it began, under which token, and its end.

A line is written before anything else happens, to a file of the worker's own, so that a SIGKILL at
any moment leaves what really ran. Every task returns who it was: ``(id, epoch, attempt, nonce)``.
"""

import os
import time
from pathlib import Path

import farm

__all__ = ["EXECUTIONS", "fail", "once", "work", "work_padded"]

EXECUTIONS = "CHAOS_EXECUTIONS"
"""The variable that names the folder of these files."""

_files: dict[int, int] = {}  # by process id, for a fork inherits what its parent had


def _note(*words):
    pid = os.getpid()
    fd = _files.get(pid)
    if fd is None:
        path = Path(os.environ[EXECUTIONS], f"{pid}-{time.monotonic_ns()}")
        fd = _files[pid] = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
    os.write(fd, (" ".join(map(str, words)) + "\n").encode("ascii"))


def _run(kind, seconds):
    task = farm.current_task()
    nonce = os.urandom(6).hex()
    who = (task.id, *task.token, nonce)
    _note("begin", kind, *who, time.monotonic())
    time.sleep(seconds)
    _note("end", kind, *who, time.monotonic())
    return who


@farm.task(name="chaos.work")
def work(seconds):
    """An ordinary task."""
    return _run("work", seconds)


def work_padded(argument):
    """One with large arguments and results."""
    seconds, padding = argument
    return *_run("padded", seconds), padding[::-1]


@farm.task(name="chaos.once")
def once(seconds):
    """One that is submitted with ``max_losses=0``."""
    return _run("once", seconds)


def fail(seconds):
    """One that raises."""
    raise ValueError(*_run("fail", seconds))
