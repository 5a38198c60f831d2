"""The messages of the farm as plain typed data; ``PROTOCOL.md`` tells what they mean.

Every struct is an array on the wire, with an integer tag in front if it is a message. Fields
are only ever appended, with a default, so that a reader of an older or newer minor layout
agrees on the prefix. Tasks are named by counters of their session: ``first`` and ``count``
name the run ``[first, first + count)``. Times in seconds; sizes in bytes.
"""

from typing import Any

import msgspec

from farm.model import Ending

__all__ = [
    "Accepted",
    "Answer",
    "Assign",
    "Attach",
    "Beat",
    "Bye",
    "Cancel",
    "CancelReply",
    "Claim",
    "ClientHello",
    "ClientWelcome",
    "Credit",
    "Drop",
    "Ended",
    "Failure",
    "FromClient",
    "FromHost",
    "Function",
    "Grant",
    "Group",
    "HostHello",
    "HostWelcome",
    "JobInfo",
    "JobOpen",
    "JobSeal",
    "Message",
    "NeedFunction",
    "Noted",
    "Progress",
    "Query",
    "Recall",
    "Refused",
    "Rejected",
    "Report",
    "Result",
    "Results",
    "Started",
    "Submit",
    "Taken",
    "Template",
    "ToClient",
    "ToHost",
]

PROTOCOL_VERSION = 1
TASKS_PER_MESSAGE_MAX = 512
"""Entries (payloads) of one message; a packed task of many items is one entry."""
ITEMS_PER_TASK_MAX = 65_536
BATCH_BYTES = 1 << 20
"""A message is closed at this many payload bytes; one larger payload travels alone."""
PAYLOAD_BYTES_MAX = 64 << 20
"""The largest payload that travels inline."""
MESSAGE_BYTES_MAX = PAYLOAD_BYTES_MAX + (1 << 20)

Run = tuple[int, int]
"""``(first, count)``: a run of counters of one session."""
TaskRun = tuple[bytes, int, int]
"""``(session, first, count)``."""


class Part(msgspec.Struct, array_like=True, gc=False):
    """A piece of a message."""


# ---------------------------------------------------------------- pieces


class Template(Part, frozen=True):
    """The options shared by all tasks of a group; a field at its default costs one byte."""

    priority: int = 0
    retries: int = 0
    backoff: float = 1.0
    max_losses: int = 3
    time_limit: float | None = None
    durable: bool = True
    result_ttl: float | None = None
    expires: float | None = None
    delay: float | None = None


class Group(Part):
    """A run of tasks with one function, one job and one set of options.

    Either ``packed`` is false and ``payloads`` has ``count`` entries, one per task, or it is
    true and ``payloads`` has one entry that holds the arguments of many items, of which this
    group is the ``count`` items from item ``start`` on. ``size`` is the sum of payload bytes.
    """

    first: int
    count: int
    function: bytes
    payloads: list[bytes]
    size: int
    packed: bool = False
    start: int = 0
    job: int = 0
    template: Template | None = None


class Failure(Part):
    """The evidence of an attempt that did not succeed; no pickled data.

    ``code`` is the exit code, or minus the signal number. ``losses`` counts attempts that died.
    """

    cause: str = ""
    message: str = ""
    host: str = ""
    code: int = 0
    type_name: str = ""
    losses: int = 0


class Result(Part):
    """The published outcome of a run of tasks; ``payloads`` as in ``Ended``."""

    session: bytes
    first: int
    count: int
    ending: Ending
    payloads: list[bytes]
    size: int = 0
    packed: bool = False
    failure: Failure | None = None


class Grant(Part):
    """A lease on a run of tasks: what a host needs to run them.

    ``(epoch, lease)`` names it, ``(epoch, attempt)`` is its fencing token. ``expected`` is the
    measured time of one item in seconds, or -1 when not known yet. ``item`` is the index of the
    first task inside its group as the client sent it; ``start`` the index inside the payload.
    """

    lease: int
    attempt: int
    session: bytes
    first: int
    count: int
    function: bytes
    payloads: list[bytes]
    size: int
    packed: bool = False
    start: int = 0
    item: int = 0
    expected: float = -1.0
    time_limit: float | None = None


