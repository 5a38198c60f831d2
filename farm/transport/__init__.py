"""ZeroMQ sockets, their options and addresses; messages in, messages out.

``Router`` is the coordinator's end of many connections, ``Dealer`` a client's or host's end of
one. Both encode, decode and number messages, send without blocking, and turn whatever goes wrong
on the way into a connection that is gone, never into an exception.

All but addresses is loaded when it is first used: no process needs both ends, and who starts a farm
has to know its address first.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from farm.transport.address import (
    Address,
    AddressError,
    Route,
    host_address,
    parse_address,
    parse_route,
)

if TYPE_CHECKING:
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

_LAZY = {
    "Connection": "farm.transport.router",
    "Credentials": "farm.transport.credentials",
    "Dealer": "farm.transport.dealer",
    "Door": "farm.transport.credentials",
    "Naps": "farm.transport.naps",
    "Poller": "farm.transport.poller",
    "Router": "farm.transport.router",
    "Waker": "farm.transport.waker",
    "token_said": "farm.transport.credentials",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        value = globals()[name] = getattr(import_module(_LAZY[name]), name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
