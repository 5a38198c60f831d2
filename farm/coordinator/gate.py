"""Where a coordinator with keys listens, as its keys change while it runs.

A second server key has ports of its own, two above the first's, as long as there are two: then the
newer one takes over the first ports. Used on the loop's thread, which owns the sockets.
"""

import logging
from collections.abc import Sequence

from farm.coordinator.guard import Guard
from farm.coordinator.joining import Joining
from farm.keys import INVITED, ROTATED_PORTS, Newcomer, Server
from farm.logs import Seldom
from farm.protocol.messages import HostHello, Rejected
from farm.protocol.messages_host import JOINED
from farm.transport import Address, AddressError, Connection, Router, host_address

__all__ = ["Gate"]

logger = logging.getLogger("farm.coordinator")

RETRY_SECONDS = 0.05
"""How soon an address that could not be bound is tried again: it may have been just let go."""


class Gate:
    """The addresses of both routers, each bound with the key that it should have."""

    def __init__(
        self, guard: Guard, joining: Joining, address: Address, routers: Sequence[Router]
    ) -> None:
        self.guard = guard
        self._joining = joining
        self._address = address
        self._routers = {router.side: router for router in routers}
        self._bound: dict[Address, bytes] = {}
        self._wanted: dict[Address, bytes] = {}
        self._due = float("inf")
        self._seldom = Seldom(logger)

    def open(self) -> None:
        """Listen where it should; raises ``AddressError`` if that cannot be."""
        server = self.guard.take_server()
        if server is not None:
            self._wanted = self._ports(server)
        for address, secret in self._wanted.items():
            self._bind(address, secret)

    def invited(self, peer: Connection, hello: HostHello) -> bool:
        """Whether a host comes with an invite: then it is answered later, by ``step``."""
        invite = peer.identity
        if invite.scope != INVITED:
            return False
        public, tasks, *_ = (*hello.keys, b"", b"")
        before = self.guard.joined(invite.key, hello.name)
        connected = frozenset(filter(self._routers["host"].reaches, before))
        self._joining.ask(peer, Newcomer(invite.key, hello.name, public, tasks, connected))
        return True

    def _answer(self) -> None:
        """Tell hosts that have asked to join what has become of it."""
        router = self._routers["host"]
        for peer, host, refusal in self._joining.take():
            if refusal is None:
                logger.info("a host joined with an invite", extra={"host": host.name})
                said = Rejected(JOINED, "it has joined, and is to come with its own key", True)
            else:
                said = Rejected("invite", refusal.why, refusal.retry)
            router.send(peer, said)
            router.close(peer)

    def next_deadline(self) -> float:
        """When ``step`` has to be called in any case."""
        return self._due

    def step(self, now: float) -> list[str]:
        """Do what changed keys ask for: answer hosts, cut connections, listen as it should be now.

        Returns the ids of keys that have ended.
        """
        if self._joining.has_news:
            self._answer()
        if not self.guard.has_news and now < self._due:
            return []
        ended = self.guard.take_gone()
        for key in ended:
            count = sum(router.cut(key) for router in self._routers.values())
            if count:
                logger.info("%d connections of a key that has ended are cut", count)
        server = self.guard.take_server()
        if server is not None:
            self._wanted = self._ports(server)
            self._due = now
        if now >= self._due:
            self._rearrange(now)
        return ended

    def _rearrange(self, now: float) -> None:
        for address, secret in list(self._bound.items()):
            if self._wanted.get(address) != secret:
                self._unbind(address)
        self._due = float("inf")
        for address, secret in self._wanted.items():
            if address not in self._bound:
                try:
                    self._bind(address, secret)
                except AddressError as error:
                    self._seldom.warning(f"{error}; it is tried again")
                    self._due = now + RETRY_SECONDS
                else:
                    logger.info("listening at %s with a new key", address)

    def _ports(self, server: Server) -> dict[Address, bytes]:
        first, *second = server.secrets
        found = {self._address: first}
        for secret in second:
            found[self._address._replace(port=self._address.port + ROTATED_PORTS)] = secret
        return found

    def _bind(self, address: Address, secret: bytes) -> None:
        """Both of the pair of ports or none."""
        clients, hosts = self._routers["client"], self._routers["host"]
        clients.bind(address, secret)
        try:
            hosts.bind(host_address(address), secret)
        except AddressError:
            clients.unbind(address)
            raise
        self._bound[address] = secret

    def _unbind(self, address: Address) -> None:
        self._routers["client"].unbind(address)
        self._routers["host"].unbind(host_address(address))
        del self._bound[address]
