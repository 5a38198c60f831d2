"""The network between dealers (clients and hosts) and the coordinator's two routers.

A connection carries messages in order in each direction, with random delays, until it dies; what
had not arrived by then is lost. Neither end need notice at once, or at all: a dealer hears of a
death from its monitor, or has to conclude it from silence; a router hears of it when it sends.
A dealer that gave a connection up may open the next while old messages are still on their way.

Every message goes through the codec, which copies it and is tested on the way; each direction is
numbered, and a hole (a message above the size limit vanishes in ZeroMQ) shows as a gap.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from farm.protocol import codec
from farm.protocol.messages import Beat

if TYPE_CHECKING:
    from random import Random

    from farm.identity import Identity
    from tests.sim.clock import Clock

__all__ = ["Connection", "Dealer", "Network", "Server"]

NEVER = float("inf")


class Server(Protocol):
    """The coordinator, as connections see it."""

    def arrived(self, connection: Connection, message: Any) -> None: ...
    def gone(self, connection: Connection) -> None: ...


class Dealer(Protocol):
    """A client or a host, as connections see it."""

    name: str
    side: str
    shares: bool
    who: Identity

    def connected(self, connection: Connection) -> None: ...
    def arrived(self, connection: Connection, message: Any) -> None: ...
    def lost(self, connection: Connection) -> None: ...


@dataclass(slots=True)
class Pipe:
    """One direction of a connection."""

    direction: str
    sent: int = 0
    received: int = 0
    arrival: float = 0.0
    dies: float = NEVER
    is_open: bool = True  # the receiving end still listens


@dataclass(eq=False, slots=True)
class Connection:
    """A dealer's socket and its peer at the router."""

    network: Network
    number: int
    dealer: Dealer
    server: Server
    up: Pipe
    down: Pipe
    server_notices: float = NEVER
    slowness: float = 1.0
    peer: tuple[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self.peer = (self.dealer.side, self.number)

    def __repr__(self) -> str:
        return f"{self.dealer.name}#{self.number}"

    def send_up(self, message: Any) -> None:
        """The dealer sends."""
        self.network.transmit(self, self.up, message)

    def send_down(self, message: Any) -> None:
        """The coordinator sends; a connection known to be dead answers with EHOSTUNREACH."""
        if self.network.clock.now >= self.server_notices:
            self.network.clock.after(0.0, self._unreachable)
            return
        self.network.transmit(self, self.down, message)

    def _unreachable(self) -> None:
        if self.up.is_open:
            self.up.is_open = False
            self.server.gone(self)

    def close_by_dealer(self) -> None:
        """The dealer closes its socket; what it sent may still arrive, perhaps late."""
        self.down.is_open = False
        self.network.linger(self)

    def close_by_server(self) -> None:
        """The coordinator hears no more of this peer, which finds out in time, or by silence."""
        self.up.is_open = False
        chance = self.network.chance
        if self.down.is_open and chance.random() < 0.7:
            when = max(self.network.clock.now, self.down.arrival) + self.network.delay(self)
            self.network.clock.at(when, self.dealer_notices)

    def dealer_notices(self) -> None:
        if self.down.is_open:
            self.down.is_open = False
            self.dealer.lost(self)


class Network:
    """All connections, the delays on them, and the faults that befall them."""

    def __init__(
        self, clock: Clock, chance: Random, *, delay: float, holes: float, slow: float
    ) -> None:
        self.clock = clock
        self.chance = chance
        self.mean_delay = delay
        self.holes = holes
        self.slow = slow  # the share of slow connections
        self.connections: list[Connection] = []
        self.cut_off: dict[str, float] = {}  # name of a dealer: until when nothing passes
        self.messages = 0
        self.words = 0  # sent or arrived, but for beats
        self._made = 0

    def connect(self, dealer: Dealer, server: Server) -> Connection:
        self._made += 1
        connection = Connection(
            self, self._made, dealer, server, Pipe(f"from_{dealer.side}"), Pipe(f"to_{dealer.side}")
        )
        if self.chance.random() < self.slow:
            connection.slowness = self.chance.choice((3.0, 20.0))
        self.connections = [c for c in self.connections if c.up.is_open or c.down.is_open]
        self.connections.append(connection)
        return connection

    def delay(self, connection: Connection) -> float:
        chance = self.chance
        mean = self.mean_delay * connection.slowness
        late = self.slow and chance.random() < 0.01
        return mean * (20.0 if late else 0.5 + chance.random())

    def transmit(self, connection: Connection, pipe: Pipe, message: Any) -> None:
        frames = codec.encode(pipe.sent, message)
        pipe.sent += 1
        self.messages += 1
        self.words += type(message) is not Beat
        if self.holes and self.chance.random() < self.holes:
            return
        start = max(self.clock.now, self.cut_off.get(connection.dealer.name, 0.0))
        pipe.arrival = max(pipe.arrival, start + self.delay(connection))
        self.clock.at(pipe.arrival, self._arrive, connection, pipe, frames)

    def _arrive(self, connection: Connection, pipe: Pipe, frames: list[bytes]) -> None:
        if self.clock.now >= pipe.dies or not pipe.is_open:
            return
        number, message = codec.decoder(pipe.direction).decode(frames)
        if number != pipe.received:  # a hole
            pipe.is_open = False
            self.cut(connection)
            if pipe is connection.up:
                connection.server.gone(connection)
            else:
                connection.dealer.lost(connection)
            return
        pipe.received += 1
        self.words += type(message) is not Beat
        if pipe is connection.up:
            connection.server.arrived(connection, message)
        else:
            connection.dealer.arrived(connection, message)

    # ------------------------------------------------------------ faults

    def cut(self, connection: Connection) -> None:
        """The connection dies; each end notices in its own time, the dealer perhaps never."""
        now, chance = self.clock.now, self.chance
        connection.up.dies = min(connection.up.dies, now + chance.choice((0.0, self.mean_delay)))
        connection.down.dies = min(
            connection.down.dies, now + chance.choice((0.0, self.mean_delay))
        )
        connection.server_notices = min(connection.server_notices, now + chance.expovariate(2.0))
        if chance.random() < 0.7:
            self.clock.after(chance.expovariate(5.0), connection.dealer_notices)

    def linger(self, connection: Connection) -> None:
        """The dealer's end is closed: a part of what is on its way up arrives, perhaps late."""
        now, chance = self.clock.now, self.chance
        reach = chance.choice((0.0, 1.0, 4.0, NEVER))
        connection.up.dies = min(connection.up.dies, now + reach * self.mean_delay)
        connection.server_notices = min(
            connection.server_notices, now + chance.choice((0.0, 0.5, 30.0))
        )
        if reach == NEVER and chance.random() < 0.5:
            self.clock.after(chance.expovariate(1.0), self._router_notices, connection)

    def _router_notices(self, connection: Connection) -> None:
        if connection.up.is_open:
            connection.up.is_open = False
            connection.server.gone(connection)

    def isolate(self, name: str, seconds: float) -> None:
        """Nothing passes to or from a dealer for a time; then what was held goes on, or is lost."""
        until = self.clock.now + seconds
        self.cut_off[name] = until
        for connection in self.connections:
            if connection.dealer.name == name:
                self._hold(connection, until)

    def _hold(self, connection: Connection, until: float) -> None:
        if self.chance.random() < 0.5:
            connection.up.dies = min(connection.up.dies, self.clock.now)
            connection.down.dies = min(connection.down.dies, self.clock.now)
            connection.server_notices = min(
                connection.server_notices, self.clock.now + self.chance.choice((0.5, 5.0, 30.0))
            )

    @property
    def late(self) -> list[str]:
        """The dealers that are gone, and of which something is still on its way."""
        return [
            connection.dealer.name
            for connection in self.connections
            if not connection.dealer.alive
            and connection.up.is_open
            and self.clock.now < min(connection.up.arrival, connection.up.dies)
        ]

    def heal(self) -> None:
        """No more faults: holes stop, nobody is cut off, nothing is slow."""
        self.cut_off.clear()
        self.holes = self.slow = 0.0
        for connection in self.connections:
            connection.slowness = 1.0
            if min(connection.up.dies, connection.down.dies) <= self.clock.now:
                self.clock.after(self.mean_delay, connection.dealer_notices)
