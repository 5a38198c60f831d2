"""The checker of a host's memory: what it was given it has, until it was told to forget it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from farm.protocol.messages import Assign, Drop, HostHello, HostWelcome, Noted, Report
from tests.sim.truth import Violation, ids

if TYPE_CHECKING:
    from farm.protocol.messages import Claim
    from farm_workers.host_slices import Slice
    from tests.sim.truth import Id

__all__ = ["HostMemory"]

Held = tuple[int, int, bytes, int]
"""``(epoch, lease, session, counter)``."""


class HostMemory:
    """What one agent must know: kept from outside, by what it is told and what it tells."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._sessions: dict[tuple[int, int], bytes] = {}
        self._held: set[Held] = set()
        self._told: dict[int, list[Held]] = {}  # by the number of the report
        self._fenced: set[Held] = set()

    def received(self, message: object) -> None:
        """The coordinator says something, on the present connection."""
        match message:
            case Assign():
                for grant in message.grants:
                    key = (message.epoch, grant.lease)
                    self._sessions[key] = grant.session
                    self._held |= _held(key, ids(grant.session, grant.first, grant.count))
            case Noted():
                for number in [n for n in self._told if n <= message.number]:
                    self._held.difference_update(self._told.pop(number))
            case HostWelcome():
                self._drop(message.drop)
            case Drop():
                self._drop(message.claims)

    def _drop(self, claims: list[Claim]) -> None:
        for claim in claims:
            tasks = ids(claim.session, claim.first, claim.count)
            dropped = _held((claim.epoch, claim.lease), tasks)
            self._held -= dropped
            self._fenced |= dropped

    def sent(self, message: HostHello | Report) -> None:
        """The host says something."""
        if isinstance(message, HostHello):
            claimed: set[Held] = set()
            for claim in message.claims:
                tasks = ids(claim.session, claim.first, claim.count)
                claimed |= _held((claim.epoch, claim.lease), tasks)
            if forgotten := self._held - claimed:
                raise Violation("host forgot", f"{self._name} does not claim {min(forgotten)}")
            return
        over = [((ended.epoch, ended.lease), ended.first, ended.count) for ended in message.ended]
        over += [((epoch, lease), first, count) for epoch, lease, first, count in message.returned]
        self._told[message.number] = [
            held for key, a, n in over for held in _held(key, ids(self._sessions[key], a, n))
        ]

    def runs(self, part: Slice) -> None:
        """A slice goes to a worker."""
        for held in _held(part.key, ids(part.session, part.first, part.count)):
            if held in self._fenced:
                raise Violation("fenced task ran", f"{self._name} runs {held} after its drop")


def _held(key: tuple[int, int], tasks: list[Id]) -> set[Held]:
    return {(*key, session, counter) for session, counter in tasks}
