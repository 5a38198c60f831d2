"""The functions that tasks name by hash, and how long a call of each takes."""

from collections import OrderedDict

from farm.core.port import Port

__all__ = ["Functions"]

UNUSED_MAX = 64
UNUSED_BYTES_MAX = 64 << 20
TIMED_MAX = 10_000
SMOOTHING = 0.3
MEASURED_SECONDS_MAX = 1e9
UNKNOWN = "?"
"""The name of a function whose bytes nobody has sent."""


class _Function:
    __slots__ = ("data", "name", "stored", "users")

    def __init__(self, name: str, data: bytes | None) -> None:
        self.name = name
        self.data = data  # None: lost, though tasks of the journal use it
        self.users = 0
        self.stored = False


class Functions:
    """Function bytes, counted by the batches that use them.

    Those in use by durable tasks are stored; unused ones stay in memory, few and bounded in
    bytes, so that a client need not send them again soon.
    """

    def __init__(self, port: Port) -> None:
        self._port = port
        self._known: dict[bytes, _Function] = {}
        self._unused: OrderedDict[bytes, None] = OrderedDict()
        self._unused_bytes = 0
        self._seconds: OrderedDict[str, float] = OrderedDict()

    def add(self, digest: bytes, name: str, data: bytes, *, stored: bool = False) -> None:
        """Learn a function's bytes."""
        known = self._known.get(digest)
        if known is None:
            known = self._known[digest] = _Function(name, data)
            self._set_aside(digest, data)
        elif known.data is None:
            known.name, known.data = name, data
            self._port.keep_function(digest, name, data)
            stored = True
        known.stored = known.stored or stored

    def __contains__(self, digest: bytes) -> bool:
        known = self._known.get(digest)
        return known is not None and known.data is not None

    def name(self, digest: bytes) -> str:
        """The function's name as its client gave it."""
        known = self._known.get(digest)
        return known.name if known else UNKNOWN

    def data(self, digest: bytes) -> bytes | None:
        """The function's bytes, or None."""
        known = self._known.get(digest)
        return known.data if known else None

    def acquire(self, digest: bytes, *, durable: bool) -> None:
        """A batch begins to use a function; stores it before the first durable task that does."""
        known = self._known.get(digest)
        if known is None:
            known = self._known[digest] = _Function(UNKNOWN, None)
        if known.data is None:
            known.users += 1
            return
        if digest in self._unused:
            del self._unused[digest]
            self._unused_bytes -= len(known.data)
        known.users += 1
        if durable and not known.stored:
            known.stored = True
            self._port.keep_function(digest, known.name, known.data)

    def release(self, digest: bytes) -> None:
        """A batch no longer uses a function."""
        known = self._known.get(digest)
        if known is None:
            return
        known.users -= 1
        if known.users:
            return
        if known.stored:
            known.stored = False
            self._port.drop_functions([digest])
        if known.data is None:
            del self._known[digest]
        else:
            self._set_aside(digest, known.data)

    def drop_unused_stored(self) -> None:
        """After loading: delete stored functions that no task names."""
        for digest, known in self._known.items():
            if known.stored and not known.users:
                known.stored = False
                self._port.drop_functions([digest])

    def _set_aside(self, digest: bytes, data: bytes) -> None:
        self._unused[digest] = None
        self._unused_bytes += len(data)
        while len(self._unused) > UNUSED_MAX or self._unused_bytes > UNUSED_BYTES_MAX:
            oldest, _ = self._unused.popitem(last=False)
            if oldest == digest:  # never the newest, however large: its tasks are coming
                self._unused[oldest] = None
                if len(self._unused) == 1:
                    return
                continue
            self._unused_bytes -= len(self._known.pop(oldest).data or b"")

    def expected(self, digest: bytes) -> float:
        """The smoothed time of one call in seconds, or -1 if none was measured yet.

        Kept by name, not by hash: a closure pickled anew for each task is still one function.
        """
        known = self._known.get(digest)
        return self._seconds.get(known.name if known else UNKNOWN, -1.0)

    def measured(self, digest: bytes, count: int, seconds: float) -> None:
        """``count`` calls took ``seconds`` together; what is no time of a call is ignored."""
        if not 0.0 <= seconds <= MEASURED_SECONDS_MAX:
            return
        known = self._known.get(digest)
        name = known.name if known else UNKNOWN
        each = seconds / count
        before = self._seconds.get(name)
        self._seconds[name] = each if before is None else before + SMOOTHING * (each - before)
        if before is None and len(self._seconds) > TIMED_MAX:
            self._seconds.popitem(last=False)