class Claim(Part):
    """A lease as its host holds it: said in HELLO, and named to be dropped."""

    epoch: int
    lease: int
    attempt: int
    session: bytes
    first: int
    count: int
    started: bool = False


class Ended(Part):
    """A run of one lease's tasks that ended alike.

    ``payloads``: for OK and EXCEPTION one entry per task, or, if ``packed``, a single entry with
    the pickled list of all values (OK only). Other endings have none, and a ``failure``.
    ``seconds`` is the time the run took in its worker, all items together.
    """

    epoch: int
    lease: int
    attempt: int
    first: int
    count: int
    ending: Ending
    payloads: list[bytes]
    size: int = 0
    packed: bool = False
    seconds: float = 0.0
    failure: Failure | None = None


# ---------------------------------------------------------------- client to coordinator


class ClientHello(Part, tag=1):
    """The first message of a client's connection."""

    protocol: int
    farm: str
    python: str
    instance: bytes
    session: bytes
    secret: bytes
    connection: int
    epoch_seen: int
    store_seen: bytes
    commit_seen: int
    window_bytes: int
    pending: list[Run]


class Submit(Part, tag=2):
    """Tasks to run. Sending one again is safe: ids are made by the client."""

    groups: list[Group]


class Function(Part, tag=3):
    """A function's bytes, named by their hash (also coordinator to host)."""

    hash: bytes
    name: str
    data: bytes


class JobOpen(Part, tag=4):
    """A job of this session; tasks name it by number. Sending one again is safe."""

    job: int
    name: str


class JobSeal(Part, tag=5):
    """No more tasks will join the job; it has ``count`` in all."""

    job: int
    count: int


class Cancel(Part, tag=6):
    """Cancel tasks that no worker has begun; answered by one ``CancelReply``."""

    request: int
    tasks: list[TaskRun]


class Attach(Part, tag=7):
    """Follow tasks, or a job by id or name, of any session; answered by one ``JobInfo``.

    Their outcomes then arrive as ``Results``, now or when they end; reading consumes nothing.
    """

    request: int
    tasks: list[TaskRun]
    job: str = ""


class Taken(Part, tag=8):
    """All ``Results`` of this connection up to ``number`` are safe with the client."""

    number: int


class Query(Part, tag=9):
    """A question about the farm; answered by one ``Answer``."""

    request: int
    what: str
    arguments: dict[str, Any]


# ---------------------------------------------------------------- coordinator to client


class ClientWelcome(Part, tag=20):
    """The connection is open. Credit counts from zero on each connection."""

    protocol: int
    farm: str
    python: str
    epoch: int
    store: bytes
    commit: int
    durable: bool
    beat_seconds: float
    payload_bytes_max: int
    credit_tasks: int
    credit_bytes: int


class Accepted(Part, tag=21):
    """These tasks are committed (or at once, if not durable); they need not be sent again."""

    commit: int
    runs: list[Run]


class Refused(Part, tag=22):
    """These tasks were not accepted and may be sent again.

    ``reason`` is ``busy`` (send when credit comes) or ``function`` (send the function first).
    Any other reason is final: the tasks fail with it.
    """

    first: int
    count: int
    reason: str
    retry_after: float = 0.0
    message: str = ""


class Credit(Part, tag=23):
    """The client may send this many tasks and payload bytes in all on this connection."""

    tasks: int
    bytes: int


class Results(Part, tag=24):
    """Outcomes. ``number`` counts them on this connection, from 1."""

    number: int
    commit: int
    entries: list[Result]


class Started(Part, tag=25):
    """Workers have begun these tasks of the session; a hint for ``running()``."""

    runs: list[Run]


class Progress(Part, tag=29):
    """How far running tasks say they are: ``(session, counter, done, total, note)``."""

    notes: list[tuple[bytes, int, float, float, str]]


class CancelReply(Part, tag=26):
    """Of the tasks asked for, these were cancelled; their outcome follows or is on its way."""

    request: int
    cancelled: list[TaskRun]


class JobInfo(Part, tag=27):
    """What a client attached to. ``error`` is empty if it exists.

    ``state`` of a job: ``open``, ``sealed`` or ``abandoned``. Sent again, with the same request,
    when a job gains tasks or is sealed.
    """

    request: int
    tasks: list[TaskRun]
    session: bytes = b""
    job: int = 0
    name: str = ""
    state: str = ""
    error: str = ""


