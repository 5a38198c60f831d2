"""What goes wrong, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sim.client import ClientProcess
    from tests.sim.host import HostProcess
    from tests.sim.world import World

__all__ = ["Faults"]


class Faults:
    """Injects the plan's kinds of faults at random times, until it is told to stop."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.chance = world.chance
        self._stopped = False
        self._kinds: dict[str, Callable[[], None]] = {
            "crash coordinator": self._crash_coordinator,
            "restart coordinator": self._restart_coordinator,
            "pause coordinator": self._pause_coordinator,
            "crash host": self._crash_host,
            "drain host": self._drain_host,
            "pause host": self._pause_host,
            "kill worker": self._kill_worker,
            "spoil host": self._spoil_host,
            "weaken host": self._weaken_host,
            "fill host": self._fill_host,
            "crash client": self._crash_client,
            "pause client": self._pause_client,
            "cut": self._cut,
            "isolate": self._isolate,
            "storm": self._storm,
            "slow disk": self._slow_disk,
            "full disk": self._full_disk,
            "restore store": self._restore_store,
            "set clock": self._set_clock,
        }
        if world.plan.faults:
            self._next()

    def _next(self) -> None:
        mean = self.world.plan.fault_seconds
        self.world.clock.after(self.chance.expovariate(1.0 / mean), self._strike)

    def _strike(self) -> None:
        if self._stopped:
            return
        kind = self.chance.choice(self.world.plan.faults)
        self.world.stats[kind] += 1
        self.world.said("world", "fault", kind)
        self._kinds[kind]()
        self._next()

    def stop(self) -> None:
        """Nothing goes wrong any more, and what was stopped goes on."""
        self._stopped = True
        world = self.world
        for process in (world.coordinator, *world.hosts, *world.clients):
            if process is not None:
                process.resume()
        for host in world.hosts:
            if host is not None:
                host.spoiled_until = host.weak_until = host.full_until = 0.0
                host.do(host.has_room)
        if world.coordinator is not None:
            world.coordinator.journal.commit_seconds = world.plan.commit_seconds

    # ------------------------------------------------------------ kinds

    def _crash_coordinator(self) -> None:
        self.world.crash_coordinator(restart_after=self.chance.choice((0.1, 0.5, 3.0)))

    def _restart_coordinator(self) -> None:
        if self.world.coordinator is not None:
            self.world.coordinator.leave()

    def _pause_coordinator(self) -> None:
        if self.world.coordinator is not None:
            self.world.coordinator.pause(self.chance.choice((0.3, 2.0, 6.0)))

    def _slow_disk(self) -> None:
        if self.world.coordinator is not None:
            journal = self.world.coordinator.journal
            journal.commit_seconds = self.chance.choice((0.001, 0.05, 1.0))

    def _full_disk(self) -> None:
        if self.world.coordinator is not None:
            self.world.coordinator.fill_disk(self.chance.choice((0.2, 1.0, 4.0)))

    def _restore_store(self) -> None:
        self.world.restore_store()

    def _set_clock(self) -> None:
        """The wall clock of the coordinator's machine is set, by seconds or by hours."""
        if self.world.has_read_clock or not self.world.disk.durable:
            self.world.skew = self.chance.choice((-18_000.0, -30.0, 0.0, 30.0, 18_000.0))

    def _host(self) -> HostProcess | None:
        return self.chance.choice(self.world.hosts)

    def _crash_host(self) -> None:
        index = self.chance.randrange(len(self.world.hosts))
        self.world.crash_host(index, restart_after=self.chance.choice((0.1, 1.0, 6.0)))

    def _drain_host(self) -> None:
        host = self._host()
        if host is not None:
            host.do(host.drain)

    def _pause_host(self) -> None:
        host = self._host()
        if host is not None:
            host.pause(self.chance.choice((0.3, 2.0, 6.0)))

    def _kill_worker(self) -> None:
        host = self._host()
        if host is not None:
            host.lose_worker(self.chance.randrange(host.slots))

    def _spoil_host(self) -> None:
        host = self._host()
        if host is not None:
            seconds = self.chance.choice((0.05, 0.5, 3.0))
            host.spoil(seconds, dies=self.chance.random() < 0.5)

    def _weaken_host(self) -> None:
        host = self._host()
        if host is not None:
            host.weaken(self.chance.choice((0.05, 0.5, 2.0)))

    def _fill_host(self) -> None:
        host = self._host()
        if host is not None:
            host.do(host.fill, self.chance.choice((0.05, 0.5, 3.0)))

    def _client(self) -> ClientProcess | None:
        living = [client for client in self.world.clients if client.alive]
        return self.chance.choice(living) if living else None

    def _crash_client(self) -> None:
        client = self._client()
        if client is not None and len(self.world.clients) < 6:
            self.world.crash_client(client, again=self.chance.random() < 0.8)

    def _pause_client(self) -> None:
        client = self._client()
        if client is not None:
            client.pause(self.chance.choice((0.3, 2.0, 6.0)))

    def _cut(self) -> None:
        connections = self.world.network.connections
        if connections:
            self.world.network.cut(self.chance.choice(connections))

    def _storm(self) -> None:
        """Every connection is lost at once, and everybody comes back."""
        for connection in list(self.world.network.connections):
            self.world.network.cut(connection)

    def _isolate(self) -> None:
        dealers = [d for d in (*self.world.hosts, *self.world.clients) if d is not None and d.alive]
        if dealers:
            seconds = self.chance.choice((0.5, 2.0, 6.0))
            self.world.network.isolate(self.chance.choice(dealers).name, seconds)
