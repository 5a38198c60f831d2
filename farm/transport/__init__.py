"""ZeroMQ sockets, their options and addresses; messages in, messages out.

``Router`` is the coordinator's end of many connections, ``Dealer`` a client's or host's end of
one. Both encode, decode and number messages, send without blocking, and turn whatever goes wrong
on the way into a connection that is gone, never into an exception.
"""

from farm.transport.address import (
    Address,
    AddressError,
    Route,
    host_address,
    parse_address,
    parse_route,
)
from farm.transport.credentials import Credentials, Door, token_said
from farm.transport.dealer import Dealer
from farm.transport.naps import Naps
from farm.transport.poller import Poller
from farm.transport.router import Connection, Router
from farm.transport.waker import Waker

__all__ = [
    "Address",
    "AddressError",
    "Connection",
    "Credentials",
    "Dealer",
    "Door",
    "Naps",
    "Poller",
    "Route",
    "Router",
    "Waker",
    "host_address",
    "parse_address",
    "parse_route",
    "token_said",
]
