"""Rules of the farm broken on purpose, one at a time: the simulator must find each.

A bite replaces a method of a machine by one that forgets its rule, and names the checkers that
may be the first to notice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pytest

__all__ = ["BITES", "CUTS", "MUCH_MEMORY", "PARTITIONS", "RESTARTS", "Bite", "bite"]

Patch = Callable[["pytest.MonkeyPatch"], None]


class Bite(NamedTuple):
    """A broken rule."""

    rule: str
    found_by: tuple[str, ...]
    patch: Patch
    plan: dict[str, Any]
    """What to change in each seed's plan, so that it is found soon."""


BITES: list[Bite] = []
"""Filled by the modules that break the rules."""

CUTS = ["cut", "isolate"]
MUCH_MEMORY = {"resident_payload_bytes": 1 << 20, "session_result_bytes": 1 << 20}
"""So that reading back from the store delays nothing."""
RESTARTS = ["crash coordinator"]
PARTITIONS = {
    "faults": ["isolate", "pause host"],
    "hosts": 3,
    "slots": [2, 2, 2],
    "work_seconds": 0.8,
}


def bite(rule: str, *found_by: str, **plan: Any) -> Callable[[Patch], Patch]:
    """Keep a function that breaks a rule, with what finds it and the plan that makes it soon."""

    plan.setdefault("owners", 0)  # unless it is about these
    plan.setdefault("strangers", 0)

    def keep(patch: Patch) -> Patch:
        BITES.append(Bite(rule, found_by, patch, plan))
        return patch

    return keep
