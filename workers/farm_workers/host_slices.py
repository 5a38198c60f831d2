"""What passes between the host machine and its workers, and the port that carries it.

Items of a worker are numbered from 0 in the order in which they are handed to it, over its whole
life: an *ordinal* says where a worker is with a single integer in its shared page.
"""

from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from farm._version import __version__
from farm.model import Ending, Payload
from farm.protocol.messages import Failure, FromHost

__all__ = [
    "EXIT_PIPE",
    "TRACEBACK_CHARS_MAX",
    "HostPort",
    "HostSettings",
    "Key",
    "Slice",
    "SliceEnd",
    "signal_name",
]

Key = tuple[int, int]
"""``(epoch, lease)``."""

EXIT_PIPE = 4
"""A worker ends with this code when its pipe to the agent is broken."""
TRACEBACK_CHARS_MAX = 16_000
"""What the evidence of an attempt keeps of its traceback; the exception itself has all of it."""

_SIGNALS = {
    1: "SIGHUP",
    2: "SIGINT",
    3: "SIGQUIT",
    4: "SIGILL",
    5: "SIGTRAP",
    6: "SIGABRT",
    8: "SIGFPE",
    9: "SIGKILL",
    11: "SIGSEGV",
    13: "SIGPIPE",
    14: "SIGALRM",
    15: "SIGTERM",
}


def signal_name(number: int) -> str:
    """The name of a signal whose number is the same on every Unix, or ``signal N``."""
    return _SIGNALS.get(number, f"signal {number}")


class Slice(msgspec.Struct, array_like=True, tag=1, gc=False):
    """A part of one lease, given to one worker in one message; it runs in order.

    ``payloads`` has one entry for each of the ``count`` tasks, or, if ``packed``, one entry of
    which the slice is the items ``[start, start + count)``. ``item`` is the index of the first
    task inside its group; ``offset`` the ordinal of the first task in its worker. With a
    limit (for each item), or ``alone``, the worker reports every item at once. ``devices`` are the
    GPUs that it may use.
    """

    key: Key
    attempt: int
    session: bytes
    first: int
    count: int
    function: bytes
    payloads: list[Payload]
    packed: bool = False
    start: int = 0
    item: int = 0
    time_limit: float | None = None
    offset: int = 0
    alone: bool = False
    soft_time_limit: float | None = None
    memory_limit: int | None = None
    retry_on: tuple[str, ...] = ()
    never_on: tuple[str, ...] = ()
    depth: int = 0
    devices: tuple[str, ...] = ()

    @property
    def limited(self) -> bool:
        """Whether each of its tasks has a limit of its own to keep to."""
        return not (self.time_limit is self.soft_time_limit is self.memory_limit is None)

    def end(
        self,
        first: int,
        count: int,
        ending: Ending,
        payloads: list[Payload],
        *,
        packed: bool = False,
        seconds: float = 0.0,
        failure: Failure | None = None,
    ) -> "SliceEnd":
        """What to say when the tasks ``[first, first + count)`` ended alike."""
        offset = self.offset + first - self.first
        return SliceEnd(self.key, first, count, offset, ending, payloads, packed, seconds, failure)


class SliceEnd(msgspec.Struct, array_like=True, gc=False):
    """A run of a slice that ended alike; the runs of a slice come in order, without gaps.

    ``offset`` is the ordinal of its first item. ``payloads`` as in ``Ended``. ``CANCELLED`` says
    that the rest of the slice was skipped because of a ``limit``: nothing of it has begun.
    ``output``, which the agent adds, is what was written meanwhile.
    """

    key: Key
    first: int
    count: int
    offset: int
    ending: Ending
    payloads: list[Payload] = []
    packed: bool = False
    seconds: float = 0.0
    failure: Failure | None = None
    output: bytes = b""


