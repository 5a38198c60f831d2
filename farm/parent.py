"""The end of a process whose parent has ended.

A process that serves only its parent must not outlive it, however the parent died. A parent-death
signal would fire when the parent's *thread* ends, so two other things are watched: a pipe whose
other end only the parent holds, and, where Linux has it, the parent process itself, for a pipe
stays open as long as any process that the parent forked.
"""

import os
import select
import threading
from collections.abc import Callable

__all__ = ["watch_parent"]


def watch_parent(gone: Callable[[], object], fd: int | None, pid: int | None = None) -> None:
    """Call ``gone``, on a thread of its own, as soon as the parent has ended.

    ``fd`` is the reading end of a pipe to which the parent never writes, ``pid`` the parent's; if
    both are None nothing is watched.
    """
    fds = [] if fd is None else [fd]
    if pid is not None and hasattr(os, "pidfd_open"):
        try:
            fds.append(os.pidfd_open(pid))
        except OSError:
            # No such process; or the kernel is too old, and then the pipe has to do.
            if os.getppid() != pid:
                gone()
                return
        else:
            if os.getppid() != pid:  # its number may have been given to another process
                gone()
                return
    if fds:
        threading.Thread(target=_wait, args=(gone, fds), name="farm-parent", daemon=True).start()


def _wait(gone: Callable[[], object], fds: list[int]) -> None:
    poller = select.poll()
    for fd in fds:
        poller.register(fd, select.POLLIN)
    poller.poll()
    gone()
