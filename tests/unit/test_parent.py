"""A service ends with the process that started it, however that ends, and not before."""

import contextlib
import os
import select
import signal
import subprocess
import sys

import pytest

WAIT_SECONDS = 30.0
PARENT = """
import os, signal, sys, threading
from farm.parent import watch_parent

kind, report = sys.argv[1], int(sys.argv[2])
read, write = os.pipe()

def start():
    parent = os.getpid()
    if os.fork():
        return
    os.close(write)
    def gone():
        os.write(report, b"gone\\n")
        os._exit(0)
    watch_parent(gone, read if kind != "process" else None, parent if kind != "pipe" else None)
    os.write(report, b"here\\n")
    signal.pause()

if kind == "thread":
    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
else:
    start()
if kind == "forked" and not (holder := os.fork()):
    os.write(report, b"%d holds the pipe\\n" % os.getpid())
    signal.pause()
signal.pause()
"""


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="the pipe has to do here")
@pytest.mark.parametrize("kind", ["pipe", "process", "forked", "thread"])
def test_it_hears_of_the_end_of_its_parent(kind):
    """Also if a process that was forked holds the pipe, and if a thread started it that is over."""
    read, write = os.pipe()
    command = [sys.executable, "-W", "ignore", "-c", PARENT, kind, str(write)]
    parent = subprocess.Popen(command, pass_fds=[write])
    os.close(write)
    said = ""
    try:
        for word in ["here", "holds the pipe"] if kind == "forked" else ["here"]:
            said = until(read, said, word)
        parent.kill()
        parent.wait()
        said = until(read, said, "gone")
    finally:
        parent.kill()
        parent.wait()
        os.close(read)
        for line in said.splitlines():
            if "holds" in line:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(line.split()[0]), signal.SIGKILL)


def until(descriptor, said, word):
    """What was said until a word was among it."""
    while word not in said:
        ready, _, _ = select.select([descriptor], [], [], WAIT_SECONDS)
        data = os.read(descriptor, 1000).decode() if ready else ""
        assert data, f"only this was said: {said!r}"
        said += data
    return said
