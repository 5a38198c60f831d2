"""The records of the journal: what must outlive the coordinator, as typed data.

They are built from the same structs as the messages and encoded in the same way, so the wire
format is also the storage format. The coordinator appends one record per message; a record has
a ``ref``, an integer that only grows. Wall-clock times are seconds since 1970.

Loading a store means applying its records in order of ``ref``. Of a record whose tasks are named
by no ``Submitted`` record any more, nothing is left to apply and it is ignored.
"""

import msgspec

from farm.errors import ProtocolError
from farm.model import Ending
from farm.protocol.encoding import to_msgpack
from farm.protocol.entries import MALFORMED, check_entries
from farm.protocol.parts import Failure, Group, Instant, Part, Result, Run, TaskRun

__all__ = [
    "Arguments",
    "AttemptEnd",
    "AttemptsEnded",
    "Begun",
    "Buried",
    "ClockRead",
    "Delivered",
    "Finished",
    "HostJoined",
    "JobOpened",
    "JobSealed",
    "Memory",
    "QueueChanged",
    "Record",
    "Recovered",
    "Remembered",
    "Restored",
    "SessionMark",
    "Stopping",
    "Submitted",
    "decode_memories",
    "decode_record",
    "encode_memories",
    "encode_record",
]


class Submitted(Part, tag=1):
    """Tasks accepted from a session, or the survivors of an older record, copied out.

    ``fence``: attempts of epochs below it are fenced off (0: none are). ``owner``: whose they are,
    if not whose the session is.
    """

    session: bytes
    at: Instant
    groups: list[Group]
    fence: int = 0
    owner: str = ""


class Finished(Part, tag=2):
    """Outcomes of tasks: from now on they can be published, and nothing else can.

    ``spans`` says of each entry on which host it ran, and for how many seconds; it may be empty.
    """

    at: Instant
    entries: list[Result]
    spans: list[tuple[str, Instant]] = msgspec.field(default_factory=list)


class AttemptEnd(Part):
    """Attempts of a run of tasks ended without an outcome: retry, loss or give-back.

    ``attempt`` is the smallest attempt number that may run from now on; ``retries`` and
    ``losses`` are what has been spent; ``due`` is when to run again, 0 for at once; ``fence``
    as in ``Submitted``. ``charged``: the instances of hosts that were lost with an attempt; the
    loss is given back to whichever of them returns. ``tried``: one of the attempts may have begun.
    ``failure`` is the evidence of the last attempt that spent something, and ``attempts``, if there
    are any, that of all, said again by a younger record.
    """

    session: bytes
    first: int
    count: int
    attempt: int
    retries: int
    losses: int
    due: Instant = 0.0
    fence: int = 0
    failure: Failure | None = None
    charged: list[bytes] = msgspec.field(default_factory=list)
    tried: bool = False
    attempts: list[Failure] = msgspec.field(default_factory=list)


class AttemptsEnded(Part, tag=3):
    """The end of attempts, committed before any further dispatch of their tasks."""

    at: Instant
    entries: list[AttemptEnd]


class Delivered(Part, tag=4):
    """The owner of these tasks has their outcomes."""

    at: Instant
    tasks: list[TaskRun]


class JobOpened(Part, tag=5):
    """A session opened a job."""

    at: Instant
    session: bytes
    job: int
    name: str


class JobSealed(Part, tag=6):
    """A job is complete with ``count`` tasks."""

    session: bytes
    job: int
    count: int


class SessionMark(Part, tag=7):
    """A session as it stood: its secret, and every counter ever accepted from it.

    Written when a session opens, and again in the transaction that deletes a ``Submitted``
    record, so that no id is ever taken for new twice. A later mark replaces an earlier one.
    ``dropped`` are those whose results were given up for room, ``outlived`` those whose results
    nobody took in their time, ``forgotten`` those that a restored store was found to lack.
    ``owner``: the name of the key that opened it; empty where no keys are in use.
    """

    session: bytes
    secret: bytes
    at: Instant
    accepted: list[Run]
    connection: int = 0
    dropped: list[Run] = msgspec.field(default_factory=list)
    outlived: list[Run] = msgspec.field(default_factory=list)
    forgotten: list[Run] = msgspec.field(default_factory=list)
    owner: str = ""


class HostJoined(Part, tag=8):
    """A host's agent said HELLO; recovery waits for it. Deleted when the host has left.

    ``resources`` names those that it has, so that they are known before it is back. ``owner`` is
    the name of its key: no other may take the host's name.
    """

    name: str
    instance: bytes
    resources: tuple[str, ...] = ()
    owner: str = ""


class Recovered(Part, tag=9):
    """Recovery of an epoch ended: attempts of older epochs are fenced off, except these.

    ``tried``: a host of the last epoch did not come back, and may have begun any of the others.
    """

    epoch: int
    adopted: list[TaskRun]
    tried: bool = False


