"""The life of a task: every legal transition, in one table.

A task is admitted as QUEUED, or SCHEDULED if it has a delay. ``WAYS_OUT`` says of each state what
ends it: no task stays in one for ever. Of the final ones the record goes when its owner has taken
the outcome, or after its time.
"""

from enum import Enum

from farm.model import State

__all__ = ["TRANSITIONS", "WAYS_OUT", "Event", "diagram", "ways_out"]


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
    (State.SCHEDULED, Event.SUCCEED): State.SUCCEEDED,
    (State.SCHEDULED, Event.FAIL): State.FAILED,
    (State.SCHEDULED, Event.BURY): State.DEAD,
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


WAYS_OUT: dict[State, dict[Event, str]] = {
    State.SCHEDULED: {
        Event.DUE: "the time of its delay, or of its next attempt, comes",
        Event.CANCEL: "somebody cancels it, or the task that has its key",
        Event.EXPIRE: "the time comes at which it, or the task that has its key, expires",
        Event.SUCCEED: "the task that has its key succeeds",
        Event.FAIL: "the task that has its key fails",
        Event.BURY: "the task that has its key is dead",
    },
    State.QUEUED: {
        Event.LEASE: "a host has room for it",
        Event.CANCEL: "somebody cancels it",
        Event.EXPIRE: "the time comes at which it expires",
    },
    State.LEASED: {
        Event.SUCCEED: "its host reports its value",
        Event.FAIL: "its host reports a failure, of a limit too, and no retry is left",
        Event.RETRY: "its host reports a failure, and a retry is left",
        Event.RETURN: "its host gives it back, comes back without it, or is lost with it unbegun",
        Event.LOSE: "its worker dies, or its host is silent for `lease_seconds`",
        Event.BURY: "the same, and no loss is left",
        Event.CANCEL: "its host gives it back unbegun, and somebody has cancelled it",
    },
}
"""The event or deadline behind each transition, by the state that it ends."""


def ways_out() -> str:
    """The same as a table, for the documentation."""
    rows = [
        f"| {before.name} | {TRANSITIONS[before, event].name} | {text} |"
        for before, events in WAYS_OUT.items()
        for event, text in events.items()
    ]
    return "\n".join(["| in | until | because |", "| --- | --- | --- |", *rows]) + "\n"


def diagram() -> str:
    """The table as a Mermaid state diagram, for the documentation."""
    lines = ["stateDiagram-v2", "    [*] --> QUEUED: submit", "    [*] --> SCHEDULED: submit"]
    lines += [
        f"    {before.name} --> {after.name}: {event.value}"
        for (before, event), after in TRANSITIONS.items()
    ]
    lines += [f"    {state.name} --> [*]" for state in State if state.is_final]
    return "\n".join(lines) + "\n"
