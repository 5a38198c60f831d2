"""The messages of the farm as plain typed data; ``PROTOCOL.md`` tells what they mean.

A message is an array with an integer tag in front; ``parts.py`` has what they are made of.
"""

from typing import Any

import msgspec

from farm.identity import Identity
from farm.protocol.messages_host import (
    Ask,
    Assign,
    Drain,
    Drop,
    HostHello,
    HostWelcome,
    NeedFunction,
    Noted,
    Recall,
    Report,
    Told,
)
from farm.protocol.parts import (
    BATCH_BYTES,
    ITEMS_PER_TASK_MAX,
    MESSAGE_BYTES_MAX,
    PAYLOAD_BYTES_MAX,
    PROTOCOL_VERSION,
    TASKS_PER_MESSAGE_MAX,
    Claim,
    Counter,
    Ended,
    Failure,
    Grant,
    Group,
    Part,
    Result,
    Run,
    Span,
    TaskKey,
    TaskRun,
    Template,
)

__all__ = [
    "BATCH_BYTES",
    "ITEMS_PER_TASK_MAX",
    "MESSAGE_BYTES_MAX",
    "PAYLOAD_BYTES_MAX",
    "PROTOCOL_VERSION",
    "TASKS_PER_MESSAGE_MAX",
    "Accepted",
    "Answer",
    "Ask",
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
    "Drain",
    "DrainHost",
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
    "Part",
    "Progress",
    "Query",
    "QueueCredit",
    "Recall",
    "Refused",
    "Rejected",
    "Report",
    "Result",
    "Results",
    "Run",
    "Shares",
    "Started",
    "Submit",
    "Taken",
    "TaskKey",
    "TaskRun",
    "Template",
    "ToClient",
    "ToHost",
    "Told",
]

# ---------------------------------------------------------------- client to coordinator


class ClientHello(Part, tag=1):
    """The first message of a client's connection; ``behalf``: for whom an admin speaks."""

    protocol: int
    farm: str
    python: str
    instance: bytes
    session: bytes
    secret: bytes
    connection: Counter
    epoch_seen: Counter
    store_seen: bytes
    commit_seen: Counter
    window_bytes: Counter
    pending: list[Run]
    behalf: Identity | None = None


class Submit(Part, tag=2):
    """Tasks to run. Sending one again is safe: ids are made by the client.

    ``floor``: no task below it will be sent any more, now or after a reconnect.
    """

    groups: list[Group]
    floor: Counter = 0


class Function(Part, tag=3):
    """A function's bytes, named by their hash (also coordinator to host)."""

    hash: bytes
    name: str
    data: bytes


class JobOpen(Part, tag=4):
    """A job of this session; tasks name it by number. Sending one again is safe."""

    job: Counter
    name: str


class JobSeal(Part, tag=5):
    """No more tasks will join the job; it has ``count`` in all."""

    job: Counter
    count: Counter


class Cancel(Part, tag=6):
    """Cancel tasks that no worker has begun; answered by one ``CancelReply``.

    With a ``grace``, in seconds, tasks that run are stopped: see ``Recall``.
    """

    request: Counter
    tasks: list[TaskRun]
    grace: Span | None = None


class Attach(Part, tag=7):
    """Follow tasks, or a job by id or name, of any session; answered by one ``JobInfo``.

    Their outcomes then arrive as ``Results``, now or when they end; reading consumes nothing.
    """

    request: Counter
    tasks: list[TaskRun]
    job: str = ""


class Taken(Part, tag=8):
    """All ``Results`` of this connection up to ``number`` are safe with the client."""

    number: Counter


class Query(Part, tag=9):
    """A question about the farm; answered by one ``Answer``."""

    request: Counter
    what: str
    arguments: dict[str, Any]


class DrainHost(Part, tag=16):
    """Have a host finish what it runs and leave; answered by one ``Answer``."""

    request: Counter
    host: str


# ---------------------------------------------------------------- coordinator to client


class ClientWelcome(Part, tag=20):
    """The connection is open. Credit counts from zero on each connection.

    ``blobs`` is the coordinator's blob folder, if it has one, and ``blobs_token`` the proof of it.
    ``queues`` names those that take tasks.
    """

    protocol: int
    farm: str
    python: str
    epoch: Counter
    store: bytes
    commit: Counter
    durable: bool
    beat_seconds: float
    payload_bytes_max: int
    credit_tasks: int
    credit_bytes: int
    blobs: str = ""
    blobs_token: bytes = b""
    queues: list[str] = msgspec.field(default_factory=list)