class Begun(Part, tag=10):
    """Tasks that may never run twice (``max_losses`` 0) are about to run as this attempt.

    Committed before they are assigned; of other tasks a first dispatch is not written. ``host``
    is the instance of the agent that gets them.
    """

    session: bytes
    first: int
    count: int
    attempt: int
    host: bytes = b""


class Stopping(Part, tag=11):
    """Somebody wants these tasks stopped, which run, or may: whatever they come to is no outcome.

    Committed before that is acknowledged. ``grace``: how many seconds they have to clean up.
    """

    at: Instant
    tasks: list[TaskRun]
    grace: Instant


class Buried(Part, tag=20):
    """A task is dead: what it was, and the evidence of its attempts, to be kept for people.

    Comes before the outcome; of a task that has none it says nothing. It names no other record and
    outlives the task's own. ``owner``: whose it is. ``arguments``: the record that has them, if
    others died with it; else its own group does.
    """

    at: Instant
    session: bytes
    group: Group
    job: str
    attempts: list[Failure]
    owner: str = ""
    arguments: int = 0


class Arguments(Part, tag=25):
    """The one payload of items of a packed task that died together. Comes before them."""

    session: bytes
    group: Group


class Memory(Part):
    """How a run of tasks ended, without payload. Times are seconds since 1970, 0 if unknown.

    ``job`` is the id of their job, ``name`` its name, ``attempt`` the number of the last attempt,
    ``owner`` whose they were.
    """

    session: bytes
    first: int
    count: int
    ending: Ending
    submitted: Instant
    started: Instant
    ended: Instant
    function: str = ""
    host: str = ""
    error: str = ""
    job: str = ""
    name: str = ""
    attempt: int = 1
    owner: str = ""


class Remembered(Part, tag=21):
    """Memories of tasks that are gone: ``rows`` of them, encoded together.

    ``runs`` covers their tasks, one run a session; ``at`` is when the last of them ended.
    """

    at: Instant
    rows: int
    runs: list[TaskRun]
    memories: bytes


class ClockRead(Part, tag=22):
    """Wall-clock time minus monotonic time, in seconds, in one life (``boot``) of a machine.

    A coordinator that starts again in it goes on so, whatever the wall clock says by then.
    """

    boot: str
    offset: Instant


class Restored(Part, tag=23):
    """The store was restored from a copy: what ran since may be known to nobody.

    Every attempt of an epoch below this is fenced off, and a task that may never run twice, and
    was still open, counts as begun.
    """

    epoch: int


class QueueChanged(Part, tag=24):
    """What was told to a queue while the farm ran; a later one of a name replaces an earlier one.

    ``changes`` are values of its policy instead of the configured ones; None: no limit.
    """

    name: str
    paused: bool
    changes: dict[str, float | int | None] = msgspec.field(default_factory=dict)


Record = (
    Submitted
    | Finished
    | AttemptsEnded
    | Delivered
    | JobOpened
    | JobSealed
    | SessionMark
    | HostJoined
    | Recovered
    | Begun
    | Stopping
    | Buried
    | Arguments
    | Remembered
    | ClockRead
    | Restored
    | QueueChanged
)

_decoder: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Record)
_memories: msgspec.msgpack.Decoder[list[Memory]] = msgspec.msgpack.Decoder(list[Memory])


def encode_record(record: Record) -> bytes:
    """A record as it is stored."""
    return to_msgpack(record)


def decode_record(data: bytes) -> Record:
    """The record that ``encode_record`` wrote; raises ``ProtocolError`` if it is none."""
    try:
        record = _decoder.decode(data)
    except MALFORMED as error:
        raise ProtocolError(f"a malformed record: {error}") from error
    match record:
        case Submitted():
            check_entries(record.groups)
        case Finished():
            check_entries(record.entries)
        case Buried():
            check_entries([record.group])
            if record.group.count != 1 or not record.attempts:
                told = f"{record.group.count} tasks and {len(record.attempts)} attempts"
                raise ProtocolError(f"a record of a dead task has {told}")
        case Arguments():
            check_entries([record.group])
            if not record.group.packed:
                raise ProtocolError("a record of arguments in common is of no packed task")
    return record


def encode_memories(memories: list[Memory]) -> bytes:
    """Memories as a ``Remembered`` holds them."""
    return to_msgpack(memories)


def decode_memories(data: bytes) -> list[Memory]:
    """What ``encode_memories`` wrote; raises ``ProtocolError`` if it is nothing such."""
    try:
        return _memories.decode(data)
    except MALFORMED as error:
        raise ProtocolError(f"malformed memories: {error}") from error
