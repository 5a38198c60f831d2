"""The life of a task: every legal transition, in one table.

A task is admitted as QUEUED, or SCHEDULED if it has a delay. Each state says what ends it:

- SCHEDULED: its due time, its expiry, or a cancel.
- QUEUED: a host with room, its expiry, or a cancel.
- LEASED: a report from its host, or the end of the host's lease.
- the others are final; the record goes when its owner has taken the outcome, or after its time.
"""

from enum import Enum

from farm.model import State

__all__ = ["TRANSITIONS", "Event", "diagram"]


class Event(Enum):
    """What can happen to a task."""

    DUE = "due"
    LEASE = "lease"
    SUCCEED = "succeed"
    FAIL = "fail"
    RETRY = "retry"
    RETURN = "return"
    LOSE = "lose"
    BURY = "bury"
    CANCEL = "cancel"
    EXPIRE = "expire"

    __hash__ = object.__hash__  # each is one object, and this is on the hot path


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.SCHEDULED, Event.DUE): State.QUEUED,
    (State.SCHEDULED, Event.CANCEL): State.CANCELLED,
    (State.SCHEDULED, Event.EXPIRE): State.EXPIRED,
    (State.QUEUED, Event.LEASE): State.LEASED,
    (State.QUEUED, Event.CANCEL): State.CANCELLED,
    (State.QUEUED, Event.EXPIRE): State.EXPIRED,
    (State.LEASED, Event.SUCCEED): State.SUCCEEDED,
    (State.LEASED, Event.FAIL): State.FAILED,
    (State.LEASED, Event.RETRY): State.SCHEDULED,
    (State.LEASED, Event.RETURN): State.QUEUED,
    (State.LEASED, Event.LOSE): State.QUEUED,
    (State.LEASED, Event.BURY): State.DEAD,
    (State.LEASED, Event.CANCEL): State.CANCELLED,
}


def diagram() -> str:
    """The table as a Mermaid state diagram, for the documentation."""
    lines = ["stateDiagram-v2", "    [*] --> QUEUED: submit", "    [*] --> SCHEDULED: submit"]
    lines += [
        f"    {before.name} --> {after.name}: {event.value}"
        for (before, event), after in TRANSITIONS.items()
    ]
    lines += [f"    {state.name} --> [*]" for state in State if state.is_final]
    return "\n".join(lines) + "\n"
