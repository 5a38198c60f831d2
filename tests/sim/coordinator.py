"""The coordinator's process: the core, its port and its connections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from farm.core import Core
from farm.identity import TRUSTED, Identity
from farm.protocol.messages import Query
from farm.protocol.records import Submitted
from farm.store.later import head_of, record_of
from tests.sim.journal import Journal
from tests.sim.process import Process
from tests.sim.work import content

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from farm.core.hosts import Host, Lease
    from farm.model import Blob, Payload
    from farm.protocol.records import Record
    from tests.sim.network import Connection
    from tests.sim.world import World

__all__ = ["CoordinatorProcess"]

WALL = 1.75e9
"""Seconds since 1970 when the simulated world began."""
HEAD_SECONDS = 0.5
"""How much later a task starts that has a head."""


class CoordinatorProcess(Process):
    """From opening the store to the end of the process; also the core's port."""

    def __init__(self, world: World) -> None:
        super().__init__(world, "coordinator")
        self.side = "coordinator"
        self.checks = world.checks
        self.connections: dict[Any, Connection] = {}
        self.revoked: set[str] = set()  # the keys of which it was told that
        self.turns = 0  # how often anything has happened to it
        self._leases_given = 0  # by the end of the last turn
        self.short = False  # the core was told that the disk is full
        disk = world.disk
        self.journal = Journal(
            disk, world.clock, world.chance, self.checks, lambda ref: self.do(self._committed, ref)
        )
        self.journal.commit_seconds = world.plan.commit_seconds
        self._offset = world.boot_offset  # its machine is never booted again
        wall = WALL + world.clock.now + world.skew
        epoch = disk.open(max(int(wall * 1000), world.epoch_floor))
        self.epoch = epoch
        if not disk.durable:  # nobody but its supervisor remembers
            world.epoch_floor = max(world.epoch_floor, epoch + 1)
        self.checks.restarted(epoch)
        self.machine = Core(
            world.plan.core_settings,
            self,
            epoch=epoch,
            store=disk.store,
            durable=disk.durable,
            chance=world.chance.random,
        )
        # The last records may have been pruned; their refs are spent all the same.
        self.machine.ledger.last_ref = disk.commit
        for key, (name, data) in disk.functions.items():
            self.machine.restore_function(key, name, data)
        for ref in sorted(disk.records):
            record = self.journal.read(ref)
            assert record is not None
            # Of what starts later some read the head alone, as the store gives it.
            light = world.plan.seed % 2 and disk.durable
            head = head_of(record, 1 << 40, HEAD_SECONDS) if light else None
            self.machine.restore(ref, record if head is None else record_of(head[1]))
        # A store in memory has not kept what its clock said first: then nobody sets it.
        self.machine.start(self.now, wall if disk.durable else world.wall, "boot")
        world.files.started(self.machine)
        self._arm()

    # ------------------------------------------------------------ what connections bring

    def accept(self, connection: Connection) -> None:
        self.connections[connection.peer] = connection

    def arrived(self, connection: Connection, message: Any) -> None:
        self.do(self._arrived, connection, message)

    def _arrived(self, connection: Connection, message: Any) -> None:
        if connection.peer in self.connections:
            self.checks.received(connection, message)
            self.world.files.adopt(message)
            if isinstance(message, Query) and message.what == "purge_queue":
                self.checks.queues.purge(self.machine, lambda: self._receive(connection, message))
            else:
                self._receive(connection, message)

    def _receive(self, connection: Connection, message: Any) -> None:
        self.machine.receive(connection.peer, message, self.now)

    def gone(self, connection: Connection) -> None:
        self.do(self._gone, connection)

    def _gone(self, connection: Connection) -> None:
        if self.connections.pop(connection.peer, None):
            self.machine.on_closed(connection.peer, self.now)

    def _committed(self, ref: int) -> None:
        self.machine.on_committed(ref, self.now)

    def _loaded(self, ref: int) -> None:
        self.machine.on_loaded(ref, self.journal.read(ref), self.now)

    # ------------------------------------------------------------ the core's port

    def send(self, peer: Any, message: Any) -> None:
        connection = self.connections.get(peer)
        if connection is not None:
            self.world.said(self.name, connection, message)
            self.checks.sent(connection, message)
            shares = connection.dealer.shares
            connection.send_down(message if shares else self.world.files.inline(message))

    def close(self, peer: Any) -> None:
        connection = self.connections.pop(peer, None)
        if connection is not None:
            connection.close_by_server()

    def identity(self, peer: Any) -> Identity:
        connection = self.connections.get(peer)
        return TRUSTED if connection is None else connection.dealer.who

    def persist(self, ref: int, record: Record) -> None:
        self.world.said(self.name, "journal", (ref, record))
        if isinstance(record, Submitted) and self.checks.is_copy(record):
            self.world.stats["rewritten"] += 1
        self.checks.persisted(ref, record)
        self.journal.append(ref, record)

    def prune(self, refs: Sequence[int]) -> None:
        self.world.said(self.name, "prune", refs)
        self.checks.pruned(list(refs))
        self.journal.delete(list(refs))

    def keep_function(self, digest: bytes, name: str, data: bytes) -> None:
        self.journal.put_function(digest, name, data)

    def drop_functions(self, digests: Sequence[bytes]) -> None:
        self.journal.drop_functions(list(digests))

    def release(self, blobs: Sequence[str]) -> None:
        self.world.said(self.name, "release", blobs)
        self.journal.release(list(blobs))

    def read(self, blob: Blob) -> Payload:
        self.world.files.require(blob.name)
        return content(blob)

    def load(self, ref: int) -> None:
        self.world.stats["loaded"] += 1
        self.later(self.world.chance.uniform(0.0, self.world.plan.read_seconds), self._loaded, ref)

    def fetch(self, ref: int) -> Record | None:
        self.world.stats["fetched"] += 1
        return self.journal.read(ref)

    def counters(self) -> dict[str, int | float]:
        return {}

    def warn(self, text: str) -> None:
        self.world.said(self.name, "warning", text)

    def stop(self, reason: str, epoch: int = 0) -> None:
        self.world.epoch_floor = max(self.world.epoch_floor, epoch + 1)
        self.world.said(self.name, "stop", reason)
        self.world.stats["stops"] += 1
        self.world.crash_coordinator(restart_after=0.2)

    def _act(self, action: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        self.turns += 1
        super()._act(action, arguments)

    def after_turn(self) -> None:
        self.turns += 1
        checks, machine = self.checks, self.machine
        checks.leases.turn_over()
        placed = self._placed()
        checks.queues.turn_over(machine, placed)
        checks.owners.turn_over(machine, self.revoked)
        checks.recalls.look()
        checks.resources.turn_over(machine, placed, self.now)

    def _placed(self) -> list[tuple[Host, Lease]]:
        """The leases that were given since the last turn, and are still there."""
        ledger, before = self.machine.ledger, self._leases_given
        if ledger.leases_given == before:
            return []
        self._leases_given = ledger.leases_given
        return [
            (host, lease)
            for host in ledger.hosts.all.values()
            for (epoch, number), lease in host.leases.items()
            if epoch == ledger.epoch and number > before
        ]

    # ------------------------------------------------------------ its end

    def revoke(self, keys: set[str]) -> None:
        """The shell cuts the connections of keys, and lets none of them in any more."""
        cut = [one for one in self.connections.values() if one.dealer.who.key in keys]
        for connection in cut:
            connection.close_by_server()
        self.do(self._revoked, keys, cut)

    def _revoked(self, keys: set[str], cut: list[Connection]) -> None:
        self.revoked |= keys
        for connection in cut:
            self._gone(connection)
        self.machine.on_revoked(keys, self.now)

    def fill_disk(self, seconds: float) -> None:
        """Nothing can be committed for a time, and the shell says so."""
        if self.alive and self.journal.stalled_until <= self.world.clock.now:
            self.journal.stalled_until = self.world.clock.now + seconds
            self.do(self._tell_short, "the disk is full")
            self.later(seconds, self._tell_short, "")

    def _tell_short(self, reason: str) -> None:
        self.short = bool(reason)
        self.machine.on_short(reason, self.now)

    def leave(self) -> None:
        """SIGTERM: say goodbye, write everything, end."""
        self.do(self._leave)

    def _leave(self) -> None:
        self.machine.on_last_commit(self.now)
        self.machine.on_stopping(self.now)
        self.journal.close()
        self.world.crash_coordinator(restart_after=0.3)

    def die(self) -> None:
        super().die()
        counters = self.machine.ledger.counters
        for name in ("adopted", "fenced", "refused"):
            self.world.stats[name] += counters[name]
        self.world.stats["payloads read back"] += self.machine.ledger.residence.read_back
        self.journal.crash()
        for connection in self.connections.values():
            connection.up.is_open = False
            self.world.network.cut(connection)