class Accepted(Part, tag=21):
    """These tasks are committed (or at once, if not durable); they need not be sent again."""

    commit: Counter
    runs: list[Run]


class Refused(Part, tag=22):
    """These tasks were not accepted and may be sent again.

    ``reason`` is ``busy`` (send when credit comes), ``function`` (send the function first) or
    ``job`` (open the job first). Any other reason is final: the tasks fail with it, as with ``key``
    (another task, with another body, has their key) and ``keys`` (no room for more). ``queue``:
    there is no room in this one, and nothing for it is to be sent until ``QueueCredit`` comes.
    """

    first: Counter
    count: Counter
    reason: str
    retry_after: float = 0.0
    message: str = ""
    queue: str = ""


class QueueCredit(Part, tag=30):
    """A queue that had refused tasks of the client has room: so many more of them may be sent."""

    queue: str
    tasks: Counter


class Credit(Part, tag=23):
    """What may be sent in all on this connection; ``retry_after``: no more for so many seconds."""

    tasks: int
    bytes: int
    retry_after: float = 0.0


class Results(Part, tag=24):
    """Outcomes. ``number`` counts them on this connection, from 1."""

    number: Counter
    commit: Counter
    entries: list[Result]


class Started(Part, tag=25):
    """Workers have begun these tasks of the session; a hint for ``running()``."""

    runs: list[Run]


class Progress(Part, tag=29):
    """How far running tasks say they are: ``(session, counter, done, total, note)``."""

    notes: list[tuple[bytes, Counter, float, float, str]]


class CancelReply(Part, tag=26):
    """Of the tasks asked for, these were cancelled; their outcome follows or is on its way.

    Those in ``cancelled`` never ran and never will. Those in ``stopped`` waited for another
    attempt, and will not have it: one before may have begun, and no outcome of it counts. Those
    in ``stopping`` may run, and are being ended: whatever they come to is no outcome, either.
    """

    request: Counter
    cancelled: list[TaskRun]
    stopped: list[TaskRun] = msgspec.field(default_factory=list)
    stopping: list[TaskRun] = msgspec.field(default_factory=list)


class JobInfo(Part, tag=27):
    """What a client attached to. ``error`` is empty if it exists.

    ``state`` of a job: ``open``, ``sealed`` or ``abandoned``. Sent again, with the same request,
    when a job gains tasks or is sealed. With request 0 and a job it tells the owner that its
    ``JobSeal`` is committed, or, by an ``error``, that there is no such job.
    """

    request: Counter
    tasks: list[TaskRun]
    session: bytes = b""
    job: Counter = 0
    name: str = ""
    state: str = ""
    error: str = ""


class Answer(Part, tag=28):
    """The answer to a ``Query``; ``error`` says what was wrong with the question."""

    request: Counter
    data: Any
    error: str = ""


# ---------------------------------------------------------------- both ways


class Beat(Part, tag=80):
    """A sign of life. The receiver answers a beat that carries a ``stamp`` by echoing it.

    From a host, ``running`` says ``(epoch, lease, first, count)`` of what its workers run.
    """

    stamp: float = 0.0
    echo: float = 0.0
    running: list[tuple[Counter, Counter, Counter, Counter]] = msgspec.field(default_factory=list)
    load: dict[str, float] = msgspec.field(default_factory=dict)


class Bye(Part, tag=81):
    """The peer leaves on purpose: a closed client, a drained host, a coordinator going down."""

    reason: str = ""


class Shares(Part, tag=84):
    """The sender sees the blob folder of the welcome, and has this one in it for its own names."""

    own: str


class Rejected(Part, tag=82):
    """The connection is refused and will be closed; ``retry`` says whether trying again can help.

    Codes: version, hello, secret, replaced, garbled, slow, name, invite, joined.
    """

    code: str
    message: str
    retry: bool = False


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
    | DrainHost
    | Beat
    | Bye
    | Shares
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
    | QueueCredit
)
FromHost = HostHello | Report | NeedFunction | Told | Beat | Bye | Shares
ToHost = (
    HostWelcome | Assign | Recall | Drop | Drain | Ask | Noted | Function | Beat | Bye | Rejected
)
Message = FromClient | ToClient | FromHost | ToHost
