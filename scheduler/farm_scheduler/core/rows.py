"""The ledger: one row for every nominal time, and what may stand in it."""

from enum import StrEnum
from hashlib import sha256

import msgspec

__all__ = ["FAILED", "SUCCEEDED", "Kind", "Row", "State", "fire_id"]

SUCCEEDED = "succeeded"
"""The outcome of a run that did what it should."""
FAILED = frozenset(("failed", "dead", "expired", "lost"))
"""Outcomes after which somebody wants to be told."""


class Kind(StrEnum):
    """Why there is a fire: its time came, somebody wanted it now, or wanted the past."""

    TIME = "time"
    MANUAL = "manual"
    BACKFILL = "backfill"


class State(StrEnum):
    """How far a fire has come; the last three are final."""

    WAITING = "waiting"
    RUNNING = "running"
    RAN = "ran"
    COALESCED = "coalesced"
    SKIPPED = "skipped"

    @property
    def is_final(self) -> bool:
        """Whether nothing more becomes of it."""
        return self not in {State.WAITING, State.RUNNING}


class Row(msgspec.Struct, kw_only=True, gc=False):
    """One fire, and its fate. Times are seconds since 1970.

    ``reason``: why it was skipped, in a word; ``detail`` says it in full, or how a run failed.
    ``into``: the fire that ran in its stead. ``since``: where its interval ``[since, nominal)``
    begins. ``until``: this row stands for all nominal times from ``nominal`` to before it.
    ``begun``: when it was submitted; ``ended``: when its outcome was known, or it was decided.
    ``output``: the end of what a command wrote.
    """

    fire_id: str
    schedule: str
    nominal: int
    kind: Kind = Kind.TIME
    state: State = State.WAITING
    due: float = 0.0
    since: int | None = None
    reason: str = ""
    into: str = ""
    task: str = ""
    outcome: str = ""
    detail: str = ""
    begun: float | None = None
    ended: float | None = None
    until: int | None = None
    output: str = ""


def fire_id(schedule: str, nominal: int, mark: str = "") -> str:
    """The name of a fire: the same for the same schedule, time and ``mark``, everywhere.

    ``mark`` tells apart what was asked for by hand. It is the idempotency key of the submission.
    """
    return sha256(f"{schedule}\0{nominal}\0{mark}".encode()).hexdigest()[:32]
