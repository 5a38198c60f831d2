"""A coordinator that says how many bytes it has allocated: ``python -m tests.fuzz.measured``.

What the system says that a process has is, within some MiB, the most that it ever needed. What its
allocator has given out says whether anything stays. It is asked for through a socket, of the path
in ``FUZZ_MEASURE``, and known where the C library is GNU's; ``PYTHONMALLOC=malloc`` has Python
take all its memory from there. What SQLite has is left out: its caches fill for as long as the
store grows, to 16 MiB for each of three connections.
"""

import _sqlite3
import ctypes
import gc
import os
import socket
import sys
import threading

from farm.coordinator.__main__ import main

__all__ = ["ENVIRONMENT", "in_use"]

PATH = "FUZZ_MEASURE"
ENVIRONMENT = {"PYTHONMALLOC": "malloc", "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}
"""What is free in the cache of a thread counts as allocated, so there must be none."""
NUMBERS = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"


class _Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in NUMBERS.split()]


def _allocated() -> int:
    """Bytes that are allocated in this process; -1 if its libraries cannot say."""
    mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)
    of_sqlite = getattr(ctypes.CDLL(_sqlite3.__file__), "sqlite3_memory_used", None)
    if mallinfo is None or of_sqlite is None:
        return -1
    mallinfo.restype, of_sqlite.restype = _Info, ctypes.c_int64
    gc.collect()
    info = mallinfo()
    return int(info.uordblks + info.hblkhd - of_sqlite())


def in_use(path: str) -> int:
    """What the coordinator with this socket has allocated, in bytes; -1 if it cannot say."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect(path)
        return int(asking.makefile().readline())


def _answer(listening: socket.socket) -> None:
    while True:
        with listening.accept()[0] as asking:
            asking.sendall(b"%d\n" % _allocated())


if __name__ == "__main__":
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(os.environ.pop(PATH))
    listening.listen()
    threading.Thread(target=_answer, args=(listening,), daemon=True).start()
    sys.exit(main(sys.argv[1:]))
