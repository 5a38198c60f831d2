"""What the routes of a gateway work with."""

import asyncio
from collections.abc import AsyncIterator

from farm.client.relay import Relay
from farm.errors import FarmError
from farm.gateway.aggregates import Aggregates, Library
from farm.gateway.callers import Callers
from farm.gateway.door import Door
from farm.gateway.events import job_events
from farm.gateway.metrics import Metrics
from farm.gateway.problems import busy
from farm.gateway.schedules import Desk, Schedules
from farm.gateway.schemas import JobView
from farm.gateway.seat import Seat, Seats
from farm.gateway.settings import GatewaySettings

__all__ = ["Gateway"]


class _Waiting:
    """One request that waits: for no longer than allowed, or not at all if many do."""

    def __init__(self, gateway: "Gateway", wait: float) -> None:
        self._gateway = gateway
        self._wait = min(wait, gateway.settings.max_wait)

    async def __aenter__(self) -> float:
        if self._gateway.waits >= self._gateway.settings.max_waits:
            self._wait = 0.0
        self._gateway.waits += self._wait > 0
        return self._wait

    async def __aexit__(self, *_: object) -> None:
        self._gateway.waits -= self._wait > 0


class Gateway:
    """One for each process. ``stopping`` is set when it is to end."""

    def __init__(
        self,
        settings: GatewaySettings,
        relay: Relay,
        desk: Desk | None = None,
        library: Library | None = None,
    ) -> None:
        self.settings = settings
        self.relay = relay
        self.stopping = asyncio.Event()
        self.waits = 0
        """Requests that wait now."""
        self.callers = Callers(settings.max_pending)
        self.seats = Seats(settings, self._seat(relay), self._seat)
        self.door = Door(settings)
        self.schedules = Schedules(desk, self.stopping)
        self.aggregates = Aggregates(library)
        self.metrics = Metrics()

    def _seat(self, relay: Relay) -> Seat:
        return Seat(relay, self.callers, self.settings, self.stopping)

    def waiting(self, wait: float) -> _Waiting:
        """A context for a request that wants to wait; it gives how long it may."""
        return _Waiting(self, wait)

    def check_waits(self) -> None:
        """Raise the ``Problem`` 503 if so many wait that no other may."""
        if self.waits >= self.settings.max_waits:
            raise busy("too many requests wait for tasks, or follow jobs, already")

    async def stream(self, seat: Seat, view: JobView, told: int) -> AsyncIterator[bytes]:
        """The events of a job."""
        self.waits += 1
        try:
            async for event in job_events(seat.reading, view, told):
                yield event
        finally:
            self.waits -= 1

    async def scrape(self) -> bytes:
        """The text of ``/metrics``."""
        try:
            status = await self.relay.query("status")
            hosts = await self.relay.query("hosts")
        except (FarmError, ConnectionError):
            status, hosts = None, []
        own = {
            "waits": self.waits,
            "callers": len(self.callers),
            "sessions": len(self.seats),
            **{name: float(value) for name, value in self.relay.numbers.items()},
        }
        return self.metrics.text(status, hosts, own, await self.aggregates.known())