@dataclass(frozen=True, kw_only=True)
class HostSettings:
    """What a host is and its bounds; times in seconds.

    ``window_max`` bounds the tasks it holds, ``unnoted_max`` and ``unnoted_bytes_max`` the outcomes
    it keeps. With an initializer a host whose workers do not start fails its tasks; without one it
    gives them back. As long as it has a worker, or no initializer, it tries again every
    ``retry_seconds``. When it drains, tasks may run on for ``grace_seconds``, and its last reports
    be noted within ``drain_seconds``. ``kill_seconds`` is how long a worker over a limit has to end
    before it is killed. Workers are replaced after ``max_tasks_per_worker`` tasks, or when they
    have ``max_memory_per_worker`` bytes; 0: never. ``memory_limits``, ``resources``, ``platform``,
    ``packages`` and ``keys`` as in ``HostHello``; ``devices`` names its GPUs. ``max_lent`` is how
    many slots may be lent at a time while tasks wait for others; a worker that is not needed any
    more leaves after ``spare_seconds``.
    """

    slots: int
    name: str = "host"
    python: str = "3.11"
    farm: str = __version__
    pid: int = 0
    address: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    has_initializer: bool = False
    window_max: int = 4096
    unnoted_max: int = 16_384
    unnoted_bytes_max: int = 256 << 20
    function_bytes_max: int = 256 << 20
    failures_max: int = 3
    hello_seconds: float = 10.0
    drain_seconds: float = 10.0
    grace_seconds: float = float("inf")
    retry_seconds: float = 30.0
    kill_seconds: float = 3.0
    max_tasks_per_worker: int = 0
    max_memory_per_worker: int = 0
    memory_limits: str = "sampled"
    max_lent: int = 0
    spare_seconds: float = 30.0
    resources: dict[str, float] = field(default_factory=dict)
    devices: tuple[str, ...] = ()
    platform: str = ""
    packages: dict[str, str] = field(default_factory=dict)
    keys: list[bytes] = field(default_factory=list)


class HostPort(Protocol):
    """What the host machine does to the world; nothing here may call the machine back."""

    def send(self, message: FromHost) -> None:
        """Send to the coordinator."""

    def disconnect(self, reason: str) -> None:
        """Close the connection; the machine has already let go of it."""

    def spawn(self, slot: int) -> None:
        """Start a worker process; ``on_worker_ready`` or ``on_worker_exit`` follows."""

    def stop(self, slot: int) -> None:
        """Ask a worker and its descendants to end (SIGTERM); ``kill`` may follow."""

    def kill(self, slot: int) -> None:
        """End a worker and its descendants by force.

        ``on_worker_exit`` follows, as after every other end of a worker, when all are gone.
        """

    def retire(self, slot: int) -> None:
        """Let a worker that has nothing to do leave; ``on_worker_exit`` follows."""

    def measure(self, slot: int, limit: int) -> None:
        """Measure the memory of a worker and its descendants; ``on_worker_memory`` follows.

        An upper bound will do if that is within the limit.
        """

    def ran(self, slot: int, ordinal: int, now: float) -> float:
        """For how long the item with this ordinal has run; 0 if its worker is not at it."""

    def interrupt(self, slot: int, ordinal: int) -> None:
        """Raise ``TaskStopped`` in the item with this ordinal, if its worker is still at it."""

    def ask(self, slot: int, question: int, what: str, since: int) -> None:
        """Find out ``what`` of a worker: see ``Ask``. ``on_worker_told`` follows."""

    def run(self, slot: int, part: Slice) -> None:
        """Give a slice to a worker, behind what it already has."""

    def function(self, slot: int, hash: bytes, name: str, data: bytes) -> None:  # noqa: A002
        """Give a function to a worker, which keeps the last ``FUNCTIONS_PER_WORKER`` used."""

    def limit(self, slot: int, ordinal: int) -> None:
        """Let the worker begin nothing below this ordinal any more; it runs what comes after.

        ``on_worker_limited`` follows with what it had begun by then.
        """
