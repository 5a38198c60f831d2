"""How a coordinator comes to its sockets: with keys, on ipc, or for everybody who can connect.

What deals with keys is loaded where there are any: a local farm waits for its coordinator.
"""

import contextlib
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from farm.coordinator.settings import CoordinatorSettings, ExitCode
from farm.errors import ConfigError
from farm.transport import Address, Router, Waker, host_address, parse_address
from farm.transport.options import MESSAGES_HWM, hwm_for

if TYPE_CHECKING:
    import zmq

    from farm.coordinator.gate import Gate

__all__ = ["Unsafe", "check_safe", "listen"]

logger = logging.getLogger("farm.coordinator")


class Unsafe(ConfigError):
    """Other machines could connect, and nothing would keep them from running code here."""


def check_safe(address: Address, keys: str, *, insecure: bool) -> None:
    """Raise ``Unsafe`` if everybody on a network could run code here and nobody has allowed it."""
    if address.is_private or insecure or (keys and _has_keys(keys)):
        return
    raise Unsafe(
        f"{address} is open to other machines, and without keys everyone who can connect can run"
        " code on this farm. Make keys:  farm keys init --address tcp://NAME-OF-THIS-MACHINE:"
        f"{address.port}  and then one for each host and client:  farm keys new NAME --role host"
        "  (or allow it with --insecure, on a network where you trust everyone)"
    )


def _has_keys(folder: str) -> bool:
    from farm.keys import KeyStore  # noqa: PLC0415 - see above

    return KeyStore(Path(folder)).exists


def listen(
    settings: CoordinatorSettings,
    context: "zmq.Context[zmq.Socket[bytes]]",
    session_tasks: int,
    waker: Waker,
    cleanup: contextlib.ExitStack,
) -> "tuple[Gate | None, tuple[Router, Router]]":
    """The sockets for hosts and for clients, bound; and what guards them, where keys are in use."""
    address = parse_address(settings.listen)
    check_safe(address, settings.keys, insecure=settings.insecure)
    hwm = settings.messages_hwm or max(MESSAGES_HWM, hwm_for(session_tasks))
    if settings.keys and address.scheme == "tcp" and not settings.insecure:
        return _guarded(settings, address, context, waker, cleanup, hwm)
    if address.scheme == "tcp":
        who = "every user of this machine" if address.is_private else "everybody"
        logger.warning("without keys, %s can run code at %s", who, address)
    hosts, clients = Router(context, "host", hwm=hwm), Router(context, "client", hwm=hwm)
    clients.bind(address)
    hosts.bind(host_address(address))
    return None, (hosts, clients)


def _guarded(
    settings: CoordinatorSettings,
    address: Address,
    context: "zmq.Context[zmq.Socket[bytes]]",
    waker: Waker,
    cleanup: contextlib.ExitStack,
    hwm: int,
) -> "tuple[Gate, tuple[Router, Router]]":
    from farm.coordinator.gate import Gate  # noqa: PLC0415 - see above
    from farm.coordinator.guard import Guard  # noqa: PLC0415
    from farm.coordinator.joining import Joining  # noqa: PLC0415
    from farm.keys import KeyStore  # noqa: PLC0415

    store = KeyStore(Path(settings.keys))
    store.ensure_local()
    guard = Guard(context, store, waker.wake, lambda: os._exit(ExitCode.BUG))
    cleanup.callback(guard.close)
    hosts = Router(context, "host", hwm=hwm, identify=guard.identify("host"))
    clients = Router(context, "client", hwm=hwm, identify=guard.identify("client"))
    guard.start((hosts, clients))
    joining = Joining(store, waker.wake)
    cleanup.callback(joining.close)
    gate = Gate(guard, joining, address, (hosts, clients))
    gate.open()
    return gate, (hosts, clients)
