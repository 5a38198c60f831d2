"""The door of the coordinator: who finds it shut waits there, and takes no steps meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.sim.network import Dealer
    from tests.sim.world import World

__all__ = ["Door"]

DIAL_SECONDS = 0.01, 0.3
"""The bounds of how long a dealer takes to connect, or to connect again."""


class Door:
    """Where dealers connect.

    Sockets try it again and again, of which nothing comes until somebody opens; so those who wait
    are remembered, and dial when what kept them out may be over.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._waiting: list[Dealer] = []

    def dial(self, dealer: Dealer) -> None:
        """A dealer opens a socket, and is connected in a while, or when the door is open."""
        delay = self._world.chance.uniform(*DIAL_SECONDS)
        self._world.clock.after(delay, self._dialled, dealer)

    def _dialled(self, dealer: Any) -> None:
        world = self._world
        if not dealer.alive or dealer.connection is not None:
            return
        cut_off = world.network.cut_off.get(dealer.name, 0.0)
        shut = world.coordinator is None or world.owners.is_barred(dealer)
        if shut or world.clock.now < cut_off:
            self._waiting.append(dealer)
            if world.clock.now < cut_off:
                world.clock.at(cut_off, self.opened)
            return
        connection = world.network.connect(dealer, world.coordinator)
        world.coordinator.accept(connection)
        dealer.connected(connection)

    def opened(self) -> None:
        """Something that shut the door is over: all who wait try again."""
        waiting, self._waiting = self._waiting, []
        for dealer in waiting:
            if dealer.alive:
                self.dial(dealer)
