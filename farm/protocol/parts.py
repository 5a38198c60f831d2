"""What messages and records are made of: groups of tasks, leases, outcomes.

Every struct is an array on the wire. Fields are only ever appended, with a default, so that a
reader of an older or newer minor layout agrees on the prefix. Tasks are named by counters of
their session: ``first`` and ``count`` name the run ``[first, first + count)``. Times in seconds;
sizes in bytes.
"""

from typing import Annotated

import msgspec

from farm.model import BLOB_BYTES, MOMENT_END, SPAN_MAX, Blob, Ending, Payload

__all__ = [
    "BATCH_BYTES",
    "BLOB_BYTES",
    "COUNTER_MAX",
    "ITEMS_PER_TASK_MAX",
    "KEY_CHARS_MAX",
    "MESSAGE_BYTES_MAX",
    "PAYLOAD_BYTES_MAX",
    "PROTOCOL_VERSION",
    "TASKS_PER_MESSAGE_MAX",
    "Amount",
    "Blob",
    "Claim",
    "Counter",
    "Ended",
    "Failure",
    "Grant",
    "Group",
    "Instant",
    "Moment",
    "Name",
    "Part",
    "Payload",
    "Priority",
    "Result",
    "Run",
    "Span",
    "TaskKey",
    "TaskRun",
    "Template",
]

PROTOCOL_VERSION = 1
"""The version that this release speaks; it also understands the one before."""
TASKS_PER_MESSAGE_MAX = 512
"""Entries (payloads) of one message; a packed task of many items is one entry."""
ITEMS_PER_TASK_MAX = 65_536
BATCH_BYTES = 1 << 20
"""A message is closed at this many payload bytes; one larger payload travels alone."""
PAYLOAD_BYTES_MAX = 64 << 20
"""The largest payload that travels inline."""
MESSAGE_BYTES_MAX = PAYLOAD_BYTES_MAX + (1 << 20)
"""The largest message; ZeroMQ drops larger ones."""

COUNTER_MAX = 1 << 62
Counter = Annotated[int, msgspec.Meta(ge=0, le=COUNTER_MAX)]
"""What counts or numbers something; sums of two still fit where a counter does."""
Span = Annotated[float, msgspec.Meta(ge=0.0, le=SPAN_MAX)]
"""A time in seconds that time can be reckoned with: neither negative nor endless nor no number."""
Moment = Annotated[float, msgspec.Meta(ge=0.0, lt=MOMENT_END)]
"""A time in seconds since 1970, before the year 10000."""
Instant = Annotated[float, msgspec.Meta(ge=-1e15, le=1e15)]
"""A time as the journal has it, in seconds: any that can be reckoned with, so never NaN."""
Priority = Annotated[int, msgspec.Meta(ge=-(1 << 31), le=1 << 31)]

Name = Annotated[str, msgspec.Meta(max_length=200)]
Amount = Annotated[float, msgspec.Meta(ge=0.0, le=1e15)]
"""How much of a resource; see ``farm.resources``."""

KEY_CHARS_MAX = 255
"""The longest key of a task, in characters."""

Run = tuple[Counter, Counter]
"""``(first, count)``: a run of counters of one session."""
TaskRun = tuple[bytes, Counter, Counter]
"""``(session, first, count)``."""


class Part(msgspec.Struct, array_like=True, gc=False):
    """A piece of a message."""


class Template(Part):
    """The options shared by all tasks of a group; a field at its default costs one byte.

    ``queue`` is empty for the one called ``default``. ``explicit`` names the fields that somebody
    has set to what is their default here: a queue's own default does not replace them. ``eta``, in
    seconds since 1970, is when they may start; then ``delay``, counted from the acceptance, is not.
    ``parent`` is the task that has submitted these, as ``(session, counter)``, if one has, and
    ``depth`` how many such there are above them.
    ``resources`` is what a task needs of a host while it runs there, ``labels`` what must be on it.
    """

    priority: Priority = 0
    retries: Counter = 0
    backoff: Span = 1.0
    max_losses: Counter = 3
    time_limit: Span | None = None
    durable: bool = True
    result_ttl: Span | None = None
    expires: Span | None = None
    delay: Span | None = None
    soft_time_limit: Span | None = None
    memory_limit: Counter | None = None
    retry_on: tuple[str, ...] = ()
    never_on: tuple[str, ...] = ()
    queue: Name = ""
    concurrency_key: Name = ""
    explicit: tuple[str, ...] = ()
    eta: Moment | None = None
    depth: Counter = 0
    parent: tuple[bytes, Counter] | None = None
    resources: tuple[tuple[Name, Amount], ...] = ()
    labels: tuple[Name, ...] = ()


class TaskKey(Part):
    """The key of one task, among those of its owner.

    ``unique``: nobody else has it while the task is pending; ``body`` is empty. Otherwise it is an
    idempotency key, held for its time, and ``body`` is the hash of what is called with which
    arguments: by meaning, so that two runs of one script agree.
    """

    text: Annotated[str, msgspec.Meta(min_length=1, max_length=KEY_CHARS_MAX)]
    unique: bool = False
    body: Annotated[bytes, msgspec.Meta(max_length=64)] = b""


