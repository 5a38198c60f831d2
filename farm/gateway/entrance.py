"""What the guard asks of a gateway: who comes, whether there is room, whether one may stay."""

from typing import Any

from farm.gateway.door import identity_of
from farm.gateway.gateway import Gateway
from farm.gateway.seat import seat_of

__all__ = ["Entrance"]


class Entrance:
    """Stands before the routes of a gateway; see ``guard.Admission``."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def enter(self, scope: Any, authorization: str) -> None:
        """Note who asks, and have a session for them; raises ``Problem``."""
        self._gateway.door.enter(scope, authorization)
        await self._gateway.seats.sit(scope, identity_of(scope))

    def leave(self, scope: Any) -> None:
        """A request is answered."""
        self._gateway.seats.rise(scope)

    def stays(self, scope: Any, authorization: str) -> bool:
        """Whether the token with which a request came in is good still."""
        return self._gateway.door.stays(scope, authorization)

    def check_room(self, queue: str, caller: str, scope: Any) -> None:
        """Raise the ``Problem`` that keeps a caller from submitting now."""
        seat_of(scope).submitting.check_room(queue, caller)
