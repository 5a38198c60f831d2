"""What one caller works with: a session of its own with the farm, and what goes through that.

A caller with a token has a session that the gateway opens on its behalf, so that the farm itself
knows whose tasks are, and who may see them. All others share the gateway's own.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from farm.client.relay import Relay
from farm.gateway.callers import Callers
from farm.gateway.problems import busy, busy_if_away
from farm.gateway.reading import Reading
from farm.gateway.settings import GatewaySettings
from farm.gateway.submitting import Submitting
from farm.identity import Identity, Role
from farm.model import Answer

__all__ = ["Seat", "Seats", "seat_of"]

CONNECT_SECONDS = 3.0
"""How long a caller's first request waits for its session."""
SEAT = "farm.seat"
"""Where a request has its seat."""


def seat_of(scope: Any) -> "Seat":
    """The seat of a request that was let in."""
    found: Seat = scope[SEAT]
    return found


class Seat:
    """One session, and the parts of a gateway that use it."""

    def __init__(
        self,
        relay: Relay,
        callers: Callers,
        settings: GatewaySettings,
        stopping: asyncio.Event,
    ) -> None:
        self.relay = relay
        self.submitting = Submitting(relay, callers, settings)
        self.reading = Reading(relay, stopping)
        self.users = 0
        """Requests that are at it."""

    @property
    def may_end(self) -> bool:
        """Whether its session can end without harm: nobody is at it, and no task is in doubt."""
        return not self.users and not self.submitting.in_doubt

    async def ask(self, what: str, **arguments: Answer) -> Any:
        """What the farm says about itself; raises ``Problem``."""
        with busy_if_away():
            return await self.relay.query(what, **arguments)


class Seats:
    """The seats of all callers: the gateway's own, and at most ``max_sessions`` on behalf."""

    def __init__(self, settings: GatewaySettings, own: Seat, make: Callable[[Relay], Seat]) -> None:
        self.own = own
        self._settings = settings
        self._make = make
        # The one that was used last is the last; bounded by max_sessions.
        self._of: OrderedDict[Identity, Seat] = OrderedDict()
        self._closing: set[asyncio.Task[None]] = set()
        self._may = False  # the farm has said that the gateway is an admin

    def __len__(self) -> int:
        return len(self._of)

    async def sit(self, scope: Any, identity: Identity | None) -> None:
        """Give a request the seat of its caller, with a session; raises ``Problem``."""
        seat = self.own
        if identity is not None:
            if identity not in self._of:
                await self._check_own()
            seat = self._of.get(identity) or self._new(identity)
            self._of.move_to_end(identity)
        seat.users += 1
        scope[SEAT] = seat
        if seat is not self.own and not seat.relay.connected:
            await seat.relay.come(CONNECT_SECONDS)

    def rise(self, scope: Any) -> None:
        """A request is answered."""
        seat: Seat | None = scope.get(SEAT)
        if seat is not None:
            seat.users -= 1

    async def _check_own(self) -> None:
        """Whether the farm lets this gateway speak for others."""
        if self._may:
            return
        if not self.own.relay.connected:
            await self.own.relay.come(CONNECT_SECONDS)
        who = await self.own.ask("who")
        if who["role"] != Role.ADMIN:
            raise busy(
                f"this gateway has a {who['role']}'s key, and only an admin's may speak for others:"
                " start it with the token that  farm keys new NAME --role admin  makes"
            )
        self._may = True

    def _new(self, identity: Identity) -> Seat:
        if len(self._of) >= self._settings.max_sessions:
            self._make_room()
        settings = self._settings
        relay = Relay(settings.address, settings.token, settings.keys, behalf=identity)
        seat = self._of[identity] = self._make(relay)
        return seat

    def _make_room(self) -> None:
        """Close the session of whom it costs the least: few tasks to follow, used long ago."""
        ending = [(one, seat) for one, seat in self._of.items() if seat.may_end]
        if not ending:
            raise busy(
                f"{len(self._of)} callers have sessions with the farm that are in use, and"
                " max_sessions allows no more"
            )
        identity, seat = min(ending, key=lambda one: one[1].submitting.pending)
        del self._of[identity]
        seat.submitting.hand_over(self.own.submitting)
        task = asyncio.ensure_future(asyncio.to_thread(seat.relay.close))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def close(self) -> None:
        """Leave; what was accepted goes on. Not on the loop."""
        for seat in self._of.values():
            seat.relay.close()
        self._of.clear()
