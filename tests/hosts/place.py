"""A place whose services run in network namespaces: a coordinator, hosts, clients and a relay."""

import contextlib
import os
import subprocess
import sys

from farm.identity import Role
from farm.keys import KeyStore
from tests.hosts.net import Network
from tests.processes import Place

__all__ = ["FARM", "NetPlace"]

FARM, RELAY = "farm", "relay"
"""The names of the machines of the coordinator and of the relay."""
PORT, RELAY_PORT = 7070, 7100
NUMBERS = {"coordinator": 1, RELAY: 9, "host-0": 11, "host-1": 12, "host-2": 13} | {
    "client-0": 21,
    "client-1": 22,
}
MOVED = (1, 2, 3)
"""The addresses that the coordinator's machine has in turn."""
VIA_RELAY = ("host-1", "host-2", "client-1")
"""Who goes through the relay, on ports of its own; the last two also know the direct way."""


class NetPlace(Place):
    """Every service has the namespace of its name, and each peer a key of its own."""

    def __init__(self, kind, **more):
        super().__init__(kind, **more)
        self.net = Network(self.folder)
        self._moves = 0
        self._keys = KeyStore(self.folder / "keys")
        self._keys.create(f"tcp://{FARM}:{PORT}")

    def __enter__(self):
        self.net.__enter__()
        self.spare_children()  # the network's keeper outlives the services
        for name, number in NUMBERS.items():
            self.net.add(name, number)
        self._tell_names()
        self.relay = self._relay()
        self.relay.start()
        return super().__enter__()

    def __exit__(self, *details):
        try:
            super().__exit__(*details)
        finally:
            self.net.__exit__(*details)

    def _tell_names(self):
        addresses = self.net.addresses
        self.net.name_them({FARM: addresses["coordinator"], RELAY: addresses[RELAY]})

    def _relay(self):
        words = [
            f"{port + side}={FARM}:{PORT + side}"
            for port in map(self.relay_port, VIA_RELAY)
            for side in (0, 1)
        ]
        command = [sys.executable, "-m", "tests.hosts.relay", str(os.getpid()), *words]
        return self.service(RELAY, command, stdin=subprocess.PIPE)

    def service(self, name, command, **more):
        if name not in {"coordinator", RELAY}:
            more["FARM_TOKEN"] = str(self._token(name))
        return super().service(name, self.net.command(name, command), **more)

    def coordinator(self, core=None, **settings):
        told = {"listen": f"tcp://*:{PORT}", "keys": str(self._keys.folder)}
        return super().coordinator(core, **told | settings)

    def _token(self, name):
        """The file with the token of a peer."""
        path = self.folder / f"{name}.token"
        if not path.exists():
            path.touch(0o600)
            role = Role.HOST if name.startswith("host") else Role.CLIENT
            path.write_text(self._keys.new(name, role))
        return path

    def relay_port(self, name):
        """The port of the relay for a client or, with the next, for a host."""
        return RELAY_PORT + 10 * VIA_RELAY.index(name)

    def address_for(self, name):
        direct = f"tcp://{FARM}:{PORT}"
        if name not in VIA_RELAY:
            return direct
        relayed = f"tcp://{RELAY}:{self.relay_port(name)}"
        return relayed if name == VIA_RELAY[0] else f"{relayed},{direct}"

    def order(self, name, mode):
        """Have the relay do this with what is of one peer."""
        if not self.relay.alive:  # whatever it was told, it forgets at its end
            return
        for port in (self.relay_port(name), self.relay_port(name) + 1):
            with contextlib.suppress(BrokenPipeError):
                self.relay.process.stdin.write(f"{port} {mode}\n".encode())

    def move(self):
        """Give the coordinator's machine another address; its name means that one from now on."""
        self._moves += 1
        self.net.set_address("coordinator", MOVED[self._moves % len(MOVED)])
        self._tell_names()
