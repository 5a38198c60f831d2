"""The records of the journal: what must outlive the coordinator, as typed data.

They are built from the same structs as the messages and encoded in the same way, so the wire
format is also the storage format. The coordinator appends one record per message; a record has
a ``ref``, an integer that only grows. Wall-clock times are seconds since 1970.

Loading a store means applying its records in order of ``ref``. Of a record whose tasks are named
by no ``Submitted`` record any more, nothing is left to apply and it is ignored.
"""

import msgspec

from farm.errors import ProtocolError
from farm.protocol.encoding import to_msgpack
from farm.protocol.entries import MALFORMED, check_entries
from farm.protocol.parts import Failure, Group, Part, Result, Run, TaskRun

__all__ = [
    "AttemptEnd",
    "AttemptsEnded",
    "Begun",
    "Buried",
    "Delivered",
    "Finished",
    "HostJoined",
    "JobOpened",
    "JobSealed",
    "Record",
    "Recovered",
    "SessionMark",
    "Submitted",
    "decode_record",
    "encode_record",
]


class Submitted(Part, tag=1):
    """Tasks accepted from a session, or the survivors of an older record, copied out.

    ``fence``: attempts of epochs below it are fenced off (0: none are).
    """

    session: bytes
    at: float
    groups: list[Group]
    fence: int = 0


class Finished(Part, tag=2):
    """Outcomes of tasks: from now on they can be published, and nothing else can."""

    at: float
    entries: list[Result]


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
    due: float = 0.0
    fence: int = 0
    failure: Failure | None = None
    charged: list[bytes] = msgspec.field(default_factory=list)
    tried: bool = False
    attempts: list[Failure] = msgspec.field(default_factory=list)


class AttemptsEnded(Part, tag=3):
    """The end of attempts, committed before any further dispatch of their tasks."""

    at: float
    entries: list[AttemptEnd]


class Delivered(Part, tag=4):
    """The owner of these tasks has their outcomes."""

    at: float
    tasks: list[TaskRun]


class JobOpened(Part, tag=5):
    """A session opened a job."""

    at: float
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
    """

    session: bytes
    secret: bytes
    at: float
    accepted: list[Run]
    connection: int = 0


class HostJoined(Part, tag=8):
    """A host's agent said HELLO; recovery waits for it. Deleted when the host has left."""

    name: str
    instance: bytes


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


class Buried(Part, tag=20):
    """A task is dead: what it was, and the evidence of its attempts, to be kept for people.

    Comes before the outcome; of a task that has none it says nothing. It names no other record and
    outlives the task's own.
    """

    at: float
    session: bytes
    group: Group
    job: str
    attempts: list[Failure]


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
    | Buried
)

_decoder: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Record)


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
    return record