class Answer(Part, tag=28):
    """The answer to a ``Query``; ``error`` says what was wrong with the question."""

    request: int
    data: Any
    error: str = ""


# ---------------------------------------------------------------- host to coordinator


class HostHello(Part, tag=40):
    """The first message of a host's connection: who it is and all leases that it holds.

    ``instance`` is new for each agent process. ``claims`` has every lease with a task that runs,
    waits, or ended without having been noted. ``window`` is the number of tasks it may hold.
    """

    protocol: int
    farm: str
    python: str
    instance: bytes
    name: str
    connection: int
    slots: int
    window: int
    epoch_seen: int
    store_seen: bytes
    commit_seen: int
    claims: list[Claim]
    pid: int = 0
    address: str = ""
    labels: dict[str, str] = {}


class Report(Part, tag=41):
    """What happened on a host. Numbered per agent instance; sent again until ``Noted``.

    ``started``: ``(epoch, lease, first, count)`` handed to a worker. ``returned``: the same, of
    tasks given back unbegun. ``progress``: ``(epoch, lease, counter, done, total, note)``.
    ``window``: how many tasks this host may hold from now on.
    """

    number: int
    window: int
    ended: list[Ended]
    started: list[tuple[int, int, int, int]] = []
    returned: list[tuple[int, int, int, int]] = []
    progress: list[tuple[int, int, int, float, float, str]] = []


# ---------------------------------------------------------------- coordinator to host


class HostWelcome(Part, tag=60):
    """The connection is open. ``unusable`` is empty, or says why this host gets no work."""

    protocol: int
    farm: str
    epoch: int
    store: bytes
    commit: int
    beat_seconds: float
    lease_seconds: float
    drop: list[Claim]
    unusable: str = ""


class Assign(Part, tag=61):
    """Leases for the host to run."""

    epoch: int
    grants: list[Grant]


class Recall(Part, tag=62):
    """Give these back if no worker has begun them: ``(epoch, lease, first, count)``.

    For each, the host reports it returned, or reports it started (again).
    """

    runs: list[tuple[int, int, int, int]]


class Drop(Part, tag=63):
    """These leases are fenced off: end their workers and forget them."""

    claims: list[Claim]


class Noted(Part, tag=64):
    """Reports up to ``number`` are committed; the host may forget their outcomes."""

    number: int
    commit: int


# ---------------------------------------------------------------- both ways


class Beat(Part, tag=80):
    """A sign of life. The receiver answers a beat that carries a ``stamp`` by echoing it.

    From a host, ``running`` says ``(epoch, lease, first, count)`` of what its workers run.
    """

    stamp: float = 0.0
    echo: float = 0.0
    running: list[tuple[int, int, int, int]] = []
    load: dict[str, float] = {}


class Bye(Part, tag=81):
    """The peer leaves on purpose: a closed client, a drained host, a coordinator going down."""

    reason: str = ""


class Rejected(Part, tag=82):
    """The connection is refused and will be closed; ``code`` is for programs, the rest for people.

    Codes: ``version``, ``hello``, ``secret``, ``replaced``, ``epoch``, ``store``, ``limit``.
    ``retry`` says whether trying again can help.
    """

    code: str
    message: str
    retry: bool = False


class NeedFunction(Part, tag=83):
    """The sender lacks a function's bytes (host to coordinator)."""

    hash: bytes


FromClient = (
    ClientHello
    | Submit
    | Function
    | JobOpen
    | JobSeal
    | Cancel
    | Attach
    | Taken
    | Query
    | Beat
    | Bye
)
ToClient = (
    ClientWelcome
    | Accepted
    | Refused
    | Credit
    | Results
    | Started
    | CancelReply
    | JobInfo
    | Answer
    | Beat
    | Bye
    | Rejected
    | Progress
)
FromHost = HostHello | Report | NeedFunction | Beat | Bye
ToHost = HostWelcome | Assign | Recall | Drop | Noted | Function | Beat | Bye | Rejected
Message = FromClient | ToClient | FromHost | ToHost
