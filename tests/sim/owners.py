"""The keys of a simulated farm: who each process is, and what happens when a key is revoked."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any

from farm.identity import TRUSTED, Identity, Role
from farm.protocol.messages import PROTOCOL_VERSION, ClientHello, ClientWelcome
from tests.sim.plan import PYTHON
from tests.sim.truth import Violation

if TYPE_CHECKING:
    from tests.sim.client import ClientProcess
    from tests.sim.network import Connection
    from tests.sim.process import Process
    from tests.sim.truth import Task
    from tests.sim.world import World

__all__ = ["HOSTILE", "Owners", "Thief"]

HOSTILE = "hostile"
"""The process that tries what it may not do, and the name of its key."""
ADMIN = "auditor"


class Owners:
    """Who has which key. With a plan that has no owners, no keys are in use."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.many = world.plan.owners
        self.chance = Random(world.plan.seed * 7919 + 3)
        self.revoked: set[str] = set()
        """Ids of keys that are good for nothing any more."""
        self._keys: Counter[str] = Counter()  # of each name: how many it has had
        if self.many and world.plan.revoke_seconds:
            self._next()

    # ------------------------------------------------------------ who is who

    def name_of(self, process: str) -> str:
        """Whose a process is, by its name."""
        if not self.many:
            return ""
        if process.startswith("client"):
            return f"key{int(process.removeprefix('client')) % self.many}"
        return process.partition(".")[0]  # a worker's is its host's

    def identity(self, process: str, side: str) -> Identity:
        """What the key says that a process has now."""
        if not self.many:
            return TRUSTED
        name = self.name_of(process)
        key = f"{name} {self._keys[name]}"
        if side == "host":
            return Identity(name, Role.HOST, "own", key)
        if process == ADMIN:
            return Identity(name, Role.ADMIN, "all", key)
        if "." in process:
            return Identity(name, Role.CLIENT, "tasks", f"{key} tasks")
        return Identity(name, Role.CLIENT, "own", key)

    def of(self, task: Task) -> set[str]:
        """Whose a task may be: that of one without a parent is known.

        What a worker has submitted comes late if the parent was ended by force, or its host was
        lost: then it may be the host's, for the parent is not there any more.
        """
        mine = {self.name_of(task.client)}
        parent = task.template.parent
        if parent is not None and (above := self.world.truth.tasks.get(parent)) is not None:
            ended = any(one.ended in {"died", "stopped"} for one in above.executions)
            if self.world.plan.is_calm and not ended:
                return self.of(above)
            mine |= self.of(above)
        return mine

    def may_see(self, process: ClientProcess, task: Task) -> bool:
        """Whether a client may be told of a task."""
        identity = process.who
        return (
            identity.sees_all
            or task.id[0] == process.session
            or not self.many
            or identity.name in self.of(task)
        )

    def must_see(self, process: ClientProcess, task: Task) -> bool:
        """Whether a client has to be told of a task: by whose the farm has written that it is."""
        who = process.who
        mine = task.id[0] == process.session or who.name == task.owner
        return mine or who.sees_all or not self.many

    # ------------------------------------------------------------ revocation

    def _next(self) -> None:
        mean = self.world.plan.revoke_seconds
        self.world.clock.after(self.chance.expovariate(1.0 / mean), self._strike)

    def _strike(self) -> None:
        world = self.world
        if world.resting:
            return
        names = [f"host{i}" for i in range(world.plan.hosts)]
        names += [f"key{i}" for i in range(self.many)]
        self.revoke(self.chance.choice(names))
        self._next()

    def revoke(self, name: str) -> None:
        """All keys of a name end at once; in a while it is given others."""
        key = f"{name} {self._keys[name]}"
        if key in self.revoked:
            return
        world = self.world
        world.stats["revoked"] += 1
        world.said("world", "revokes", key)
        keys = {key, f"{key} tasks"}
        self.revoked |= keys
        if world.coordinator is not None:
            world.coordinator.revoke(keys)
        world.clock.after(self.chance.choice((0.1, 1.0, 4.0)), self._renew, name)

    def _renew(self, name: str) -> None:
        """A new key for a name: a client goes on with it, a host has to be started again."""
        self._keys[name] += 1
        world = self.world
        for client in world.clients:
            if client.alive and client.who.name == name:
                client.who = self.identity(client.name, "client")
        for index, host in enumerate(world.hosts):
            if host is not None and host.name == name and host.who.key in self.revoked:
                world.crash_host(index, restart_after=0.1)
        world.door.opened()

    def is_barred(self, process: Process) -> bool:
        """Whether nobody lets a process in."""
        return process.who.key in self.revoked


class Thief:
    """A stranger who knows the id and the secret of a session, and says HELLO as that."""

    side, shares, alive = "client", False, True
    connection: Connection | None = None

    def __init__(self, world: World, victim: ClientProcess) -> None:
        self.name = "thief"
        self.who = world.owners.identity(HOSTILE, "client")
        self.session = b""  # it has none of its own
        self._victim = victim.session
        self._world = world
        self._secret = victim.machine._secret

    def connected(self, connection: Connection) -> None:
        self.connection = connection
        hello = ClientHello(
            PROTOCOL_VERSION, "sim", PYTHON, b"thief" * 3, self._victim, self._secret,
            1 << 20, 0, b"", 0, 1 << 20, [(1, 100)],
        )  # fmt: skip
        self._world.said(self.name, connection, hello)
        connection.send_up(hello)

    def arrived(self, connection: Connection, message: Any) -> None:
        if isinstance(message, ClientWelcome):
            raise Violation("session stolen", f"{connection} has that of another")

    def lost(self, connection: Connection) -> None:
        self.alive = False