class Group(Part):
    """A run of tasks with one function, one job and one set of options.

    Either ``packed`` is false and ``payloads`` has ``count`` entries, one per task, or it is
    true and ``payloads`` has one entry that holds the arguments of many items, of which this
    group is the ``count`` items from item ``start`` on. ``size`` is the sum of payload bytes.
    ``tried``: a coordinator that is gone may have let them begin. ``keys`` has the key of each
    task, or nothing. ``same``, in the journal alone: these have the keys of the tasks from that
    ``(session, first)`` on, and end as those do; they carry no arguments.
    """

    first: Counter
    count: Counter
    function: bytes
    payloads: list[Payload]
    size: Counter
    packed: bool = False
    start: Counter = 0
    job: Counter = 0
    template: Template | None = None
    tried: bool = False
    keys: tuple[TaskKey, ...] = ()
    same: tuple[bytes, Counter] | None = None


class Failure(Part):
    """The evidence of an attempt that did not succeed; no pickled data.

    ``cause``: ``exception``, ``soft_time_limit``, ``time_limit``, ``memory_limit``, ``signal``,
    ``exit``, ``host_lost``, ``initializer``, ``stopped`` or ``protocol``. ``code`` is the exit
    code, or minus the signal number. ``losses`` counts attempts that died. ``peak_bytes`` is the
    most memory that was seen, ``output`` the end of what its worker wrote during it. ``final``: the
    task must not be tried again, whatever retries are left.
    """

    cause: str = ""
    message: str = ""
    host: str = ""
    code: int = 0
    type_name: str = ""
    losses: int = 0
    attempt: int = 0
    seconds: Span = 0.0
    peak_bytes: int = 0
    traceback: str = ""
    output: bytes = b""
    final: bool = False

    @property
    def weight(self) -> int:
        """About how many bytes it has."""
        return len(self.message) + len(self.traceback) + len(self.output)

    def brief(self) -> "Failure":
        """The same without what may be long."""
        if not (self.traceback or self.output):
            return self
        return msgspec.structs.replace(self, traceback="", output=b"")


class Result(Part):
    """The published outcome of a run of tasks; ``payloads`` as in ``Ended``.

    ``seconds`` is the time that the run took in its worker, 0 if it did not end there.
    ``attempts``, in the journal alone, is the evidence of the attempts before the last.
    ``output`` is the end of what the last wrote; the journal has it there or in ``failure``.
    """

    session: bytes
    first: Counter
    count: Counter
    ending: Ending
    payloads: list[Payload]
    size: Counter = 0
    packed: bool = False
    failure: Failure | None = None
    seconds: Span = 0.0
    attempts: list[Failure] = []
    output: bytes = b""

    @property
    def printed(self) -> bytes:
        """The end of what its last attempt wrote, wherever it is kept."""
        return self.output or (self.failure.output if self.failure is not None else b"")


class Grant(Part):
    """A lease on a run of tasks: what a host needs to run them.

    ``(epoch, lease)`` names it, ``(epoch, attempt)`` is its fencing token. ``expected`` is the
    measured time of one item in seconds, or -1 when not known yet. ``item`` is the index of the
    first task inside its group as the client sent it; ``start`` the index inside the payload.
    ``alone``: a worker is given these one by one, so that after its death it is known of each
    whether it ran. ``depth`` counts the tasks above these that may wait for them. ``resources`` is
    what each needs of the host while it runs; a packed one needs it once.
    """

    lease: Counter
    attempt: Counter
    session: bytes
    first: Counter
    count: Counter
    function: bytes
    payloads: list[Payload]
    size: Counter
    packed: bool = False
    start: Counter = 0
    item: Counter = 0
    expected: float = -1.0
    time_limit: float | None = None
    alone: bool = False
    soft_time_limit: float | None = None
    memory_limit: int | None = None
    retry_on: tuple[str, ...] = ()
    never_on: tuple[str, ...] = ()
    depth: Counter = 0
    resources: tuple[tuple[Name, Amount], ...] = ()

    @property
    def limited(self) -> bool:
        """Whether each of its tasks has something of its own to keep to."""
        return bool(self.resources) or not (
            self.time_limit is self.soft_time_limit is self.memory_limit is None
        )


class Claim(Part):
    """A lease as its host holds it: said in HELLO, and named to be dropped."""

    epoch: Counter
    lease: Counter
    attempt: Counter
    session: bytes
    first: Counter
    count: Counter
    started: bool = False


class Ended(Part):
    """A run of one lease's tasks that ended alike.

    ``payloads``: for OK and EXCEPTION one entry per task, or, if ``packed``, a single entry with
    the pickled list of all values (OK only). Other endings have none, and a ``failure``.
    ``seconds`` is the time the run took in its worker, all items together. ``output`` is the end of
    what was written meanwhile, if anything was and no ``failure`` has it.
    """

    epoch: Counter
    lease: Counter
    attempt: Counter
    first: Counter
    count: Counter
    ending: Ending
    payloads: list[Payload]
    size: Counter = 0
    packed: bool = False
    seconds: Span = 0.0
    failure: Failure | None = None
    output: bytes = b""
