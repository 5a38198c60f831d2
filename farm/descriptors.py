"""How many files a process may open: a farm of a thousand hosts has a thousand sockets."""

import resource

__all__ = ["FILES_WANTED", "raise_file_limit"]

FILES_WANTED = 1024
"""With fewer descriptors than this, libzmq soon has none and spins."""


def raise_file_limit() -> int:
    """Raise RLIMIT_NOFILE to its hard limit and return it; the caller warns below FILES_WANTED."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):  # macOS: the hard limit reads as infinite and is not
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 10_240), hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else 1 << 20
